//! The effects on clients and on the state of backends.

use super::{Change, Part, differences, told};

fn cluster(members: &str) -> String {
    format!(r#"{{"routes": [{{"cluster": "app"}}], "clusters": {{"app": {{{members}}}}}}}"#)
}

/// The share of clients that change their backend, as it is told.
fn moved(old: &str, new: &str) -> Option<String> {
    let with = |members: &str| cluster(&format!(r#""algorithm": "ip_hash", {members}"#));
    let lines = told(&with(old), &with(new));
    lines.into_iter().find_map(|line| line.strip_prefix("  clients that change their backend:  -> ").map(str::to_owned))
}

#[test]
fn another_name_of_a_backend_moves_no_client() {
    let with = |name: &str, more: &str| {
        let named = format!(r#"{{"host": "10.0.0.1", "port": 80, "name": "{name}"}}"#);
        format!(r#""backends": [{named}, "10.0.0.2:80"]{more}"#)
    };
    assert_eq!(moved(&with("a", ""), &with("b", "")), None);
    assert_eq!(moved(&with("a", ""), &with("b", r#", "request_timeout": 5"#)).as_deref(), Some("0.0 %"));
    // A name that goes to another backend does not keep the clients.
    let swapped = r#""backends": ["10.0.0.3:80", {"host": "10.0.0.4", "port": 80, "name": "a"}]"#;
    assert_eq!(moved(&with("a", ""), swapped).as_deref(), Some("100.0 %"));
}

#[test]
fn another_resolve_replaces_the_backends_of_names() {
    let with = |resolve: &str| cluster(&format!(r#""backends": ["app.internal:80"], "resolve": "{resolve}""#));
    for (old, new) in [("one", "each"), ("each", "one")] {
        let differences = differences(&with(old), &with(new));
        let effect = &differences[0].effect;
        assert!(effect.contains("replaces") && effect.contains("health and counts start anew"), "{effect}");
        assert!(!effect.contains("stay"), "{effect}");
    }
    let with = |resolve: &str| format!(r#""backends": ["app.internal:80", "b.internal:80"], "resolve": "{resolve}""#);
    assert_eq!(moved(&with("one"), &with("each")), None, "the number of addresses is unknown");
}

#[test]
fn a_new_listener_on_a_held_port_is_refused() {
    let with = |address: &str| {
        format!(r#"{{"listeners": [{{"address": "{address}"}}], "routes": [{{"respond": {{"status": 200}}}}]}}"#)
    };
    let effect = |old: &str, new: &str| {
        let differences = differences(&with(old), &with(new));
        let added = differences.into_iter().find(|one| (one.part, one.change) == (Part::Listener, Change::Added));
        added.unwrap().effect
    };
    for (old, new) in [
        ("127.0.0.1:8080", "0.0.0.0:8080"),
        ("0.0.0.0:8080", "127.0.0.1:8080"),
        ("[::]:8080", "0.0.0.0:8080"),
        ("localhost:8080", "127.0.0.1:8080"),
    ] {
        let effect = effect(old, new);
        assert!(effect.contains("a reload refuses this config") && effect.contains("two reloads"), "{effect}");
        assert!(effect.contains(&format!("{old} holds the port")), "{effect}");
    }
    for (old, new) in [("127.0.0.1:8080", "0.0.0.0:8081"), ("127.0.0.1:8080", "127.0.0.2:8080")] {
        assert_eq!(effect(old, new), "LoadX accepts clients on this address");
    }
}
