//! `tallytree token` where a path or an id was mistyped, and stores of which the ledger is missing.

use std::path::Path;
use std::process::Output;

use tempfile::TempDir;

use crate::common::process::{run, token};

const NOBODY: &str = "01900000-0000-7000-8000-000000000000";

fn said(output: &Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).expect("a directory").next().is_none()
}

#[tokio::test]
async fn only_the_making_of_a_token_makes_a_store() {
    let dir = TempDir::new().expect("a directory");
    let store = dir.path().join("mistyped");
    for arguments in [&["token", "list"][..], &["token", "revoke", "0000000000000000"]] {
        let said = said(&run(&store, arguments).await);
        assert!(said.contains("there is no ledger at"), "{said}");
        assert!(is_empty(dir.path()), "something was made");
    }
    token(&store, &["--role", "super_admin"]).await;
    assert!(run(&store, &["token", "list"]).await.status.success());
}

#[tokio::test]
async fn no_token_is_made_for_a_reseller_that_does_not_exist() {
    let dir = TempDir::new().expect("a directory");
    let store = dir.path().join("store");
    let output = run(&store, &["token", "create", "--role", "reseller", "--tenant", NOBODY]).await;
    assert!(said(&output).contains(&format!("there is no reseller {NOBODY}")));
    let listed = run(&store, &["token", "list"]).await;
    assert!(!String::from_utf8_lossy(&listed.stdout).contains(NOBODY));
}

#[tokio::test]
async fn where_the_ledger_is_missing_and_what_follows_from_it_is_there_nothing_is_made() {
    for follower in ["index.db", "views.db"] {
        let dir = TempDir::new().expect("a directory");
        std::fs::write(dir.path().join(follower), "what was there").expect("a file");
        for arguments in [&["serve", "--listen", "localhost:0"][..], &["token", "create", "--role", "super_admin"]] {
            let said = said(&run(dir.path(), arguments).await);
            assert!(said.contains("ledger.db is missing") && said.contains(follower), "{said}");
            assert!(!dir.path().join("ledger.db").exists());
        }
    }
}
