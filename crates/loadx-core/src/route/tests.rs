//! Tests of routes, with a simple search that compares one route after the other.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::sync::Arc;

use proptest::prelude::*;

use super::path::{Normal, PathFault, normalise};
use super::*;

struct NoFields;

impl Fields for NoFields {
    fn value(&self, _: &str) -> Option<Cow<'_, [u8]>> {
        None
    }
}

fn asked<'a>(host: &'a str, path: &'a str) -> Asked<'a> {
    Asked { listener: 0, host: host.as_bytes(), path: path.as_bytes(), query: b"", method: b"GET", fields: &NoFields }
}

fn route(rules: Rules) -> Route {
    Route {
        name: "route".into(),
        rules,
        action: Action::Forward(Forward::to(0)),
        access: Access::default(),
        exchange_timeout: None,
        body_max: None,
        response_fields: FieldEdits::default(),
    }
}

fn of(hosts: &[&str], path: PathRule) -> Route {
    route(Rules { hosts: hosts.iter().map(|host| Arc::from(*host)).collect(), path, ..Rules::default() })
}

fn prefix(path: &str) -> PathRule {
    PathRule::Prefix(path.into())
}

fn exact(path: &str) -> PathRule {
    PathRule::Exact(path.into())
}

fn regex(pattern: &str) -> PathRule {
    PathRule::Regex(pattern.into(), Box::new(expression::compile(&[pattern]).unwrap()))
}

fn found(table: &RouteTable, host: &str, path: &str) -> Option<usize> {
    table.find(&asked(host, path)).map(|found| found.index)
}

#[test]
fn hosts_are_exact_then_by_the_longest_wildcard_then_any() {
    let table = RouteTable::new(vec![
        of(&[], PathRule::Any),
        of(&["*.example.com"], PathRule::Any),
        of(&["a.example.com"], prefix("/only")),
        of(&["*.b.example.com"], PathRule::Any),
    ]);
    assert_eq!(found(&table, "a.example.com", "/only"), Some(2));
    assert_eq!(found(&table, "a.example.com", "/"), Some(1), "LoadX searches the next wider group");
    assert_eq!(found(&table, "x.y.example.com", "/"), Some(1), "one or more labels");
    assert_eq!(found(&table, "x.b.example.com", "/"), Some(3));
    assert_eq!(found(&table, "b.example.com", "/"), Some(1));
    assert_eq!(found(&table, "example.com", "/"), Some(0), "a wildcard needs a label");
    assert_eq!(found(&table, ".example.com", "/"), Some(0));
    assert_eq!(found(&table, "", "/"), Some(0));
}

#[test]
fn paths_are_exact_then_by_the_longest_prefix_then_by_expressions() {
    let table = RouteTable::new(vec![
        of(&[], regex("/v[0-9]+/.*")),
        of(&[], prefix("/v1")),
        of(&[], prefix("/v1/users")),
        of(&[], exact("/v1/users")),
        of(&[], prefix("")),
        of(&[], regex("/v9.*")),
    ]);
    assert_eq!(found(&table, "", "/v1/users"), Some(3));
    assert_eq!(found(&table, "", "/v1/users/7"), Some(2));
    assert_eq!(found(&table, "", "/v1/usersx"), Some(1), "whole segments");
    assert_eq!(found(&table, "", "/v1/"), Some(1));
    assert_eq!(found(&table, "", "/v10"), Some(4));
    assert_eq!(found(&table, "", "/v2/x"), Some(4), "the prefix / comes before expressions");
    let table = RouteTable::new(vec![of(&[], regex("/v9.*")), of(&[], regex("/v[0-9]+")), of(&[], PathRule::Any)]);
    assert_eq!(found(&table, "", "/v9"), Some(0), "the first in the file");
    assert_eq!(found(&table, "", "/v8"), Some(1));
    assert_eq!(found(&table, "", "/v8/x"), Some(2), "the whole path");
}

