//! One run over a store: the threads, and what they hand to each other.

use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use projections::rebuild::compare::{Comparison, Detail};

use super::findings::Findings;
use super::index::{self, Index};
use super::kept::{Former, Kept, Known};
use super::log::{self, Plan, Read, Settled};
use super::pass::Pass;
use super::snapshots::Snapshots;
use super::{Keeping, Report, VerifyError, read_models, reading};
use crate::audit::anchor::{Anchor, hexadecimal};
use crate::projector::views_of;
use crate::store::Database;

/// How often it is told how far it is.
const TELL: Duration = Duration::from_millis(100);

/// What is to be verified.
#[derive(Debug, Clone, Copy)]
pub(super) struct Task<'t> {
    pub(super) database: &'t Database,
    /// What was written down of the log.
    pub(super) anchors: &'t [Anchor],
    /// Where what is found is kept, if anywhere.
    pub(super) keeping: Option<(&'t Kept, Keeping<'t>)>,
    /// How closely the read models are compared.
    pub(super) detail: Detail,
}

/// Verifies a store, on from what a former run has left where there is something.
pub(super) fn check(task: &Task<'_>, former: Option<Former>, told: &Sender<(u64, u64)>) -> Result<Report, VerifyError> {
    let mut store = reading::open(task.database)?;
    let judged = former.as_ref().map(|former| former.position);
    let mut comparison = if store.has_views() { begin_comparison(task, judged)? } else { None };
    let mut findings = Findings::default();
    let snapshots = Snapshots::take(&mut *store, &mut findings)?;
    let head = reading::head(&mut *store)?.map_or(0, |head| head.position);
    let least = comparison.as_ref().map_or(u64::MAX, Comparison::least);
    let index_end = index::end(&mut *store)?.unwrap_or(i64::MAX);
    let until = head.min(i64::try_from(least).unwrap_or(i64::MAX)).min(index_end);
    if judged.is_some_and(|judged| judged > until) {
        let why = format!("the log, a read model or the index ends at {until}, before what a former run has judged");
        return Err(VerifyError::Changed(why));
    }

    let total = u64::try_from(head).unwrap_or_default() * if comparison.is_some() { 2 } else { 1 };
    let tell = |comparison: Option<&Comparison>, events: u64| {
        let folded = comparison.map_or(0, Comparison::position);
        // Who listens is told in the end as well.
        let _ = told.send((events.saturating_add(folded).min(total), total));
    };
    let index = (store.is_indexed() && store.snapshots().is_some()).then(Index::default);
    let mut anchors = task.anchors.to_vec();
    anchors.extend(comparison.iter().flat_map(|comparison| further(comparison, judged)));
    let mut pass = Pass::begin(findings, snapshots, index, &anchors);
    if let Some(Former { known: Known { checked, checkers, judged }, .. }) = former {
        pass.go_on(&checked, checkers, judged);
    }
    let plan = Plan { judged, until, keep: task.keeping.map(|(_, keeping)| (keeping.interval, keeping.stop)) };
    let (mut store, settled, unfoldable) = std::thread::scope(|scope| {
        // One chunk is read while another is checked; more would only take room.
        let (sender, receiver) = mpsc::sync_channel(0);
        let comparison = comparison.as_ref();
        let reader = std::thread::Builder::new().name("verify: log".to_owned());
        let reader = reader.spawn_scoped(scope, move || log::read(store, comparison, plan, &sender));
        let reader = reader.map_err(VerifyError::Thread)?;
        let mut settled = None;
        for read in receiver {
            match read {
                Read::Again(chunk) => pass.again(&chunk)?,
                Read::CaughtUp => pass.caught_up()?,
                Read::Events(events) => {
                    pass.follow(&events);
                    tell(comparison, pass.events());
                }
                Read::Keep => {
                    if let Some((kept, _)) = task.keeping {
                        kept.keep(&pass)?;
                    }
                }
                Read::Settled(now) => settled = Some(settle(&mut pass, now)?),
                Read::Stop => {
                    let (position, is_violated) = (pass.position(), !pass.is_fine());
                    return Err(VerifyError::Interrupted { position, is_violated });
                }
            }
        }
        let (store, unfoldable) = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok::<_, VerifyError>((store, settled, unfoldable))
    })?;
    if let Some(comparison) = &mut comparison {
        comparison.close();
    }
    let events = pass.events();
    let head = settled.and_then(|settled| settled.head);
    let (position, hash, mut findings) = pass.end(head.as_ref(), &mut *store)?;
    while unfoldable.is_none() && comparison.as_ref().is_some_and(|comparison| !comparison.has_ended()) {
        tell(comparison.as_ref(), events);
        std::thread::sleep(TELL);
    }
    read_models::end(comparison, unfoldable, &mut findings)?;
    let hash = hexadecimal(&hash);
    Ok(Report { position, hash, events, checks: findings.into_tallies(), resumed: None })
}

/// Begins to fold the read models, on from what is kept of them where a former run has judged the log so far.
fn begin_comparison(task: &Task<'_>, judged: Option<i64>) -> Result<Option<Comparison>, VerifyError> {
    let kept = task.keeping.map(|(kept, _)| kept);
    if let Some(kept) = kept.filter(|_| judged.is_none()) {
        kept.forget_read_models()?;
    }
    // Where rows are looked at closely something is wrong: nobody goes on from that.
    let dir = kept.filter(|_| task.detail == Detail::Digests).map(Kept::dir);
    let comparison = Comparison::begin(&views_of(task.database), task.detail, dir)?;
    let is_behind = |began: u64| judged.is_some_and(|judged| i64::try_from(began).is_ok_and(|began| began < judged));
    if comparison.iter().flat_map(Comparison::began).any(|began| is_behind(began.position)) {
        return Err(VerifyError::Changed("the read models that were kept have not come as far".to_owned()));
    }
    Ok(comparison)
}

/// What was kept of read models further on than the log was judged must be of the same history.
fn further(comparison: &Comparison, judged: Option<i64>) -> impl Iterator<Item = Anchor> {
    let judged = judged.and_then(|judged| u64::try_from(judged).ok()).unwrap_or_default();
    comparison
        .began()
        .filter(move |began| began.position > judged)
        .filter_map(|began| Some(Anchor { position: began.position, hash: began.hash.as_slice().try_into().ok()? }))
}

fn settle(pass: &mut Pass, now: Settled) -> Result<Settled, VerifyError> {
    if let Some(checkpoint) = &now.checkpoint {
        pass.stop_views_at(checkpoint.clone())?;
    }
    if let Some(end) = now.index_end {
        pass.stop_index_at(end);
    }
    Ok(now)
}
