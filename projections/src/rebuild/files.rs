//! A rebuild of files: shadows beside the live tables, filled and exchanged while others want the one write lock too.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::folding::Folding;
use super::shadow::{self, SHADOW, Shadows};
use super::{Progress, REST_EVENTS_MAX, RebuildError, Rebuilt, changes, end, head, read_on};
use crate::checkpoint::{Checkpoints, Reached};
use crate::sql::direct::{self, Writing, aside};
use crate::sql::{Changes, Connection, ViewError, sqlite};
use crate::{Declared, NAMES};

/// For how long the write lock is held at a time while shadows are filled, where somebody wants it.
const HOLD: Duration = Duration::from_millis(20);
/// The same where nobody seems to want it: every commit writes each page that it touched once more.
const HOLD_ALONE: Duration = Duration::from_millis(200);
/// For how long it is given up where somebody wants it: whoever waits for SQLite's lock looks again at intervals, of up to 25 ms
/// after it has waited for [`HOLD`].
const PAUSE: Duration = Duration::from_millis(15);
/// The same where nobody seems to want it.
const PAUSE_ALONE: Duration = Duration::from_millis(2);
/// After how many pages the WAL is copied into the database where somebody else writes: sooner than the projector would do it,
/// so that it does not have to.
const CHECKPOINT_PAGES: u32 = 2_000;
/// The same where nobody else does: a page that is written often is then copied once.
const CHECKPOINT_PAGES_ALONE: u32 = 16_000;
/// How long another rebuild is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
/// How long the live read models may stand still behind the log until nobody is believed to fold them.
const STANDSTILL: Duration = Duration::from_secs(2);

/// The right to rebuild: of one process at a time.
#[derive(Debug)]
struct RebuildLock {
    _file: File,
}

impl RebuildLock {
    fn take(dir: &Path) -> Result<Self, RebuildError> {
        let path: PathBuf = dir.join("rebuild.lock");
        let failed = |error| ViewError::File { path: path.clone(), error };
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(RebuildError::Running),
            Err(TryLockError::Error(error)) => Err(failed(error).into()),
        }
    }

    /// As [`Self::take`], but patient with one that only drops what is left, as a node does when it starts.
    async fn wait(dir: &Path) -> Result<Self, RebuildError> {
        let begun = Instant::now();
        loop {
            match Self::take(dir) {
                Err(RebuildError::Running) if begun.elapsed() < LOCK_PATIENCE => tokio::time::sleep(PAUSE).await,
                taken => return taken,
            }
        }
    }
}

