//! What is kept from one run of `verify` to the next, in a directory of the auditor's own, so that a run goes on where the one
//! before it was broken off, or ended.
//!
//! Shape: what the checkers know after the event at a position, and which hash stood there ([`state`]); beside it the read models
//! folded from the log, each group in a database that stands at that position or further on
//! ([`Comparison::keep`](projections::rebuild::compare::Comparison::keep)). Nothing is kept once something is violated.
//!
//! What is relied on: that the same program judged the same bytes before. So the next run reads the log from its first event all
//! the same, as bytes, and hashes it: where that does not come to the hash that was kept, or anything else is violated, what was
//! kept is relied on no more, everything is checked from the first event, and the hash that was kept is one that was written
//! down: it must stand in the log. What is kept beside the log is compared by each run, all of it.
//!
//! A damaged file is refused, because the hash that it held would be lost with it; so is one that is of another store.

mod state;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use projections::rebuild::compare;

use self::state::{MADE_BY, Marks};
use super::VerifyError;
use super::pass::Pass;
use super::reading::{self, hash_at};
use crate::audit::anchor::{Anchor, hexadecimal};
use crate::store::Database;

pub(super) use self::state::Known;

/// The directory, while a run has it for itself.
#[derive(Debug)]
pub(super) struct Kept {
    dir: PathBuf,
    store: String,
    first: String,
    /// What former runs have judged up to, further than this one has come.
    pub(super) anchors: Vec<Anchor>,
    /// Held until the run has ended.
    _lock: File,
}

/// What a former run has come to.
#[derive(Debug)]
pub(super) struct Former {
    pub(super) position: i64,
    pub(super) known: Known,
}

impl Kept {
    /// Opens the directory, and makes it where there is none. Answers with what a former run has left, or why that cannot be
    /// gone on with.
    pub(super) fn open(dir: &Path, database: &Database) -> Result<(Self, Result<Option<Former>, String>), VerifyError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error: io::Error| VerifyError::Kept { path, why: error.to_string() }
        };
        std::fs::create_dir_all(dir).map_err(at(dir))?;
        if let Database::Sqlite(store) = database
            && let (Ok(store), Ok(own)) = (store.canonicalize(), dir.canonicalize())
            && store == own
        {
            let why =
                "it is the store's own directory: what an auditor keeps belongs where the operator cannot reach it";
            return Err(VerifyError::Kept { path: dir.to_owned(), why: why.to_owned() });
        }
        let lock = dir.join("lock");
        let lock_file = File::options().create(true).truncate(false).write(true).open(&lock).map_err(at(&lock))?;
        lock_file.try_lock().map_err(|error| match error {
            std::fs::TryLockError::WouldBlock => {
                VerifyError::Kept { path: dir.to_owned(), why: "another run uses it".to_owned() }
            }
            std::fs::TryLockError::Error(error) => at(&lock)(error),
        })?;
        let first = hash_at(&mut *reading::open(database)?, 1)?.unwrap_or_default();
        let (store, first) = (named(database), hexadecimal(&first));
        let mut kept = Self { dir: dir.to_owned(), store, first, anchors: Vec::new(), _lock: lock_file };
        let path = kept.path();
        let refuse = |why: String| VerifyError::Kept { path: path.clone(), why };
        let start_over =
            "delete the directory to check everything from the first event, and nothing against what was judged before";
        let found = match state::open(&path) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok((kept, Ok(None))),
            Err(error) => return Err(refuse(format!("it cannot be read ({error}); {start_over}"))),
        };
        if found.marks.store != kept.store && found.marks.first != kept.first {
            return Err(refuse(format!(
                "it was made for another store, {}, or for this one with another history: what was judged then is {} \
                 (`--expect` takes it)",
                found.marks.store,
                found.marks.anchors.join(", ")
            )));
        }
        let anchors: Result<Vec<Anchor>, _> = found.marks.anchors.iter().map(|anchor| anchor.parse()).collect();
        kept.anchors = anchors.map_err(|error| refuse(format!("{error}; {start_over}")))?;
        if found.marks.made_by != MADE_BY {
            let why = format!("what is kept there is of another version ({})", found.marks.made_by);
            return Ok((kept, Err(why)));
        }
        let position = kept.anchors.first().and_then(|anchor| i64::try_from(anchor.position).ok());
        let known = found.read();
        Ok((
            kept,
            match (position, known) {
                (Some(position), Ok(known)) => Ok(Some(Former { position, known })),
                (None, _) => Err("what is kept there does not say up to where".to_owned()),
                (_, Err(error)) => Err(format!("what is kept there cannot be read ({error})")),
            },
        ))
    }

    fn path(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Where the read models are kept.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What a run that judges everything itself has no use for.
    pub(super) fn forget_read_models(&self) -> Result<(), VerifyError> {
        Ok(compare::forget(&self.dir)?)
    }

    /// Keeps what the checkers know, unless something is violated.
    pub(super) fn keep(&self, pass: &Pass) -> Result<(), VerifyError> {
        let Some(known) = pass.to_keep() else { return Ok(()) };
        let Some(now) = known.0.chain().anchor() else { return Ok(()) };
        let later = self.anchors.iter().filter(|anchor| anchor.position > now.position);
        let marks = Marks {
            made_by: MADE_BY.to_owned(),
            store: self.store.clone(),
            first: self.first.clone(),
            anchors: [&now].into_iter().chain(later).map(ToString::to_string).collect(),
        };
        let path = self.path();
        state::write(&path, &marks, known).map_err(|error| VerifyError::Kept { path, why: error.to_string() })
    }
}

/// A store by its name, without a password; files by their whole path.
fn named(database: &Database) -> String {
    match database {
        Database::Sqlite(dir) => format!("sqlite:{}", dir.canonicalize().unwrap_or_else(|_| dir.clone()).display()),
        Database::Postgres(_) => database.to_string(),
    }
}
