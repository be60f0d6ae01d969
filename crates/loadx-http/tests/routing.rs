//! Random routes and random requests: the path that a route matched is the path that a backend reads.

use proptest::prelude::*;

#[path = "../fuzz/src/local.rs"]
mod local;

#[path = "../fuzz/src/plain.rs"]
#[expect(dead_code, reason = "other checks use the rest")]
mod plain;

#[path = "../fuzz/src/routing.rs"]
#[expect(dead_code, unreachable_pub, reason = "there it is part of a library")]
mod routing;

use routing::{PlainAction, PlainPath, PlainRoute, Routes};

fn any_config_path() -> impl Strategy<Value = String> {
    prop::collection::vec("[ab]{1,2}", 1..4).prop_map(|segments| format!("/{}", segments.join("/")))
}

fn any_route() -> impl Strategy<Value = PlainRoute> {
    let hosts = prop::collection::vec("(\\*\\.)?[ab](\\.[ab]){0,2}", 0..3);
    let path = (0..4u8, any_config_path()).prop_map(|(kind, path)| match kind {
        0 => PlainPath::Any,
        1 => PlainPath::Exact(path),
        2 => PlainPath::Prefix(path),
        _ => PlainPath::Digits(path),
    });
    let host = prop::option::of("[cd](\\.[cd]){0,2}(:8[01])?");
    (hosts, path, 0..4u8, any_config_path(), any::<bool>(), host).prop_map(|(hosts, path, kind, to, slash, host)| {
        let to = if slash { format!("{to}/") } else { to };
        let action = match (kind, &path) {
            (0, _) => PlainAction::Replace(to),
            (1, PlainPath::Any | PlainPath::Prefix(_) | PlainPath::Exact(_)) => PlainAction::ReplaceMatched(to),
            (2, _) => PlainAction::Redirect,
            _ => PlainAction::Keep,
        };
        // The host of a redirect has no port of its own.
        let host = host.map(|host| match action {
            PlainAction::Redirect => host.split(':').next().unwrap_or_default().to_owned(),
            _ => host,
        });
        PlainRoute { hosts, path, action, host }
    })
}

/// Targets that are made of what servers read differently, among plain segments.
fn any_target() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => "/[ab]{1,2}",
        2 => "/[0-9]",
        1 => Just("/".to_owned()),
        1 => Just("/.".to_owned()),
        1 => Just("/..".to_owned()),
        1 => Just("%2f".to_owned()),
        1 => Just("%2F..".to_owned()),
        1 => Just("%5c".to_owned()),
        1 => Just("%2e%2E".to_owned()),
        1 => Just("%61".to_owned()),
        1 => Just(";".to_owned()),
        1 => Just(";a".to_owned()),
        1 => "%[0-9a-g]{2}",
    ];
    (prop::collection::vec(piece, 0..6), prop::option::of("[ab/?%.=]{0,5}")).prop_map(|(pieces, query)| {
        format!(
            "/{}{}",
            pieces.concat().trim_start_matches('/'),
            query.map_or_else(String::new, |query| format!("?{query}"))
        )
    })
}

fn any_head() -> impl Strategy<Value = String> {
    let host = "[abAB](\\.[ab]){0,2}\\.?(:80)?";
    (any_target(), host, 0..8u8).prop_map(|(target, host, form)| match form {
        0 => format!("GET http://{host}{target} HTTP/1.1\r\nHost: a\r\n\r\n"),
        1 => format!("OPTIONS * HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        2 => format!("GET /{target} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        3 => format!("GET {target} HTTP/1.0\r\n\r\n"),
        _ => format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_path_that_a_route_matched_is_the_path_that_a_backend_reads(
        routes in prop::collection::vec(any_route(), 1..8),
        heads in prop::collection::vec(any_head(), 1..40),
    ) {
        let routes = Routes::new(routes);
        for head in heads {
            routes.check(head.as_bytes());
        }
    }
}
