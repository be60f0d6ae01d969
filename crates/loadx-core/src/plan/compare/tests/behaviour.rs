//! Each difference in behaviour is told.

use super::{Change, Part, compare, told};

/// A config with one route, with these members beside its action.
fn route(members: &str) -> String {
    format!(r#"{{"routes": [{{"name": "r", {members}}}], "clusters": {}}}"#, r#"{"a": {"backends": ["10.0.0.1:80"]}}"#)
}

/// The details of the only difference of two routes.
fn details(old: &str, new: &str) -> Vec<String> {
    let lines = told(&route(old), &route(new));
    assert_eq!(lines.first().map(String::as_str), Some("Changed Route r"), "{lines:?}");
    lines.into_iter().skip(1).map(|line| line.trim().to_owned()).collect()
}

#[test]
fn the_text_of_a_response_is_compared() {
    let with = |body: &str| format!(r#""respond": {{"status": 200, "body": "{body}"}}"#);
    assert_eq!(details(&with("yes"), &with("no!")), [r#"respond.body: "yes" -> "no!""#]);
    let long = "x".repeat(100);
    let lines = details(&with(&format!("{long}1")), &with(&format!("{long}2")));
    let (old, new) = lines[0].split_once(" -> ").unwrap();
    let beginning = format!("\"{}\"… (101 bytes, hash ", "x".repeat(40));
    assert!(old.starts_with(&format!("respond.body: {beginning}")) && new.starts_with(&beginning), "{lines:?}");
}

#[test]
fn lists_are_told_without_ambiguity() {
    let with = |key: &str, table: &str| format!(r#""cluster": "a", "{key}": {table}"#);
    assert_eq!(
        details(&with("headers", r#"{"a": "1", "b": "2"}"#), &with("headers", r#"{"a": "1, b: 2"}"#)),
        [r#"headers: "a": "1", "b": "2" -> "a": "1, b: 2""#]
    );
    assert_eq!(
        details(&with("query", r#"{"a": "1", "b": "2"}"#), &with("query", r#"{"a": "1, b=2"}"#)),
        [r#"query: "a"="1", "b"="2" -> "a"="1, b=2""#]
    );
    for key in ["request_headers", "response_headers"] {
        let lines =
            details(&with(key, r#"{"add": {"a": "1", "b": "2"}}"#), &with(key, r#"{"add": {"a": "1, add b: 2"}}"#));
        assert_eq!(lines, [format!(r#"{key}: add "a": "1", add "b": "2" -> add "a": "1, add b: 2""#)]);
    }
    assert_eq!(
        details(r#""cluster": "a""#, r#""cluster": "a", "rewrite": {"host": "unchanged"}"#),
        [r#"rewrite.host: unchanged -> "unchanged""#]
    );
}

#[test]
fn a_small_change_of_weights_is_told() {
    let with = |weight: u32| {
        format!(
            r#"{{"routes": [{{"split": [{{"cluster": "a", "weight": 100000}}, {{"cluster": "b", "weight": {weight}}}]}}],
                "clusters": {{"a": {{"backends": ["10.0.0.1:80"]}}, "b": {{"backends": ["10.0.0.2:80"]}}}}}}"#
        )
    };
    let lines = told(&with(1), &with(40));
    assert!(lines[1].contains("\"b\" weight 1 (0.0 %) -> "), "{lines:?}");
    assert!(lines[1].ends_with("\"b\" weight 40 (0.0 %)"), "{lines:?}");
}

#[test]
fn the_statuses_of_a_probe_are_told() {
    let with = |more: &str| format!(r#"{{"backend_servers": [{{"host": "10.0.0.1", "port": 80}}]{more}}}"#);
    assert_eq!(
        told(&with(""), &with(r#", "health_check_path": "/health""#)),
        [
            "Changed Cluster default",
            "  health.probe: GET /health, healthy with 100 to 499 -> GET /health, healthy with 200 to 399"
        ]
    );
}

#[test]
fn the_name_of_a_backend_is_told() {
    let with = |more: &str| format!(r#"{{"backend_servers": [{{"host": "10.0.0.1", "port": 80{more}}}]}}"#);
    assert_eq!(
        told(&with(""), &with(r#", "name": "blue""#)),
        ["Changed Backend 10.0.0.1:80 of default", r#"  name: "10.0.0.1:80" -> "blue""#]
    );
}

#[test]
fn the_patience_with_clients_is_told_without_a_cluster() {
    let with = |more: &str| format!(r#"{{"routes": [{{"respond": {{"status": 200}}}}]{more}}}"#);
    assert_eq!(
        told(&with(""), &with(r#", "request_timeout": 5"#)),
        ["Changed Setting request_timeout", "  request_timeout: 30 s -> 5 s"]
    );
    // Only backends have this limit.
    assert_eq!(told(&with(""), &with(r#", "connection_timeout": 5"#)), [""; 0]);
}

/// No file gives such a config: two routes of one name, of which only the first is compared.
#[test]
fn configs_that_differ_are_never_called_equal() {
    let text = r#"{"routes": [{"name": "r", "path": "/a", "respond": {"status": 200}},
                              {"name": "s", "path": "/b", "respond": {"status": 200}}]}"#;
    let mut old = crate::config::parse(text).unwrap();
    old.routes[1].name = "r".into();
    let mut new = old.clone();
    new.routes[1] = new.routes[0].clone();
    let differences = compare(&old, &new);
    assert_eq!(differences.len(), 1);
    assert_eq!((differences[0].part, differences[0].change), (Part::Setting, Change::Changed));
    assert!(differences[0].effect.contains("the configs differ"), "{differences:?}");
}