#[test]
fn a_route_with_more_conditions_comes_first() {
    let plain = of(&[], prefix("/a"));
    let mut method = of(&[], prefix("/a"));
    method.rules.methods = vec!["GET".into()];
    let mut query = of(&[], prefix("/a"));
    query.rules.query = vec![QueryRule { name: "debug".into(), value: "a b".into() }];
    let table = RouteTable::new(vec![plain, query, method]);
    assert_eq!(found(&table, "", "/a"), Some(2));
    let post = Asked { method: b"POST", ..asked("", "/a") };
    assert_eq!(table.find(&post).unwrap().index, 0);
    for matching in ["debug=a+b", "x=1&debug=a%20b", "%64ebug=a%20b&debug=2"] {
        assert_eq!(table.find(&Asked { query: matching.as_bytes(), ..post }).unwrap().index, 1, "{matching}");
    }
    for other in ["debug=2&debug=a+b", "debug", "debug=a%2", "debug=a+bc"] {
        assert_eq!(table.find(&Asked { query: other.as_bytes(), ..post }).unwrap().index, 0, "{other}");
    }
}

#[test]
fn a_path_has_one_normal_form() {
    let of = |path: &str| {
        let mut out = b"kept".to_vec();
        normalise(path.as_bytes(), &mut out).map(|normal| {
            assert!(normal == Normal::Changed || out == b"kept", "{path}");
            if normal == Normal::Changed { String::from_utf8(out.split_off(4)).unwrap() } else { path.to_owned() }
        })
    };
    for (path, normal) in [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/%61%2D%7e", "/a-~"),
        ("/%2f%3a", "/%2F%3A"),
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/%2e%2E/b", "/b"),
        ("/../..", "/"),
        ("/a/..", "/"),
        ("/a/.", "/a/"),
        ("/a/b/..", "/a/"),
        ("/a//../b", "/a/b"),
        ("/a|b/{id}/%7bx%7D", "/a%7Cb/%7Bid%7D/%7Bx%7D"),
        ("/a[0]^\"<>`", "/a%5B0%5D%5E%22%3C%3E%60"),
        ("/@a:b,c=d&e+f!g$h'i(j)k*l", "/@a:b,c=d&e+f!g$h'i(j)k*l"),
        ("/...", "/..."),
        ("/.a", "/.a"),
        ("//a", "//a"),
        ("*", "*"),
    ] {
        assert_eq!(of(path).as_deref(), Ok(normal), "{path}");
    }
    assert_eq!(of("/%zz"), Err(PathFault::Escape));
    assert_eq!(of("/%2"), Err(PathFault::Escape));
    assert_eq!(of("/%00"), Err(PathFault::Control));
    assert_eq!(of("/a\\b"), Err(PathFault::Backslash));
    assert_eq!(of("/\u{e9}"), Err(PathFault::NotAscii));
}

#[test]
fn a_path_with_readings_for_different_routes_is_refused() {
    let table = RouteTable::new(vec![of(&[], prefix("/admin")), of(&[], PathRule::Any)]);
    for bad in [
        "//admin",
        "/x/..%2Fadmin",
        "/x%2F..%2Fadmin/y",
        "/admin;x=1",
        "/x/..;/admin",
        "/admin%5Cx",
        "/a;/..//admin",
        "/x%5Cy%2F..%2Fadmin/f",
        "/x;%2Fp%2Fq/..%2F..%2Fadmin/f",
        "/files/..%2Fx",
        "/files/..;/x",
    ] {
        assert_eq!(table.find_unambiguous(&asked("", bad)).unwrap_err(), PathFault::Ambiguous, "{bad}");
    }
    for (good, index) in
        [("/x//y", 1), ("/files/a%2Fb", 1), ("/shop;s=1/x", 1), ("/admin/a%2Fb", 0), ("/admin/a;b=1", 0)]
    {
        assert_eq!(table.find_unambiguous(&asked("", good)).unwrap().unwrap().index, index, "{good}");
    }
}

