//! The description that the service gives of itself: complete, true, and there to be read.
//!
//! That every route is described, the code sees to; that every answer is as described, `common::contract` does, in all tests.

use std::collections::BTreeSet;

use hyper::Method;
use serde_json::Value;

use crate::common::app::TestApp;
use crate::common::contract::{DESCRIPTION, conforms, resolved};

/// Every operation: method, path, and what is said of it.
fn operations() -> impl Iterator<Item = (String, String, &'static Value)> {
    DESCRIPTION["paths"].as_object().expect("paths").iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().expect("methods").iter();
        methods.map(move |(method, operation)| (method.to_ascii_uppercase(), path.clone(), operation))
    })
}

/// Every value below `value` that has this member.
fn each<'a>(value: &'a Value, member: &str, seen: &mut impl FnMut(&'a Value)) {
    if value.get(member).is_some() {
        seen(value);
    }
    match value {
        Value::Object(members) => members.values().for_each(|below| each(below, member, seen)),
        Value::Array(items) => items.iter().for_each(|below| each(below, member, seen)),
        _ => {}
    }
}

#[tokio::test]
async fn it_is_served_to_anybody_and_leaves_out_what_only_tests_may_do() {
    let app = TestApp::start().await;
    let served = app.stranger().get("/openapi.json").await.ok();
    assert_eq!(served, *DESCRIPTION);
    assert_eq!(served["openapi"], "3.1.0");
    let usual = tallytree::http::description(false);
    assert!(usual["paths"].get("/dev/clock").is_none() && usual["paths"].get("/resellers").is_some());
}

#[tokio::test]
async fn its_page_asks_no_other_server_for_anything() {
    let app = TestApp::start().await;
    let stranger = app.stranger();
    let moved = stranger.get("/docs").await;
    assert_eq!((moved.status, moved.header("location")), (308, Some("/docs/")));
    let page = stranger.get("/docs/").await;
    assert!(page.header("content-security-policy").expect("a policy").starts_with("default-src 'self'"));
    let page = String::from_utf8(page.text.to_vec()).expect("text");
    let named: Vec<&str> = page
        .split(['"', '\''])
        .filter(|part| part.ends_with(".js") || part.ends_with(".css") || part.ends_with(".png"))
        .collect();
    assert!(named.len() >= 4, "{page}");
    assert!(!page.contains("http"), "{page}");
    for file in named {
        let reply = stranger.get(format!("/docs/{}", file.trim_start_matches("./"))).await;
        assert_eq!(reply.status, 200, "{file}");
        assert!(!reply.text.is_empty(), "{file}");
    }
    let start = stranger.get("/docs/swagger-initializer.js").await;
    assert!(String::from_utf8_lossy(&start.text).contains("/openapi.json"));
    stranger.get("/docs/../Cargo.toml").await.problem(404, "not_found");
    stranger.get("/docs/none.js").await.problem(404, "not_found");
}

#[test]
fn every_reference_leads_somewhere_and_every_operation_has_a_name_of_its_own() {
    each(&DESCRIPTION, "$ref", &mut |value| {
        resolved(value);
    });
    let mut names = BTreeSet::new();
    for (method, path, operation) in operations() {
        let name = operation["operationId"].as_str().expect("a name");
        assert!(names.insert(name), "{method} {path}: {name} twice");
        assert!(operation["summary"].as_str().is_some_and(|summary| summary.len() > 5), "{method} {path}");
        assert!(DESCRIPTION["tags"].as_array().expect("tags").iter().any(|tag| tag["name"] == operation["tags"][0]));
        for name in path.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
            let parameters = operation["parameters"].as_array().expect("parameters");
            let described = |parameter: &&Value| parameter["in"] == "path" && parameter["name"] == name;
            assert_eq!(parameters.iter().filter(described).count(), 1, "{method} {path}: {name}");
        }
    }
    assert!(names.len() > 50);
}

#[test]
fn every_example_is_as_its_schema_says() {
    let mut examples = 0;
    for (method, path, operation) in operations() {
        let answers = operation["responses"].as_object().expect("answers").values().map(resolved);
        for content in answers.chain(operation.get("requestBody")).filter_map(|with| with["content"].as_object()) {
            for (kind, content) in
                content.iter().filter(|(kind, _)| kind.ends_with("json") && *kind != "application/x-ndjson")
            {
                let Some(example) = content.get("example") else {
                    panic!("{method} {path}: {kind} without an example")
                };
                conforms(&content["schema"], example)
                    .unwrap_or_else(|error| panic!("{method} {path}: {error}: {example}"));
                examples += 1;
            }
        }
    }
    assert!(examples > 300, "{examples}");
}

#[tokio::test]
async fn every_parameter_that_is_described_is_taken() {
    let app = TestApp::start().await;
    let mut taken = 0;
    for (_, path, operation) in operations().filter(|(method, ..)| method == "GET") {
        let path = path.replace("{sku}", "none").replace("{code}", "NONE");
        let path: String = path
            .split('/')
            .map(|part| {
                if part.starts_with('{') {
                    "/019a0000-0000-7000-8000-000000000000".to_owned()
                } else {
                    format!("/{part}")
                }
            })
            .collect::<String>()
            .replacen("//", "/", 1);
        for parameter in
            operation["parameters"].as_array().expect("parameters").iter().filter(|one| one["in"] == "query")
        {
            let name = parameter["name"].as_str().expect("a name");
            let schema = resolved(&parameter["schema"]);
            let value = match (&schema["examples"][0], &schema["enum"][0], schema["type"].as_str()) {
                (Value::String(example), ..) | (_, Value::String(example), _) => example.clone(),
                (example, ..) if !example.is_null() => example.to_string(),
                (_, _, Some("integer")) => "1".to_owned(),
                _ => "x".to_owned(),
            };
            let query = if name == "min_position" { "min_position=0".to_owned() } else { format!("{name}={value}") };
            let reply = app.admin().call(Method::GET, format!("{path}?{query}"), Vec::new()).await;
            assert!(!reply.body.to_string().contains("unknown parameter"), "{path}?{query}: {}", reply.body);
            taken += 1;
        }
    }
    assert!(taken > 40, "{taken}");
}
