//! The priority of the threads beside the writer, which nobody waits for: who answers goes first.

/// By how much it is lowered. Not by more: what these threads have not done yet waits in memory or in the WAL.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 5;

/// Lowers the calling thread's priority, where threads have one of their own.
pub(super) fn lower() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::debug!(%error, "a thread keeps its priority");
    }
}