#[test]
fn an_escape_cannot_hide_a_character_of_a_route() {
    let table = RouteTable::new(vec![
        of(&[], prefix("/wiki/Special:Export")),
        of(&[], prefix("/$metadata")),
        of(&[], exact("/@admin")),
        of(&[], PathRule::Any),
    ]);
    for bad in ["/wiki/Special%3AExport", "/wiki/Special%3aExport/x", "/%24metadata", "/%40admin", "/x%3B/..;/@admin"] {
        let mut normal = Vec::new();
        let path = match normalise(bad.as_bytes(), &mut normal).unwrap() {
            Normal::Changed => normal.as_slice(),
            Normal::Unchanged => bad.as_bytes(),
        };
        let asked = Asked { path, ..asked("", bad) };
        assert_eq!(table.find_unambiguous(&asked).unwrap_err(), PathFault::Ambiguous, "{bad}");
    }
    for (good, index) in [("/wiki/Special:Export", 0), ("/@admin", 2), ("/user/a%40b%2Bc", 3), ("/$metadata/a%3Ab", 1)]
    {
        assert_eq!(table.find_unambiguous(&asked("", good)).unwrap().unwrap().index, index, "{good}");
    }
}

#[test]
fn the_steps_of_a_reading_come_in_any_order() {
    let table = RouteTable::new(vec![of(&[], exact("/s/t/p/r")), of(&[], PathRule::Any)]);
    // A server decodes slashes, cuts parameters, and then decodes backslashes.
    let path = "/s%5Ct/p;m%5Cq%2Fr";
    assert_eq!(table.find_unambiguous(&asked("", path)).unwrap_err(), PathFault::Ambiguous);
}

#[test]
fn a_rewrite_cannot_be_escaped_even_by_the_only_route() {
    let mut rewriting = of(&[], PathRule::Any);
    let mut forward = Forward::to(0);
    forward.rewrite.path_prefix = Some("/app/public".into());
    rewriting.action = Action::Forward(forward);
    let table = RouteTable::new(vec![rewriting]);
    assert!(table.catch_all().is_none());
    for bad in ["/..%2Fprivate/f", "/..;/private/f", "/x%2F..%2F..%2Fprivate"] {
        assert_eq!(table.find_unambiguous(&asked("", bad)).unwrap_err(), PathFault::Ambiguous, "{bad}");
    }
}

#[test]
fn hosts_lose_case_port_and_trailing_dot() {
    for (typed, host) in [
        ("A.Example.:80", "a.example"),
        ("a:1", "a"),
        ("[::1]:80", "[::1]"),
        ("[2001:DB8::1]", "[2001:db8::1]"),
        ("[0:0:0::01]:80", "[::1]"),
        ("[v1.A]:1", "[v1.a]"),
        ("[", "["),
    ] {
        assert_eq!(*path::host(typed.as_bytes()), *host.as_bytes());
    }
}

#[test]
fn rewrites_cannot_make_another_origin() {
    let rewritten = |to: &str, rule: PathRule, path: &str| {
        let mut out = Vec::new();
        let rewrite = Rewrite { path_prefix: Some(to.into()), ..Rewrite::default() };
        assert!(rewrite.path(&rule, path.as_bytes(), &mut out));
        String::from_utf8(out).unwrap()
    };
    assert_eq!(rewritten("/", prefix("/v1"), "/v1/users"), "/users");
    assert_eq!(rewritten("/", prefix("/v1"), "/v1"), "/");
    assert_eq!(rewritten("/", prefix("/v1"), "/v1//evil.example"), "/evil.example");
    assert_eq!(rewritten("/new", prefix("/old"), "/old/a"), "/new/a");
    assert_eq!(rewritten("/new", prefix("/old"), "/old"), "/new");
    assert_eq!(rewritten("/new/", prefix("/old"), "/old/"), "/new/");
    assert_eq!(rewritten("/new", prefix(""), "/a"), "/new/a");
}

#[test]
fn a_split_is_in_proportion_and_keeps_a_client_at_one_cluster() {
    let mut split = Forward::to(0);
    split.split = vec![Share { cluster: 0, weight: 95 }, Share { cluster: 1, weight: 5 }];
    let to_second = (0..10_000u64).filter(|number| split.cluster(crate::stable_hash::mix(*number), || 0) == 1).count();
    assert!((400..600).contains(&to_second), "{to_second}");
    split.sticky = true;
    let of = |entropy| split.cluster(entropy, || u64::MAX);
    assert!((0..100).all(|entropy| of(entropy * (u64::MAX / 100)) == 1));
}

