//! A throwaway PostgreSQL server from the installed binaries, and a database of each test's own on it.
//!
//! The server runs as an unprivileged user (PostgreSQL refuses root), in a directory of its own, on a free port. One is shared by
//! all tests of the process ([`shared`]); those that kill it start one of their own ([`Cluster::start`]). It ends with the test
//! process, however that ends: a shell beside it waits on a pipe that nobody else holds, then stops the server and removes its
//! directory.
//!
//! Where no server is installed [`shared`] is `None`, and says once, past the capturing of output, that its tests were skipped;
//! with `TALLYTREE_TEST_POSTGRES=required` that is a failure.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{ConnectOptions, Connection, Executor, Row};

/// Makes a missing server a failure.
const REQUIRED: &str = "TALLYTREE_TEST_POSTGRES";

/// How long a server may take to go.
#[allow(dead_code)]
const PATIENCE: Duration = Duration::from_secs(60);

/// The server that all tests of this process share; `None` where none is installed, which has been said then. It does not wait
/// for the disk: what is tested on it is not a crash.
pub fn shared() -> Option<&'static Cluster> {
    static SHARED: OnceLock<Option<Cluster>> = OnceLock::new();
    SHARED.get_or_init(|| installed().map(|_| Cluster::start(Durability::None))).as_ref()
}

/// A database of a test's own on the shared server, empty; `None` where there is no server.
#[allow(dead_code)] // a toolbox
pub fn database() -> Option<TestDatabase> {
    shared().map(Cluster::database)
}

/// Where the server's programs are; `None` where they are not, which has been said then.
pub fn installed() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND.get_or_init(find_or_say).as_deref()
}

fn find_or_say() -> Option<PathBuf> {
    let found = find();
    if found.is_none() {
        let says = "there is no PostgreSQL server (initdb) on PATH or in /usr/lib/postgresql";
        assert!(std::env::var_os(REQUIRED).is_none_or(|value| value != "required"), "{REQUIRED} is set, and {says}");
        // Written past `eprintln`, which the harness keeps to itself where a test passes.
        let _ = writeln!(std::io::stderr(), "\nSKIPPED: {says}; the tests on PostgreSQL did not run\n");
    }
    found
}

/// The directory of the newest installed server's programs.
pub fn find() -> Option<PathBuf> {
    let on_path =
        std::env::var_os("PATH").into_iter().flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    // A link on the path leads to the directory that holds the others too.
    let on_path = on_path.filter_map(|dir| Some(fs::canonicalize(dir.join("initdb")).ok()?.parent()?.to_owned()));
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some((entry.as_ref().ok()?.file_name().to_str()?.parse().ok()?, entry.ok()?.path())))
        .collect();
    versions.sort_unstable();
    let packaged = versions.into_iter().rev().map(|(_, path)| path.join("bin"));
    on_path.chain(packaged).find(|dir| ["initdb", "postgres", "pg_ctl"].iter().all(|name| dir.join(name).exists()))
}

/// Whether a server waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// As in production: what was committed survives a crash.
    Full,
    /// For speed.
    None,
}

/// A server of our own.
#[derive(Debug)]
pub struct Cluster {
    dir: PathBuf,
    port: u16,
    owner: Option<Owner>,
    durability: Durability,
    /// What else is set, `name=value`.
    settings: Vec<String>,
    /// Ends the server and removes its directory when it is closed.
    watch: Option<(Child, ChildStdin)>,
}

/// Who a server runs as where we are root.
#[derive(Debug, Clone, Copy)]
struct Owner {
    user: u32,
    group: u32,
}

#[allow(dead_code)] // a toolbox
impl Cluster {
    /// Makes a server and starts it.
    ///
    /// # Panics
    /// Where it does not come up; its log is shown.
    pub fn start(durability: Durability) -> Self {
        let mut cluster = Self::prepare(durability);
        let mut initdb = Command::new(program("initdb"));
        initdb.arg("--pgdata").arg(cluster.data());
        initdb.args(["--encoding=UTF8", "--locale=C", "--username=postgres", "--auth=trust", "--no-sync"]);
        let help = Command::new(program("initdb")).arg("--help").output().expect("initdb runs");
        if String::from_utf8_lossy(&help.stdout).contains("--icu-locale") {
            // A collation that is not the bytes' order, as production may have: a query that rests on that order says so.
            initdb.args(["--locale-provider=icu", "--icu-locale=en-US"]);
        }
        cluster.run_as_owner(&mut initdb);
        cluster.go();
        // The service is nobody special: it owns its database and may do nothing else.
        execute(&cluster.url("postgres"), "create role tallytree login").expect("a role");
        cluster
    }

