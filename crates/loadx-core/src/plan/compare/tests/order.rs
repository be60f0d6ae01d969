//! What means the same is no difference, and a difference is told without noise.

use super::told;

const CLUSTERS: &str = r#"{"a": {"backends": ["10.0.0.1:80", "10.0.0.2:80"]}, "b": {"backends": ["10.0.0.3:80"]}}"#;

fn route(members: &str) -> String {
    format!(
        r#"{{"listeners": [{{"name": "x", "address": "127.0.0.1:81"}}, {{"name": "y", "address": "127.0.0.1:82"}}],
            "routes": [{{"name": "r", {members}}}], "clusters": {CLUSTERS}}}"#
    )
}

#[test]
fn the_order_of_sets_is_no_difference() {
    for (old, new) in [
        (r#""hosts": ["a.example", "b.example"]"#, r#""hosts": ["b.example", "a.example"]"#),
        (r#""methods": ["GET", "HEAD"]"#, r#""methods": ["HEAD", "GET"]"#),
        (r#""listeners": ["x", "y"]"#, r#""listeners": ["y", "x"]"#),
        (r#""headers": {"a": "1", "b": "2"}"#, r#""headers": {"b": "2", "a": "1"}"#),
        (r#""request_headers": {"remove": ["x-a", "x-b"]}"#, r#""request_headers": {"remove": ["x-b", "x-a"]}"#),
        (r#""deny": ["10.0.0.0/8", "11.0.0.0/8"]"#, r#""deny": ["11.0.0.0/8", "10.0.0.0/8"]"#),
    ] {
        let with = |members: &str| route(&format!(r#""cluster": "a", {members}"#));
        assert_eq!(told(&with(old), &with(new)), [""; 0]);
    }
}

#[test]
fn the_order_of_listeners_clusters_and_backends_is_no_difference() {
    let old = route(r#""cluster": "a", "mirror": "b", "listeners": ["x"]"#);
    let new = r#"{
        "listeners": [{"name": "y", "address": "127.0.0.1:82"}, {"name": "x", "address": "127.0.0.1:81"}],
        "routes": [{"name": "r", "cluster": "a", "mirror": "b", "listeners": ["x"]}],
        "clusters": {"b": {"backends": ["10.0.0.3:80"]}, "a": {"backends": ["10.0.0.2:80", "10.0.0.1:80"]}}
    }"#;
    assert_eq!(told(&old, new), [""; 0]);
}

#[test]
fn the_order_of_a_split_counts_only_for_a_split_by_client() {
    let with = |shares: [&str; 2], more: &str| {
        let [first, second] = shares.map(|name| format!(r#"{{"cluster": "{name}", "weight": 1}}"#));
        route(&format!(r#""split": [{first}, {second}]{more}"#))
    };
    assert_eq!(told(&with(["a", "b"], ""), &with(["b", "a"], "")), [""; 0]);
    // The first half of the client addresses goes to the first cluster.
    let by_client = r#", "split_by": "client""#;
    assert_eq!(told(&with(["a", "b"], by_client), &with(["b", "a"], by_client)).len(), 2);
}

#[test]
fn a_split_of_one_cluster_is_that_cluster() {
    let split = route(r#""split": [{"cluster": "a", "weight": 7}], "split_by": "client""#);
    assert_eq!(told(&route(r#""cluster": "a""#), &split), [""; 0]);
}

#[test]
fn paths_are_told_in_words() {
    let with = |path: &str| route(&format!(r#""cluster": "a", "path_prefix": "{path}""#));
    assert_eq!(told(&with("/"), &with("/v1"))[1], "  path: any path -> \"/v1\" and below");
    assert_eq!(told(&route(r#""cluster": "a""#), &with("/"))[1], "  path: any path and * -> any path");
}

#[test]
fn another_kind_of_action_is_one_setting() {
    let forward = route(r#""cluster": "a", "response_headers": {"remove": ["x"]}, "timeouts": {"exchange": 10}"#);
    let gone = route(r#""respond": {"status": 410, "body": "gone"}"#);
    let redirect = route(r#""redirect": {"status": 301, "host": "b.example"}"#);
    let to = r#"cluster "a", response_headers remove "x", timeouts.exchange 10 s"#;
    let respond = r#"respond 410, body "gone", content_type "text/plain; charset=utf-8""#;
    let moved = r#"redirect 301, host "b.example""#;
    assert_eq!(told(&forward, &gone)[1..], [format!("  action: {to} -> {respond}")]);
    assert_eq!(told(&gone, &redirect)[1..], [format!("  action: {respond} -> {moved}")]);
    assert_eq!(told(&redirect, &forward)[1..], [format!("  action: {moved} -> {to}")]);
}

#[test]
fn the_settings_of_a_log_that_is_off_are_not_told() {
    let with = |more: &str| format!(r#"{{"backend_servers": [{{"host": "10.0.0.1", "port": 80}}]{more}}}"#);
    let off = with(r#", "enable_logging": false"#);
    let other = with(r#", "enable_logging": false, "log_file": "b.log", "log_format": "json""#);
    assert_eq!(told(&off, &other), [""; 0]);
    let on = with(r#", "enable_logging": true, "log_file": "b.log""#);
    assert_eq!(told(&off, &on), ["Changed Setting enable_logging", "  enable_logging: false -> true"]);
    let standard_output = with(r#", "enable_logging": true"#);
    assert_eq!(told(&standard_output, &on)[1], r#"  log_file: standard output -> "b.log""#);
}