#[test]
fn a_template_refuses_unknown_variables() {
    assert_eq!(Template::<Variable>::parse("{client}").unwrap_err(), TemplateFault::Unknown("client".to_owned()));
    assert_eq!(Template::<Variable>::parse("a{host").unwrap_err(), TemplateFault::Open);
    struct Host;
    impl Values for Host {
        fn put(&self, variable: Variable, out: &mut Vec<u8>) {
            assert_eq!(variable, Variable::Host);
            out.extend_from_slice(b"a.example");
        }
    }
    let mut out = Vec::new();
    Template::<Variable>::parse("x{{y}={host}!").unwrap().put(&Host, &mut out);
    assert_eq!(out, b"x{y}=a.example!");
}

/// The route for a request, by a simple search of all routes that defines the order independently.
fn by_hand(routes: &[Route], host: &str, path: &str) -> Option<usize> {
    let rank = |(index, route): (usize, &Route)| {
        let covers = |pattern: &Arc<str>| match pattern.strip_prefix('*') {
            Some(suffix) => (host.len() > suffix.len() && host.ends_with(suffix)).then_some((false, suffix.len())),
            None => (host == &**pattern).then_some((true, pattern.len())),
        };
        let host_rank = match route.rules.hosts.is_empty() {
            true => Some((false, 0)),
            false => route.rules.hosts.iter().filter_map(covers).max(),
        }?;
        let path_rank = match &route.rules.path {
            PathRule::Any => Some((0, 0)),
            PathRule::Regex(_, regex) => regex.is_match(path).then_some((1, 0)),
            PathRule::Prefix(prefix) => {
                let rest = path.strip_prefix(&**prefix)?;
                (rest.is_empty() || rest.starts_with('/')).then_some((2, prefix.len()))
            }
            PathRule::Exact(exact) => (**exact == *path).then_some((3, 0)),
        }?;
        Some((host_rank, path_rank, Reverse(index)))
    };
    routes.iter().enumerate().filter_map(rank).max().map(|(_, _, Reverse(index))| index)
}

fn any_path() -> impl Strategy<Value = String> {
    prop::collection::vec("[ab]{1,2}", 0..4).prop_map(|segments| format!("/{}", segments.join("/")))
}

fn any_host() -> impl Strategy<Value = String> {
    prop::collection::vec("[ab]", 1..4).prop_map(|labels| labels.join("."))
}

fn any_route() -> impl Strategy<Value = Route> {
    let host = (any::<bool>(), any_host()).prop_map(|(wild, host)| if wild { format!("*.{host}") } else { host });
    let path = (0..4u8, any_path()).prop_map(|(kind, path)| match kind {
        0 => PathRule::Any,
        1 => exact(&path),
        2 => prefix(path.trim_end_matches('/')),
        _ => regex(&path.replace('b', "[ab]+")),
    });
    (prop::collection::vec(host, 0..3), path)
        .prop_map(|(hosts, path)| of(&hosts.iter().map(String::as_str).collect::<Vec<_>>(), path))
}

proptest! {
    #[test]
    fn the_table_finds_the_route_of_the_simple_search(
        routes in prop::collection::vec(any_route(), 0..12),
        requests in prop::collection::vec((any_host(), any_path()), 1..20),
    ) {
        let table = RouteTable::new(routes.clone());
        for (host, path) in requests {
            prop_assert_eq!(found(&table, &host, &path), by_hand(&routes, &host, &path), "{} {}", host, path);
        }
    }

    #[test]
    fn a_normal_form_is_its_own_normal_form(path in "/[a./%;2eEfF5cC]{0,20}") {
        let mut out = Vec::new();
        if let Ok(normal) = normalise(path.as_bytes(), &mut out) {
            let form = if normal == Normal::Changed { out } else { path.into_bytes() };
            let mut again = Vec::new();
            prop_assert_eq!(normalise(&form, &mut again), Ok(Normal::Unchanged), "{:?}", String::from_utf8(form));
        }
    }
}
