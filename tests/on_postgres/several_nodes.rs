//! Several nodes on one database: what one has answered binds all of them, from the very next command on.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::common::app::TestApp;
use crate::common::postgres;

/// How many trials: `TALLYTREE_TEST_TRIALS`, a few unless it is set.
fn trials() -> usize {
    std::env::var("TALLYTREE_TEST_TRIALS").ok().and_then(|trials| trials.parse().ok()).unwrap_or(150)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_freeze_through_one_node_is_obeyed_by_the_very_next_command_through_every_other() {
    let first = TestApp::start().await;
    let top = first.top_level("top", "gold").await;
    let child = first.child_of(&top, "child", "standard").await;
    first.fund(&child, 1_000_000_000).await;
    let nodes = [first.beside().await, first.beside().await];
    let all = [&first, &nodes[0], &nodes[1]];
    let provisions = format!("/wallets/{child}/provisions");
    let sell =
        async |node: &TestApp| node.admin().post(&provisions, json!({"cost": 1, "description": "x"})).fresh_key().await;
    for trial in 0..trials() {
        // Any of them freezes, the line above or the wallet's own reseller; the others are asked at once, in either order.
        let (through, frozen) = (all[trial % 3], if trial % 2 == 0 { &top } else { &child });
        let others = [all[(trial + 1 + trial / 3 % 2) % 3], all[(trial + 2 - trial / 3 % 2) % 3]];
        for node in all {
            sell(node).await.created();
        }
        through.admin().post(format!("/resellers/{frozen}/freeze"), json!({"reason": "a trial"})).await.ok();
        for node in others {
            sell(node).await.problem(423, "reseller_frozen");
        }
        let lifts = others[trial / 2 % 2];
        lifts.admin().post(format!("/resellers/{frozen}/unfreeze"), json!({})).await.ok();
    }
    for node in nodes {
        node.stop().await;
    }
}

/// Three nodes, each with its own projector, fold one log: every credit is counted once, and each node sees what another has
/// answered when it asks for that position.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_has_answered_every_other_shows_when_it_is_asked_for() {
    let first = TestApp::start().await;
    let top = first.top_level("top", "gold").await;
    let nodes = [first.beside().await, first.beside().await];
    let all = [&first, &nodes[0], &nodes[1]];
    let mut balance = 0;
    for number in 0..90_i64 {
        let body = json!({"amount": number + 1, "source": "bonus"});
        let through = all[usize::try_from(number).expect("a number") % 3].admin();
        let answer = through.post(format!("/wallets/{top}/credits"), body).fresh_key().await;
        let position = answer.position();
        answer.created();
        balance += number + 1;
        for node in all {
            let wallet = node.admin().get(format!("/wallets/{top}?min_position={position}")).await.ok();
            assert_eq!(wallet["balance"], balance);
        }
    }
    for node in nodes {
        node.stop().await;
    }
}

/// A pooler in transaction mode before the test's server; `None` where none is installed, which is said.
struct Pooler {
    child: std::process::Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Pooler {
    fn start(server: u16) -> Option<Self> {
        let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].into_iter().find(|path| Path::new(path).exists());
        let Some(program) = program else {
            let _ =
                writeln!(std::io::stderr(), "\nSKIPPED: there is no pgbouncer; the test behind one ran without it\n");
            return None;
        };
        let dir = tempfile::tempdir().expect("a directory");
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = free.local_addr().expect("its address").port();
        drop(free);
        let config = dir.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             auth_type = any\npool_mode = transaction\ndefault_pool_size = 4\nmax_client_conn = 200\nunix_socket_dir =\n\
             logfile = {0}/log\npidfile = {0}/pid\n* \n",
            dir.path().display()
        );
        // Any user is let in as the one that owns the database.
        let text = text.replace("* = host=127.0.0.1", "* = user=tallytree host=127.0.0.1").replace("* \n", "");
        std::fs::write(&config, text).expect("its configuration");
        let mut everybody = std::fs::metadata(dir.path()).expect("the directory").permissions();
        everybody.set_mode(0o777);
        std::fs::set_permissions(dir.path(), everybody).expect("its permissions");
        let mut command = std::process::Command::new(program);
        // It refuses root.
        if std::fs::metadata(dir.path()).expect("the directory").uid() == 0 {
            command.args(["-u", "nobody"]);
        }
        let child = command.arg("--quiet").arg(&config).spawn().expect("the pooler starts");
        let begun = std::time::Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "the pooler does not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self { child, port, _dir: dir })
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A node behind a pooler in transaction mode does all that another one does; it hears of commits by looking, ten times a
/// second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_behind_a_pooler_serves_like_one_that_is_not() {
    let first = TestApp::start().await;
    let store = first.store().to_str().expect("an address").to_owned();
    let server = postgres::shared().expect("a server").port();
    let pooler = Pooler::start(server);
    let address = match &pooler {
        Some(pooler) => store.replace(&format!(":{server}/"), &format!(":{}/", pooler.port)),
        None => store,
    };
    let pooled = first.beside_at(&format!("{address}&pgbouncer=true")).await;
    let top = pooled.top_level("top", "gold").await;
    let child = pooled.child_of(&top, "child", "standard").await;
    pooled.fund(&child, 10_000).await;
    for number in 0..40_usize {
        let (through, other) = if number % 2 == 0 { (&pooled, &first) } else { (&first, &pooled) };
        let body = json!({"cost": 1, "description": "x"});
        let sold = through.admin().post(format!("/wallets/{child}/provisions"), body).fresh_key().await;
        let position = sold.position();
        sold.created();
        let wallet = other.admin().get(format!("/wallets/{child}?min_position={position}")).await.ok();
        assert_eq!(wallet["balance"], 10_000 - 1 - i64::try_from(number).expect("a number"));
    }
    // Every sort of query, as the reseller and as the staff.
    for who in [pooled.reseller(&top), pooled.admin()] {
        for path in ["dashboard", "downline/tree?depth=3&limit=10", "activity?limit=20", "upline/requests?direction=in"]
        {
            who.get(format!("/reseller-network/{path}")).await.ok();
        }
    }
    pooled.stop().await;
}