/// Drops what an interrupted rebuild has left, unless one is going on. Says how many tables and indexes there were.
pub(super) async fn clean(dir: &Path) -> Result<usize, RebuildError> {
    let mut views = direct::open_views(dir, direct::WalCopied::InCommits)?;
    let mut dropped = 0;
    if shadow::has_leftovers(&mut views).await? {
        match RebuildLock::take(dir) {
            Ok(_lock) => dropped = shadow::drop_leftovers(&mut views).await?,
            Err(RebuildError::Running) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(dropped)
}

/// A rebuild under way.
#[derive(Debug)]
pub(super) struct Rebuild {
    dir: PathBuf,
    views: rusqlite::Connection,
    ledger: rusqlite::Connection,
    projections: Vec<&'static Declared>,
    names: Vec<&'static str>,
    shadows: Shadows,
    reached: Reached,
    manners: Manners,
    indexes_to_come: Vec<String>,
    begun: Instant,
    _lock: RebuildLock,
}

impl Rebuild {
    /// Makes the shadows of the named projections' tables, of all for none named, and of those that they read; `ledger.db` must
    /// be there.
    ///
    /// # Errors
    /// [`RebuildError::Unknown`], [`RebuildError::Running`], or what the databases say.
    pub(super) async fn begin(dir: &Path, projections: &[&'static Declared]) -> Result<Self, RebuildError> {
        let ledger = direct::open_log(dir)?;
        sqlite::migrate(dir).await?;
        let lock = RebuildLock::wait(dir).await?;
        let mut views = direct::open_views(dir, direct::WalCopied::InCommits)?;
        shadow::drop_leftovers(&mut views).await?;
        let writing = Writing::begin(&mut views).await?;
        let shadows = Shadows::create(writing.connection, projections).await?;
        writing.commit()?;
        let indexes_to_come = shadows.indexes_to_come()?;
        Ok(Self {
            dir: dir.to_owned(),
            views,
            ledger,
            projections: projections.to_vec(),
            names: projections.iter().map(|projection| projection.name).collect(),
            shadows,
            reached: Reached::default(),
            manners: Manners::default(),
            indexes_to_come,
            begun: Instant::now(),
            _lock: lock,
        })
    }

    /// Which projections are rebuilt.
    #[must_use]
    pub(super) fn projections(&self) -> &[&'static str] {
        &self.names
    }

    /// Fills the shadows and puts them in the live tables' place. `go_on` is told after each batch how far it is, and says whether
    /// to go on; `None` where it said no. Whatever the end, nothing is left behind; where the process or this future ends
    /// before, [`clean`] sees to it.
    ///
    /// # Errors
    /// [`ViewError::HistoryCut`] where some projections are to be rebuilt and the others are of another history than the log;
    /// otherwise what the databases say, or an event that cannot be folded.
    pub(super) async fn run(
        mut self,
        mut go_on: impl FnMut(Progress) -> bool + Send,
    ) -> Result<Option<Rebuilt>, RebuildError> {
        let exchanged = self.fill_and_exchange(&mut go_on).await;
        let Self { dir, views, names, reached, begun, .. } = self;
        let took = begun.elapsed();
        // It has views of its own, and no longer knows the schema.
        drop(views);
        shadow::drop_leftovers(&mut direct::open_views(&dir, direct::WalCopied::InCommits)?).await?;
        let position = reached.checkpoint.position;
        Ok(exchanged?.map(|exchange| Rebuilt { projections: names, position, took, exchange }))
    }

    async fn fill_and_exchange(
        &mut self,
        go_on: &mut (impl FnMut(Progress) -> bool + Send),
    ) -> Result<Option<Duration>, ViewError> {
        loop {
            let end = self.end().await?;
            if !go_on(Progress { position: self.reached.checkpoint.position, end }) {
                return Ok(None);
            }
            let is_far = end.saturating_sub(self.reached.checkpoint.position) > REST_EVENTS_MAX;
            if is_far && self.reached.checkpoint.position == 0 {
                if !self.fill(end, go_on).await? {
                    return Ok(None);
                }
            } else if let Some(index) = self.indexes_to_come.pop() {
                let writing = Writing::begin(&mut self.views).await?;
                aside(|| {
                    writing.connection.execute_batch(&index)?;
                    writing.commit()
                })?;
                tokio::time::sleep(PAUSE).await;
            } else if is_far {
                if !self.catch_up(end, go_on).await? {
                    return Ok(None);
                }
            } else if let Some(took) = self.exchange().await? {
                go_on(Progress { position: self.reached.checkpoint.position, end: self.reached.checkpoint.position });
                return Ok(Some(took));
            }
        }
    }

    async fn end(&mut self) -> Result<u64, ViewError> {
        let checkpoints = Checkpoints::load(&mut Connection::direct(&mut self.views)).await?;
        Ok(end(&self.names, &checkpoints, &mut Connection::direct(&mut self.ledger)).await?.position)
    }

    /// Puts into the shadows what all events come to, up to this position or further; false where it was told to stop.
    async fn fill(
        &mut self,
        mut end: u64,
        go_on: &mut (impl FnMut(Progress) -> bool + Send),
    ) -> Result<bool, ViewError> {
        let mut folding = Folding::begin(&self.dir, &self.projections, &self.shadows, end)?;
        while let Some(rows) = folding.next().await {
            self.write(rows).await?;
            end = self.end().await?;
            folding.put_off(end);
            if !go_on(Progress { position: folding.position(), end }) {
                return Ok(false);
            }
        }
        self.reached = folding.end()?;
        Ok(true)
    }

    /// Folds the events up to this position into the shadows as they stand; false where it was told to stop.
    async fn catch_up(
        &mut self,
        end: u64,
        go_on: &mut (impl FnMut(Progress) -> bool + Send),
    ) -> Result<bool, ViewError> {
        let mut events =
            read_on(&mut Connection::direct(&mut self.ledger), self.reached.checkpoint.position, end).await?;
        while let Some(last) = events.last().map(Reached::at) {
            let changes = changes(&self.names, &mut Connection::direct(&mut self.views), &events).await?;
            self.write(changes).await?;
            events = read_on(&mut Connection::direct(&mut self.ledger), last.checkpoint.position, end).await?;
            self.reached = last;
            if !go_on(Progress { position: self.reached.checkpoint.position, end }) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes rows into the shadows, with manners.
    async fn write(&mut self, rows: Changes) -> Result<(), ViewError> {
        self.manners.look(&mut self.views, &mut self.ledger).await?;
        let (hold, pause) = (self.manners.hold(), self.manners.pause());
        direct::apply_in_slices(&mut self.views, SHADOW, rows, hold, pause).await
    }

    /// Under the write lock: folds the rest and exchanges the tables. Says for how long the lock was held, or `None` where too much
    /// was left to be folded under it.
    async fn exchange(&mut self) -> Result<Option<Duration>, ViewError> {
        let writing = Writing::begin(&mut self.views).await?;
        let begun = Instant::now();
        let checkpoints = Checkpoints::load(&mut Connection::direct(writing.connection)).await?;
        let end = end(&self.names, &checkpoints, &mut Connection::direct(&mut self.ledger)).await?;
        let mut reached = self.reached.clone();
        let Some(rest) = end.position.checked_sub(reached.checkpoint.position) else {
            return Err(ViewError::HistoryCut("a checkpoint went back".into()));
        };
        if rest > 2 * REST_EVENTS_MAX {
            return Ok(None);
        }
        while reached.checkpoint.position < end.position {
            let events =
                read_on(&mut Connection::direct(&mut self.ledger), reached.checkpoint.position, end.position).await?;
            let Some(last) = events.last().map(Reached::at) else { break };
            let changes = changes(&self.names, &mut Connection::direct(writing.connection), &events).await?;
            Connection::prefixed(writing.connection, SHADOW).apply(changes).await?;
            reached = last;
        }
        if reached.checkpoint != end {
            return Err(ViewError::HistoryCut(format!("the log's event at position {} has changed", end.position)));
        }
        self.shadows.exchange(writing.connection).await?;
        let mut connection = Connection::direct(writing.connection);
        let mut checkpoints = Changes::default();
        for name in &self.names {
            connection.execute("delete from checkpoints where projection = $1", vec![(*name).into()]).await?;
        }
        Checkpoints::default().advance(&self.names, &reached, &mut checkpoints);
        connection.apply(checkpoints).await?;
        writing.commit()?;
        self.reached = reached;
        Ok(Some(begun.elapsed()))
    }
}

/// How the write lock is shared with whoever folds into the live tables.
#[derive(Debug, Clone, Copy, Default)]
struct Manners {
    live: u64,
    moved_at: Option<Instant>,
    is_wanted: bool,
}

impl Manners {
    /// Looks whether somebody is folding.
    async fn look(
        &mut self,
        views: &mut rusqlite::Connection,
        ledger: &mut rusqlite::Connection,
    ) -> Result<(), ViewError> {
        let live = Checkpoints::load(&mut Connection::direct(views)).await?.least(NAMES).position;
        let moved = std::mem::replace(&mut self.live, live) != live;
        let moved_at = self.moved_at.get_or_insert_with(Instant::now);
        if moved {
            *moved_at = Instant::now();
        }
        let stands = moved_at.elapsed() >= STANDSTILL;
        let was_wanted = self.is_wanted;
        self.is_wanted = moved || (head(&mut Connection::direct(ledger)).await?.position > live && !stands);
        if self.is_wanted != was_wanted {
            let pages = if self.is_wanted { CHECKPOINT_PAGES } else { CHECKPOINT_PAGES_ALONE };
            Connection::direct(views).execute(&format!("pragma wal_autocheckpoint = {pages}"), Vec::new()).await?;
        }
        Ok(())
    }

    fn hold(self) -> Duration {
        if self.is_wanted { HOLD } else { HOLD_ALONE }
    }

    fn pause(self) -> Duration {
        if self.is_wanted { PAUSE } else { PAUSE_ALONE }
    }
}
