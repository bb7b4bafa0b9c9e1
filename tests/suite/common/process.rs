//! The real binary as a process of its own: started, spoken to over HTTP, told to stop, or killed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

const START_PATIENCE: Duration = Duration::from_secs(60);

/// A `tallytree serve`; killed when dropped.
pub struct Process {
    child: Child,
    address: SocketAddr,
    log: PathBuf,
}

/// Whether a store is a database's address rather than a directory.
fn is_address(store: &Path) -> bool {
    store.to_str().is_some_and(|text| text.starts_with("postgres"))
}

/// The binary, without configuration from outside.
fn tallytree(store: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallytree"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"TALLYTREE_")) {
        command.env_remove(name);
    }
    // One operator's token carries the load of many here.
    command.env("TALLYTREE_REQUESTS_PER_SECOND", "0");
    command.arg("--database").arg(if is_address(store) {
        store.display().to_string()
    } else {
        format!("sqlite:{}", store.display())
    });
    command.args(["--log", "warn"]).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs the binary on a store to its end.
pub async fn run(store: &Path, arguments: &[&str]) -> Output {
    let output = timeout(START_PATIENCE, tallytree(store).args(arguments).output()).await;
    output.unwrap_or_else(|_| panic!("{arguments:?} hangs")).expect("the binary runs")
}

/// A token made by the command line, with these flags after `token create`.
pub async fn token(store: &Path, flags: &[&str]) -> String {
    let output = run(store, &[&["token", "create"], flags].concat()).await;
    assert!(output.status.success(), "token create: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("a text").trim().to_owned()
}

impl Process {
    /// Starts a node on a store and waits until it says where it listens. Its log goes beside the store.
    pub async fn serve(store: &Path) -> Self {
        let log = if is_address(store) {
            let name = store.to_str().and_then(|text| text.rsplit('/').next()).and_then(|name| name.split('?').next());
            std::env::temp_dir().join(format!("tallytree-{}-{}.log", std::process::id(), name.unwrap_or_default()))
        } else {
            store.with_extension("log")
        };
        let stderr = std::fs::File::options().create(true).append(true).open(&log).expect("a log");
        let mut child = tallytree(store)
            .args(["serve", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("the binary starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let address = match timeout(START_PATIENCE, lines.next_line()).await {
            Ok(Ok(Some(line))) => line.strip_prefix("listening on http://").and_then(|address| address.parse().ok()),
            _ => None,
        };
        let Some(address) = address else {
            panic!("the node did not come up:\n{}", std::fs::read_to_string(&log).unwrap_or_default())
        };
        Self { child, address, log }
    }

    /// Starts a node on a store and kills it after a while, whether it has come up by then or not.
    pub async fn serve_and_kill(store: &Path, after: Duration) {
        let mut command = tallytree(store);
        command.args(["serve", "--listen", "127.0.0.1:0"]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the binary starts");
        tokio::time::sleep(after).await;
        child.kill().await.expect("its end");
    }

    /// Runs any other subcommand and kills it after a while; whether it was still running by then.
    pub async fn run_and_kill(store: &Path, arguments: &[&str], after: Duration) -> bool {
        let mut command = tallytree(store);
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the binary starts");
        tokio::time::sleep(after).await;
        let running = child.try_wait().expect("its state").is_none();
        child.kill().await.expect("its end");
        running
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it had to say.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// SIGKILL: not even a destructor runs. Returns when it is gone.
    pub async fn kill(mut self) {
        self.child.start_kill().expect("it still ran");
        let status = self.child.wait().await.expect("its end");
        assert_eq!(status.code(), None, "it had ended by itself, with {status}:\n{}", self.log());
    }

    /// SIGTERM: it may finish what it has in hand.
    pub async fn terminate(&self) {
        let process = self.child.id().expect("it still runs").to_string();
        // The shell's own `kill`: the program of that name is not on every machine.
        let sent = Command::new("sh").args(["-c", "kill -TERM \"$1\"", "sh", &process]).status().await;
        assert!(sent.expect("a shell").success(), "no signal for {process}");
    }

    /// Waits for its end.
    pub async fn ended(&mut self, patience: Duration) -> ExitStatus {
        let ended = timeout(patience, self.child.wait()).await;
        ended.unwrap_or_else(|_| panic!("it still runs after {patience:?}:\n{}", self.log())).expect("its end")
    }
}
