//! The raw log: every filter, alone and together, by pages and as a stream, is what the same filter over the whole log gives.

use serde_json::Value;

use super::world::World;

fn positions(events: &[Value]) -> Vec<u64> {
    events.iter().map(|event| event["position"].as_u64().unwrap()).collect()
}

fn lines(text: &[u8]) -> Vec<Value> {
    String::from_utf8(text.to_vec()).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn every_filter_gives_what_the_same_filter_over_the_whole_log_gives() {
    let world = World::with_deeds(220).await;
    let auditor = world.app.auditor();
    let all = lines(&auditor.get("/audit/events").header("accept", "application/x-ndjson").await.text);
    assert!(all.len() > 150);
    let some = &all[all.len() / 2];
    let (early, late) = (all[all.len() / 4]["recorded_at"].as_str().unwrap(), some["recorded_at"].as_str().unwrap());
    let id = world.resellers[0].as_str();
    let actor = all.last().unwrap()["metadata"]["actor"].as_str().unwrap();
    let day = &early[..10];
    type Holds<'a> = Box<dyn Fn(&Value) -> bool + 'a>;
    let filters: Vec<(String, Holds<'_>)> = vec![
        ("aggregate_type=Wallet".into(), Box::new(|event| event["aggregate_type"] == "Wallet")),
        (format!("aggregate_id={id}"), Box::new(|event| event["aggregate_id"] == id)),
        (
            format!("aggregate_type=Wallet&aggregate_id={id}"),
            Box::new(|event| event["aggregate_type"] == "Wallet" && event["aggregate_id"] == id),
        ),
        ("event_type=Provisioned".into(), Box::new(|event| event["event_type"] == "Provisioned")),
        (format!("actor={actor}"), Box::new(|event| event["metadata"]["actor"] == actor)),
        (format!("from={late}"), Box::new(|event| event["recorded_at"].as_str().unwrap() >= late)),
        (format!("to={late}"), Box::new(|event| event["recorded_at"].as_str().unwrap() < late)),
        (format!("from={day}&to={day}"), Box::new(|event| event["recorded_at"].as_str().unwrap().starts_with(day))),
        (
            format!("aggregate_type=Wallet&aggregate_id={id}&event_type=CreditsAdded&from={early}&to={late}&after=20"),
            Box::new(|event| {
                let at = event["recorded_at"].as_str().unwrap();
                event["aggregate_type"] == "Wallet"
                    && event["aggregate_id"] == id
                    && event["event_type"] == "CreditsAdded"
                    && at >= early
                    && at < late
                    && event["position"].as_u64().unwrap() > 20
            }),
        ),
        ("after=100".into(), Box::new(|event| event["position"].as_u64().unwrap() > 100)),
        ("event_type=Nothing".into(), Box::new(|_| false)),
    ];
    for (filter, holds) in &filters {
        let expected: Vec<Value> = all.iter().filter(|event| holds(event)).cloned().collect();
        assert!(!expected.is_empty() || filter.contains("Nothing"), "{filter} is no test");
        if !expected.is_empty() {
            let call = auditor.get(format!("/audit/events?{filter}")).header("accept", "application/x-ndjson");
            let streamed = lines(&call.await.text);
            assert_eq!(positions(&streamed), positions(&expected), "{filter} streamed");
            assert_eq!(streamed, expected, "{filter}");
        }
        let (mut paged, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = auditor.get(format!("/audit/events?{filter}&limit=7{cursor}")).await.ok();
            paged.extend(page["data"].as_array().unwrap().clone());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(positions(&paged), positions(&expected), "{filter} by pages");
    }
}

#[tokio::test]
async fn a_stream_that_broke_off_goes_on_after_the_last_event_that_came() {
    let world = World::with_deeds(60).await;
    let auditor = world.app.auditor();
    let whole = auditor.get("/audit/events").header("accept", "application/x-ndjson").await.text;
    let text = String::from_utf8(whole.to_vec()).unwrap();
    let kept: Vec<&str> = text.lines().take(17).collect();
    let last: Value = serde_json::from_str(kept.last().unwrap()).unwrap();
    let rest = auditor
        .get(format!("/audit/events?after={}", last["position"]))
        .header("accept", "application/x-ndjson")
        .await
        .text;
    let joined = format!("{}\n{}", kept.join("\n"), String::from_utf8(rest.to_vec()).unwrap());
    assert_eq!(joined, text, "to the byte");
}
