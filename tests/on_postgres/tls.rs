//! The connection to the database encrypted: a server that takes no other, a certificate authority of our own, and clients that
//! want to know whom they speak to.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::common::app::{Place, TestApp};
use crate::common::postgres::{self, Cluster, Durability, execute};
use crate::common::process;

/// Runs `openssl` in a directory; `false` where it is not installed, which is said.
fn openssl(dir: &Path, arguments: &str) -> bool {
    let mut command = Command::new("openssl");
    command.current_dir(dir).args(arguments.split_whitespace()).stdin(Stdio::null()).stderr(Stdio::null());
    match command.stdout(Stdio::null()).status() {
        Ok(status) => {
            assert!(status.success(), "openssl {arguments}");
            true
        }
        Err(_) => {
            let _ = writeln!(std::io::stderr(), "\nSKIPPED: there is no openssl; the test of TLS did not run\n");
            false
        }
    }
}

/// An authority, and a certificate by it for this name alone.
fn certify(dir: &Path, authority: &str, subject: &str) -> bool {
    std::fs::write(dir.join("names"), format!("subjectAltName={subject}\n")).expect("a file");
    openssl(
        dir,
        &format!(
            "req -x509 -newkey rsa:2048 -nodes -keyout {authority}.key -out {authority}.crt -subj /CN={authority} -days 2"
        ),
    ) && openssl(dir, "req -new -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=server")
        && openssl(
            dir,
            &format!(
                "x509 -req -in server.csr -CA {authority}.crt -CAkey {authority}.key -CAcreateserial -out server.crt -days 2 \
                 -extfile names"
            ),
        )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_speaks_to_its_database_in_private_and_knows_whom_it_speaks_to() {
    if postgres::installed().is_none() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    if !certify(dir.path(), "stranger", "IP:127.0.0.1") || !certify(dir.path(), "authority", "IP:127.0.0.1") {
        return;
    }
    let cluster = Cluster::start(Durability::None);
    let database = cluster.database();
    let read = |name: &str| std::fs::read(dir.path().join(name)).expect("a file");
    cluster.put("server.key", &read("server.key"));
    cluster.put("server.crt", &read("server.crt"));
    for set in ["alter system set ssl = on", "select pg_reload_conf()"] {
        execute(&cluster.url("postgres"), set).expect("a setting");
    }
    // From here on the service's role is let in over TLS only; the superuser, who looks on, as before.
    cluster.put("pg_hba.conf", b"host all postgres 127.0.0.1/32 trust\nhostssl all all 127.0.0.1/32 trust\n");
    execute(&cluster.url("postgres"), "select pg_reload_conf()").expect("a setting");

    let plain = database.url().to_owned();
    let with = |mode: &str, authority: &str| {
        let certificate = dir.path().join(format!("{authority}.crt"));
        plain.replace("sslmode=disable", &format!("sslmode={mode}&sslrootcert={}", certificate.display()))
    };
    let refused = async |url: &str| {
        let migrated = process::run(Path::new(url), &["migrate"]).await;
        assert!(!migrated.status.success(), "{url} was let in");
        String::from_utf8_lossy(&migrated.stderr).into_owned()
    };
    // A server reloads its settings when it comes to it.
    let begun = std::time::Instant::now();
    while execute(&plain, "select 1").is_ok() {
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "the server goes on talking in the open");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    refused(&plain).await;
    refused(&with("verify-full", "stranger")).await;
    let elsewhere = with("verify-full", "authority").replace("@127.0.0.1:", "@localhost:");
    refused(&elsewhere).await;
    let app = TestApp::start_at(Place::Database(database), |config| {
        config.database = with("verify-full", "authority").parse().expect("an address");
    })
    .await;
    let top = app.top_level("top", "gold").await;
    app.fund(&top, 100).await;
    let sold = app.admin().post(format!("/wallets/{top}/provisions"), json!({"cost": 40})).fresh_key().await;
    sold.created();
    assert_eq!(app.admin().get(format!("/wallets/{top}")).await.ok()["balance"], 60);
    let required = app.beside_at(&plain.replace("sslmode=disable", "sslmode=require")).await;
    assert_eq!(required.admin().get(format!("/wallets/{top}")).await.ok()["balance"], 60);
    // Every one of their sessions.
    let open = "select 1 from pg_stat_ssl join pg_stat_activity using (pid) where usename = 'tallytree'";
    assert!(execute(&cluster.url("postgres"), open).expect("a count") > 3);
    let in_the_open = format!("{open} and not ssl");
    assert_eq!(execute(&cluster.url("postgres"), &in_the_open).expect("a count"), 0);
    required.stop().await;
    app.stop().await;
}