    /// A copy of this server that follows it, and that its commits wait for from now on.
    ///
    /// # Panics
    /// Where it does not come up; its log is shown.
    pub fn synchronous_standby(&self) -> Self {
        // By this name it is known to the other one.
        let standby = self.copy("standby");
        for set in ["alter system set synchronous_standby_names = 'ANY 1 (standby)'", "select pg_reload_conf()"] {
            execute(&self.url("postgres"), set).expect("a setting");
        }
        let follows = "select 1 from pg_stat_replication where sync_state = 'quorum' and state = 'streaming'";
        self.wait_for_standby(follows, &standby);
        standby
    }

    fn copy(&self, name: &str) -> Self {
        let mut standby = Self::prepare(self.durability);
        let mut copy = Command::new(program("pg_basebackup"));
        copy.arg("--pgdata").arg(standby.data()).args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync"]);
        copy.arg("--dbname").arg(format!("host=127.0.0.1 port={} user=postgres", self.port));
        standby.run_as_owner(&mut copy);
        standby.settings.push(format!("cluster_name={name}"));
        standby.go();
        standby
    }

    fn wait_for_standby(&self, follows: &str, standby: &Self) {
        let begun = Instant::now();
        while execute(&self.url("postgres"), follows).expect("a server") == 0 {
            assert!(begun.elapsed() < PATIENCE, "the standby does not follow:\n{}", standby.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A copy of this server that follows it, for which nobody waits.
    ///
    /// # Panics
    /// Where it does not come up; its log is shown.
    pub fn asynchronous_standby(&self) -> Self {
        let standby = self.copy("copy");
        self.wait_for_standby("select 1 from pg_stat_replication where state = 'streaming'", &standby);
        standby
    }

    /// Makes a standby take writes.
    pub fn promote(&self) {
        let mut command = Command::new(program("pg_ctl"));
        self.run_as_owner(command.args(["promote", "--wait", "--silent", "--pgdata"]).arg(self.data()));
    }

    /// An empty directory for a server, that goes when this process goes.
    fn prepare(durability: Durability) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let dir = std::env::temp_dir().join(format!("tallytree-pg-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).expect("a directory for a server");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).expect("its permissions");
        let owner = owner();
        if let Some(owner) = owner {
            chown(&dir, Some(owner.user), Some(owner.group)).expect("its owner");
        }
        let mut cluster = Self { dir, port: 0, owner, durability, settings: Vec::new(), watch: None };
        cluster.watch = Some(cluster.set_watch());
        cluster
    }

    /// Puts a file beside its own, for nobody but the server to read.
    pub fn put(&self, name: &str, text: &[u8]) {
        let path = self.data().join(name);
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its permissions");
        if let Some(owner) = self.owner {
            chown(&path, Some(owner.user), Some(owner.group)).expect("its owner");
        }
    }

    /// Where its files are.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Starts it, on a free port where it had none yet.
    ///
    /// # Panics
    /// Where it does not come up; its log is shown.
    pub fn go(&mut self) {
        for _ in 0..5 {
            if self.port == 0 {
                // Somebody may take it before the server does; then another one is tried.
                self.port =
                    TcpListener::bind(("127.0.0.1", 0)).and_then(|free| free.local_addr()).expect("a port").port();
            }
            if self.try_go() {
                return;
            }
            if !self.log().contains("could not bind") {
                break;
            }
            self.port = 0;
        }
        panic!("the server does not come up:\n{}", self.log());
    }

    fn try_go(&self) -> bool {
        let mut settings = vec![
            format!("port={}", self.port),
            "listen_addresses=127.0.0.1".to_owned(),
            format!("unix_socket_directories={}", self.dir.display()),
            "max_connections=300".to_owned(),
            "shared_buffers=64MB".to_owned(),
            "max_wal_size=1GB".to_owned(),
            "logging_collector=off".to_owned(),
        ];
        if self.durability == Durability::None {
            settings.extend(["fsync=off", "full_page_writes=off", "autovacuum_naptime=5s"].map(str::to_owned));
        }
        settings.extend(self.settings.iter().cloned());
        let options: String = settings.iter().map(|setting| format!("-c {setting} ")).collect();
        let mut command = Command::new(program("pg_ctl"));
        command.arg("start").arg("--pgdata").arg(self.data()).arg("--log").arg(self.log_path());
        command.args(["--wait", "--silent", "--options", &options]);
        self.as_owner(&mut command).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().expect("pg_ctl runs").success()
    }

    /// What the server had to say.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A database on it as its superuser sees it.
    pub fn url(&self, database: &str) -> String {
        self.url_as("postgres", database)
    }

    fn url_as(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    /// A new, empty database.
    pub fn database(&self) -> TestDatabase {
        self.database_like("template1")
    }

    /// A copy of a database that nobody is connected to, or will not be in a moment.
    pub fn copy_of(&self, original: &TestDatabase) -> TestDatabase {
        self.database_like(&original.name)
    }

    fn database_like(&self, template: &str) -> TestDatabase {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        // Two at once would be in each other's way at the template.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::SeqCst));
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let create = format!("create database {name} owner tallytree template {template}");
        let begun = Instant::now();
        // A service that has ended may still be closing its connections, on a runtime that waits for us.
        let leave = format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{template}'");
        execute(&self.url("postgres"), &leave).expect("nobody is connected to it");
        while let Err(error) = execute(&self.url("postgres"), &create) {
            assert!(begun.elapsed() < Duration::from_secs(10), "{error}");
            std::thread::sleep(Duration::from_millis(20));
        }
        TestDatabase { url: self.url_as("tallytree", &name), server: self.url("postgres"), name }
    }

    /// SIGKILL to the server's first process, as when the machine's memory is out; its other processes see it and go. Returns
    /// when all of them have.
    pub fn kill(&self) {
        let file = fs::read_to_string(self.data().join("postmaster.pid")).expect("it runs");
        let process = file.lines().next().expect("its process").to_owned();
        let killed = Command::new("sh").args(["-c", "kill -KILL \"$1\"", "sh", &process]).status().expect("a shell");
        assert!(killed.success(), "no signal for {process}");
        self.wait_until_gone(&process);
    }

    /// Waits until no process of it is left: each of them holds the directory as its own.
    fn wait_until_gone(&self, postmaster: &str) {
        let begun = Instant::now();
        let data = self.data();
        let lives = || {
            let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
            processes.into_iter().any(|process| {
                process.file_name().to_str() == Some(postmaster)
                    || fs::read_link(process.path().join("cwd")).is_ok_and(|dir| dir == data)
            })
        };
        while lives() {
            assert!(begun.elapsed() < PATIENCE, "the server does not go");
            std::thread::sleep(Duration::from_millis(20));
        }
        // What it left would be taken for a server that still runs, where its number comes again.
        let _ = fs::remove_file(self.data().join("postmaster.pid"));
    }

    /// Runs one of PostgreSQL's programs as the server's user.
    ///
    /// # Panics
    /// Where it fails; what it said is shown.
    pub fn run_as_owner(&self, command: &mut Command) {
        let output = self.as_owner(command).stdin(Stdio::null()).output().expect("PostgreSQL's program runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?} failed: {said}{}", String::from_utf8_lossy(&output.stdout));
    }

    fn as_owner<'command>(&self, command: &'command mut Command) -> &'command mut Command {
        if let Some(owner) = self.owner {
            command.uid(owner.user).gid(owner.group);
        }
        command.current_dir(&self.dir).env("HOME", &self.dir).env("LC_ALL", "C")
    }

    /// A shell that outlives this process by as long as it takes to stop the server and to remove its directory.
    fn set_watch(&self) -> (Child, ChildStdin) {
        let script = "read -r _; \"$1\" stop --pgdata \"$2/data\" --mode immediate --silent; cd /; rm -rf \"$2\"";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(program("pg_ctl")).arg(&self.dir);
        // Of a group of its own: Ctrl-C at the terminal is for the tests.
        self.as_owner(&mut command).process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("a shell");
        let pipe = child.stdin.take().expect("its input");
        (child, pipe)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some((mut child, pipe)) = self.watch.take() {
            drop(pipe);
            let _ = child.wait();
        }
    }
}

/// One of PostgreSQL's programs.
pub fn program(name: &str) -> PathBuf {
    installed().expect("PostgreSQL is installed").join(name)
}

/// Who the server is to run as: nobody else than we are, unless we are root, whom it refuses.
fn owner() -> Option<Owner> {
    let probe = tempfile::tempfile().and_then(|file| file.metadata()).expect("a temporary file");
    if probe.uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("the list of users");
    let named = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut numbers = line.split(':').skip(2).map(str::parse);
        Some(Owner { user: numbers.next()?.ok()?, group: numbers.next()?.ok()? })
    };
    Some(named("postgres").or_else(|| named("nobody")).expect("an unprivileged user"))
}

/// A database of one test's own, dropped with it.
#[derive(Debug)]
#[allow(dead_code)]
pub struct TestDatabase {
    url: String,
    server: String,
    name: String,
}

impl TestDatabase {
    /// Where it is, for the service's role: `postgres://…`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs SQL on it as somebody with a shell would; says how many rows it changed.
    pub fn sql(&self, statement: &str) -> Result<u64, sqlx::Error> {
        execute(&self.url, statement)
    }

    /// The rows of a query, every value as text, as somebody who may read anything.
    pub fn rows(&self, query: &str) -> Vec<Vec<String>> {
        let url = self.url.replacen("//tallytree@", "//postgres@", 1);
        let run = async {
            let mut connection = url.parse::<PgConnectOptions>()?.connect().await?;
            let rows = connection.fetch_all(sqlx::raw_sql(query)).await;
            connection.close().await?;
            let texts = |row: &PgRow| (0..row.len()).map(|column| row.try_get_unchecked(column)).collect();
            rows?.iter().map(texts).collect::<Result<_, sqlx::Error>>()
        };
        std::thread::scope(|scope| {
            let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            scope.spawn(move || runtime().block_on(run)).join().expect("no panic")
        })
        .unwrap_or_else(|error| panic!("{query}: {error}"))
    }

    /// The same as somebody who may do anything.
    pub fn sql_as_superuser(&self, statement: &str) -> Result<u64, sqlx::Error> {
        execute(&self.url.replacen("//tallytree@", "//postgres@", 1), statement)
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        // The server itself may be gone, where that was the test.
        let _ = execute(&self.server, &format!("drop database if exists {} with (force)", self.name));
    }
}

/// Runs SQL without parameters over a connection of its own, from anywhere: a thread of its own has a runtime of its own.
pub fn execute(url: &str, statement: &str) -> Result<u64, sqlx::Error> {
    let run = async {
        let options: PgConnectOptions = url.parse()?;
        let mut connection = options.connect().await?;
        let done = connection.execute(sqlx::raw_sql(statement)).await;
        connection.close().await?;
        Ok(done?.rows_affected())
    };
    std::thread::scope(|scope| {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        scope.spawn(move || runtime().block_on(run)).join().expect("no panic")
    })
}

#[test]
fn a_server_gives_each_test_a_database_and_ends_with_its_owner() {
    let Some(cluster) = shared() else { return };
    let (one, two) = (cluster.database(), cluster.database());
    one.sql("create table here (id bigint)").expect("a table");
    assert_eq!(one.sql("insert into here values (1), (2)").expect("rows"), 2);
    two.sql("select * from here").expect_err("it is in the other one");
    let gone = (one.name().to_owned(), one.url().to_owned());
    drop(one);
    execute(&gone.1, "select 1").expect_err("it went with the test");

    let own = Cluster::start(Durability::Full);
    let dir = own.dir.clone();
    execute(&own.url("postgres"), "select 1").expect("a server of one's own");
    drop(own);
    assert!(!dir.exists(), "it left its files");
}
