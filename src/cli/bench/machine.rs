//! What the figures were measured on. What cannot be found out is left out.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

/// Linux reports processor time in hundredths of a second, whatever the kernel's own tick is.
const TICKS_PER_SECOND: f64 = 100.0;
const SYNCS: usize = 50;

/// The machine.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Machine {
    /// Cores that this process may use; server and load generator share them.
    pub(super) cores: usize,
    /// The processor's name.
    pub(super) processor: Option<String>,
    /// The file system under the store; on `tmpfs` durability costs nothing and the figures say nothing.
    pub(super) file_system: Option<String>,
    /// The median time to make 4 KiB durable there, in microseconds.
    pub(super) sync_us: f64,
    /// Whether this is an optimised build.
    pub(super) release_build: bool,
}

impl Machine {
    /// Looks, with the store to be in `directory`.
    pub(super) fn look(directory: &Path) -> io::Result<Self> {
        Ok(Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: processor(),
            file_system: file_system(directory),
            sync_us: sync_time(directory)?.as_secs_f64() * 1e6,
            release_build: !cfg!(debug_assertions),
        })
    }
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn file_system(directory: &Path) -> Option<String> {
    let directory = directory.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    let fields = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((PathBuf::from(fields.next()?), fields.next()?.to_owned()))
    });
    fields
        .filter(|(point, _)| directory.starts_with(point))
        .max_by_key(|(point, _)| point.as_os_str().len())
        .map(|it| it.1)
}

fn sync_time(directory: &Path) -> io::Result<Duration> {
    let path = directory.join("sync-probe");
    let mut file = fs::File::create(&path)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        file.write_all(&[0; 4096])?;
        let start = Instant::now();
        file.sync_data()?;
        times.push(start.elapsed());
    }
    fs::remove_file(path)?;
    times.sort_unstable();
    Ok(times.get(SYNCS / 2).copied().unwrap_or_default())
}

/// How many seconds of processor time a process has used; `None` where the system does not tell.
pub(super) fn processor_seconds(process: u32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The second field is the program's name in parentheses, and may hold anything; user and system time are 14 and 15.
    let (_, fields) = text.rsplit_once(')')?;
    let mut times = fields.split_ascii_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Some((times.next()?.ok()? + times.next()?.ok()?) / TICKS_PER_SECOND)
}

/// The most memory that a process has had so far, in bytes; `None` where the system does not tell.
pub(super) fn memory_peak(process: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}
