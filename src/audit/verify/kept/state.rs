//! The file in which a run keeps what it knows: texts of JSON, one a line, so that any program can look into it.
//!
//! Shape: for whom it was made and what it stands for ([`Marks`], which every version writes alike), how much was checked, what the
//! checkers know, which snapshots were right, and the SHA-256 of all that. Written beside the former one, and put in its place
//! when it is on the disk: there is always one that is whole. Cost: some 150 bytes an aggregate and 40 a command; nothing of it is
//! held in memory as a text.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::audit::anchor::hexadecimal;
use crate::audit::verify::findings::Findings;
use crate::audit::verify::pass::Checkers;
use crate::audit::verify::snapshots::{Judged, Snapshots};

/// The program, and the version of what it keeps: raise it with any change to what a checker knows or how it judges.
pub(super) const MADE_BY: &str = concat!(env!("CARGO_PKG_VERSION"), ", state 4");

/// How much is read or written at once.
const BUFFER_BYTES: usize = 1 << 18;
/// The digest in the end, and a newline.
const END_BYTES: u64 = 65;

/// For whom a state was made, and what it stands for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Marks {
    /// The program that wrote it.
    pub(super) made_by: String,
    /// The store, as it was named then.
    pub(super) store: String,
    /// The hash of its first event.
    pub(super) first: String,
    /// Up to where the log was judged; after that, what former runs have judged beyond it. Each must still stand in the log.
    pub(super) anchors: Vec<String>,
}

/// What the checkers know.
#[derive(Debug)]
pub(in crate::audit::verify) struct Known {
    pub(in crate::audit::verify) checked: Vec<u64>,
    pub(in crate::audit::verify) checkers: Checkers,
    pub(in crate::audit::verify) judged: Judged,
}

/// Writes what is given on, and its digest.
struct Digesting<W> {
    to: W,
    hasher: Sha256,
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Which of the snapshots were right.
struct Right<'s>(&'s Snapshots);

impl Serialize for Right<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.write(serializer)
    }
}

/// Writes a state, and puts it into the place of the former one.
pub(super) fn write(
    path: &Path,
    marks: &Marks,
    (checkers, snapshots, findings): (&Checkers, &Snapshots, &Findings),
) -> io::Result<()> {
    let beside = path.with_extension("new");
    let to = Digesting { to: File::create(&beside)?, hasher: Sha256::new() };
    let mut to = BufWriter::with_capacity(BUFFER_BYTES, to);
    put(&mut to, marks)?;
    put(&mut to, &findings.checked())?;
    put(&mut to, checkers)?;
    put(&mut to, &Right(snapshots))?;
    let Digesting { to: mut file, hasher } = to.into_inner().map_err(io::IntoInnerError::into_error)?;
    writeln!(file, "{}", hexadecimal(&hasher.finalize()))?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    // So that it is there under its name after a power failure.
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

fn put(to: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *to, value)?;
    to.write_all(b"\n")
}

/// A state that was found to be whole.
#[derive(Debug)]
pub(super) struct Found {
    file: BufReader<File>,
    pub(super) marks: Marks,
}

/// Opens a state; `None` where there is none.
///
/// # Errors
/// `InvalidData` where it is damaged, or what the file system says.
pub(super) fn open(path: &Path) -> io::Result<Option<Found>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "its digest is not that of its content");
    let length = file.metadata()?.len().checked_sub(END_BYTES).ok_or_else(damaged)?;
    let mut file = BufReader::with_capacity(BUFFER_BYTES, file);
    let mut hasher = Sha256::new();
    io::copy(&mut (&mut file).take(length), &mut hasher)?;
    let mut end = String::new();
    file.read_to_string(&mut end)?;
    if end != format!("{}\n", hexadecimal(&hasher.finalize())) {
        return Err(damaged());
    }
    file.seek(SeekFrom::Start(0))?;
    let mut first = String::new();
    file.read_line(&mut first)?;
    let marks = serde_json::from_str(&first)?;
    Ok(Some(Found { file, marks }))
}

impl Found {
    /// Reads the rest, as this version writes it.
    pub(super) fn read(self) -> serde_json::Result<Known> {
        let mut values = serde_json::Deserializer::from_reader(self.file);
        fn next<T: DeserializeOwned>(
            values: &mut serde_json::Deserializer<serde_json::de::IoRead<BufReader<File>>>,
        ) -> serde_json::Result<T> {
            T::deserialize(values)
        }
        let known = Known { checked: next(&mut values)?, checkers: next(&mut values)?, judged: next(&mut values)? };
        if known.checked.len() == Findings::default().checked().len() {
            Ok(known)
        } else {
            Err(serde_json::Error::custom("other checks than this version's"))
        }
    }
}
