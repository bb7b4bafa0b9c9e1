//! Queries from a standby that follows by streaming replication: as of where it stands, and waiting where more is asked for.

use std::time::Duration;

use serde_json::json;

use crate::common::app::{Place, TestApp};
use crate::common::postgres::{self, Cluster, Durability, execute};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_answers_as_of_where_it_stands_and_waits_where_more_is_asked_for() {
    if postgres::installed().is_none() {
        return;
    }
    let primary = Cluster::start(Durability::None);
    let database = primary.database();
    let standby = primary.asynchronous_standby();
    let copy = database.url().replace(&format!(":{}/", primary.port()), &format!(":{}/", standby.port()));
    let looked_at = standby.url(database.name());
    let on_standby = |sql: &str| execute(&looked_at, sql).expect("a statement");
    let first = TestApp::start_at(Place::Database(database), |_| {}).await;
    let top = first.top_level("top", "gold").await;
    first.fund(&top, 100).await;
    let wallet = format!("/wallets/{top}");
    // A node whose queries the standby answers: it takes commands as any other, and shows them as soon as the standby has them.
    let node = first.beside_with_copy(&copy).await;
    let added =
        node.admin().post(format!("{wallet}/credits"), json!({"amount": 11, "source": "bonus"})).fresh_key().await;
    let before = added.position();
    added.created();
    assert_eq!(node.admin().get(format!("{wallet}?min_position={before}")).await.ok()["balance"], 111);
    // For every kind of viewer.
    node.reseller(&top).get(format!("/reseller-network/dashboard?min_position={before}")).await.ok();

    // The standby stands still.
    on_standby("select pg_wal_replay_pause()");
    let added =
        node.admin().post(format!("{wallet}/credits"), json!({"amount": 22, "source": "bonus"})).fresh_key().await;
    let after = added.position();
    added.created();
    let stale = node.admin().get(format!("{wallet}?min_position={before}")).await;
    assert_eq!(stale.position(), before, "it stands where it stood");
    assert_eq!(stale.ok()["balance"], 111);
    // The primary's own queries have gone on.
    assert_eq!(first.admin().get(format!("{wallet}?min_position={after}")).await.ok()["balance"], 133);
    let waiting = node.admin().get(format!("{wallet}?min_position={after}")).await;
    waiting.problem(503, "view_behind");

    // Who asks for more waits until the standby has come that far.
    let asking = {
        let (person, path) = (node.admin(), format!("{wallet}?min_position={after}"));
        tokio::spawn(async move { person.get(path).await })
    };
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!asking.is_finished(), "it did not wait");
    on_standby("select pg_wal_replay_resume()");
    let answer = asking.await.expect("an answer");
    assert!(answer.position() >= after);
    assert_eq!(answer.ok()["balance"], 133);
    node.stop().await;
    first.stop().await;
}
