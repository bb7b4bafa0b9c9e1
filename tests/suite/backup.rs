//! A copy of the ledger made while the service goes on, and what becomes of a store into which one is put back.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::common::app::{Place, TestApp};
use crate::common::process;

/// Puts a copy in the place of a ledger that nobody uses.
fn put_back(copy: &Path, store: &Path) {
    std::fs::copy(copy, store.join("ledger.db")).unwrap();
    for part in ["ledger.db-wal", "ledger.db-shm"] {
        let _ = std::fs::remove_file(store.join(part));
    }
}

/// Moves away a file that is made anew from the ledger.
fn forget(store: &Path, name: &str) {
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(store.join(format!("{name}{end}")));
    }
}

/// What a service says that does not start on a store.
async fn refusal_to_start(store: &Path) -> String {
    let database = format!("sqlite:{}", store.display());
    let mut serve = tokio::process::Command::new(env!("CARGO_BIN_EXE_tallytree"));
    serve.args(["serve", "--listen", "127.0.0.1:0", "--database", &database]);
    let serve =
        serve.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(60), serve.wait_with_output()).await;
    let ended = ended.expect("it ends by itself").unwrap();
    assert!(!ended.status.success());
    String::from_utf8(ended.stderr).unwrap()
}

#[tokio::test]
async fn a_copy_holds_all_that_was_answered_before_it_was_made_and_tells_its_head() {
    let app = TestApp::start().await;
    let shop = app.top_level("shop", "gold").await;
    app.fund(&shop, 500).await;
    let other = Place::new();
    std::fs::create_dir_all(other.store()).unwrap();
    let copy = other.store().join("ledger.db");

    let made = process::run(app.store(), &["backup", copy.to_str().unwrap()]).await;
    let head = process::run(app.store(), &["head"]).await;
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert_eq!(made.stdout, head.stdout);
    let again = process::run(app.store(), &["backup", copy.to_str().unwrap()]).await;
    assert!(!again.status.success(), "what stands there already is not written over");

    app.fund(&shop, 200).await;
    app.stop().await;
    let restored = TestApp::start_at(other, |_| {}).await;
    let wallet = restored.admin().get(format!("/wallets/{shop}?min_position=4")).await.ok();
    assert_eq!(wallet["balance"], 500);
    let verified = process::run(restored.store(), &["verify"]).await;
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
}

#[tokio::test]
async fn an_older_ledger_is_not_served_until_somebody_has_decided_that_it_is_to_stand() {
    let app = TestApp::start().await;
    let shop = app.top_level("shop", "gold").await;
    app.fund(&shop, 500).await;
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy.db");
    assert!(process::run(app.store(), &["backup", copy.to_str().unwrap()]).await.status.success());
    app.fund(&shop, 200).await;
    let wallet = app.admin().get(format!("/wallets/{shop}")).await.ok();
    assert_eq!(wallet["balance"], 700);
    let store = app.store().to_owned();
    let _place = app.stop_and_keep().await;
    // Whoever still reads when the service has ended closes its file a moment later.
    while ["ledger.db-wal", "views.db-wal", "index.db-wal"].iter().any(|part| store.join(part).exists()) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    put_back(&copy, &store);
    let said = refusal_to_start(&store).await;
    assert!(said.contains("history was cut") && said.matches("index.db knows a ledger").count() == 1, "{said}");
    let said_again = refusal_to_start(&store).await;
    assert!(said_again.contains("index.db knows a ledger"), "it is not forgotten by asking: {said_again}");

    forget(&store, "index.db");
    let said = refusal_to_start(&store).await;
    assert!(said.contains("history was cut"), "the read models know it too: {said}");

    forget(&store, "index.db");
    forget(&store, "views.db");
    let served = process::Process::serve(&store).await;
    let verified = process::run(&store, &["verify"]).await;
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    drop(served);
}
