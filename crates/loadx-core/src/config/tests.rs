//! Valid and invalid config files.

mod resilience;

use std::time::Duration;

use super::*;
use crate::route::{Action, PathRule};
use crate::{Algorithm, HttpProbe, OutlierPolicy, Probe, RetryPolicy};

const SEED: &str = include_str!("../../../../config.json");

fn faults(text: &str) -> Vec<String> {
    let faults = parse(text).expect_err("the config has faults");
    faults.iter().map(|fault| format!("{}:{}: {} | {}", fault.line, fault.column, fault.message, fault.help)).collect()
}

/// A config with one valid backend and `entry`.
fn with(entry: &str) -> String {
    format!("{{\n  \"backend_servers\": [{{\"host\": \"a\", \"port\": 1}}],\n  {entry}\n}}")
}

#[test]
fn the_config_of_the_seed_runs_unchanged() {
    let config = parse(SEED).unwrap();
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.listeners[0].at, HostPort { host: "0.0.0.0".into(), port: 8080 });
    assert_eq!((config.routes.len(), config.clusters.len()), (1, 1));
    let cluster = &config.clusters[0];
    assert_eq!(cluster.algorithm, Algorithm::RoundRobin);
    assert_eq!(cluster.backends.len(), 3);
    assert_eq!(&*cluster.backends[0].name, "localhost:8001");
    assert_eq!(cluster.health.interval, Duration::from_secs(30));
    assert_eq!(cluster.health.timeout, Duration::from_secs(5));
    assert_eq!(config.max_connections, 1000);
    assert_eq!(config.timeouts.connect, Duration::from_secs(30));
    assert_eq!(config.timeouts.request, Duration::from_secs(30));
    assert_eq!(
        config.access_log,
        Some(AccessLogConfig { format: LogFormat::Human, fields: Vec::new(), filter: None, file: None })
    );
    assert!(config.metrics);
}

#[test]
fn fractions_of_seconds_are_seconds() {
    let config = parse(&with("\"health_check_interval\": 0.25")).unwrap();
    assert_eq!(config.clusters[0].health.interval, Duration::from_millis(250));
}

#[test]
fn an_algorithm_may_have_parameters() {
    let config = parse(&with(r#""algorithm": {"name": "ip_hash", "ipv4_prefix": 24}"#)).unwrap();
    assert_eq!(config.clusters[0].algorithm, Algorithm::IpHash(crate::KeyPrefixes { ipv4: 24, ipv6: 64 }));
    let config = parse(&with(r#""algorithm": {"name": "least_connections"}"#)).unwrap();
    assert_eq!(config.clusters[0].algorithm, Algorithm::LeastConnections);
    let wrong = faults(&with(r#""algorithm": {"name": "round_robin", "ipv4_prefix": 24}"#));
    assert!(wrong[0].contains("\"round_robin\" has no prefixes"), "{wrong:?}");
}

#[test]
fn every_fault_is_reported_at_once_with_its_place() {
    let text = r#"{
  "proxy_port": 80800,
  "algoritm": "round_robin",
  "algorithm": "round_robbin",
  "backend_servers": [
    {"host": "http://a:1/x", "port": 1},
    {"host": "b", "prt": 2},
    {"host": "c", "port": 3, "weight": 0}
  ],
  "enable_logging": "yes",
  "request_timeout": -1,
  "request_timeout": 1
}"#;
    assert_eq!(
        faults(text),
        [
            r#"2:17: "proxy_port" must be a whole number from 0 to 65535, not 80800 | write a whole number from 0 to 65535"#,
            r#"3:3: unknown key "algoritm" | did you mean "algorithm"?"#,
            r#"4:16: "algorithm" cannot be "round_robbin" | did you mean "round_robin"? Known values: round_robin, least_connections, ip_hash"#,
            r#"6:14: "host" is not a host name or IP address | remove the scheme and the port: "a""#,
            r#"7:5: entry 2 of "backend_servers" lacks "port" | add "port""#,
            r#"7:19: unknown key "prt" | did you mean "port"?"#,
            r#"8:40: "weight" must be a whole number from 1 to 1000, not 0 | write a whole number from 1 to 1000"#,
            r#"10:21: "enable_logging" must be true or false, not the text "yes" | write true or false"#,
            r#"11:22: "request_timeout" must be a number of seconds from 0.01 to 86400, not -1 | write a number of seconds from 0.01 to 86400"#,
            r#"12:3: "request_timeout" appears twice | keep one of the two"#,
        ]
    );
}

#[test]
fn backends_must_exist_and_differ() {
    assert!(faults(r#"{"backend_servers": []}"#)[0].contains("is empty"));
    assert!(faults("{}")[0].contains(r#"the file lacks "backend_servers""#));
    let twice = r#"{"backend_servers": [{"host": "A", "port": 1}, {"host": "a", "port": 1, "weight": 2}]}"#;
    assert!(faults(twice)[0].contains("a:1 is listed twice"));
    let named =
        r#"{"backend_servers": [{"host": "a", "port": 1, "name": "x"}, {"host": "b", "port": 1, "name": "x"}]}"#;
    assert!(faults(named)[0].contains("two backends are named \"x\""));
}

#[test]
fn the_fault_of_invalid_json_has_its_place() {
    assert!(faults("{\n  \"proxy_port\": 8080,,\n}")[0].starts_with("3:1: not valid JSON"));
    assert!(faults("")[0].contains("the file is empty"));
    assert!(faults("{\"a\": 1")[0].contains("not closed"));
    assert!(faults("[]")[0].contains("must be an object, not a list"));
    assert!(faults("{\"é\": nul}")[0].contains("not valid JSON"));
}

#[test]
fn a_fault_shows_the_line_and_marks_the_text() {
    let text = with("\"algorithm\": \"fastest\"");
    let faults = parse(&text).unwrap_err();
    let shown = faults.iter().next().unwrap().display("config.json").to_string();
    assert_eq!(
        shown,
        "config.json:3:16: \"algorithm\" cannot be \"fastest\"\n  \
         3 |   \"algorithm\": \"fastest\"\n    \
           |                ^^^^^^^^^\n  \
         help: known values: round_robin, least_connections, ip_hash"
    );
}

#[test]
fn hosts_may_be_names_and_addresses_of_both_families() {
    for host in ["localhost", "app_1.internal", "10.0.0.7", "::1", "[::1]"] {
        let config = parse(&format!(r#"{{"backend_servers": [{{"host": "{host}", "port": 80}}]}}"#)).unwrap();
        assert!(!config.clusters[0].backends[0].host.contains('['));
    }
    assert!(
        faults(r#"{"backend_servers": [{"host": "a:80", "port": 80}]}"#)[0]
            .contains("remove the port, which has a separate key")
    );
}

#[test]
fn networks_may_be_single_addresses() {
    let config = parse(&with(r#""trusted_proxies": ["10.0.0.0/8", "192.0.2.1", "fd00::/8"]"#)).unwrap();
    assert_eq!(config.trusted_proxies.len(), 3);
    let mapped = parse(&with(r#""trusted_proxies": ["::ffff:10.0.0.0/104", "::ffff:127.0.0.1"]"#)).unwrap();
    assert_eq!(mapped.trusted_proxies, ["10.0.0.0/8", "127.0.0.1/32"].map(|net| net.parse().unwrap()));
    assert!(faults(&with(r#""trusted_proxies": ["10.0.0.0/33"]"#))[0].contains("not an IP address or network"));
}

#[test]
fn the_schema_has_every_key_with_its_default() {
    let schema = schema();
    let properties = schema["properties"].as_object().unwrap();
    let seed: serde_json::Value = serde_json::from_str(SEED).unwrap();
    for key in seed.as_object().unwrap().keys() {
        assert!(properties.contains_key(key), "{key}");
    }
    assert_eq!(properties["proxy_port"]["default"], 8080);
    assert_eq!(properties["algorithm"]["anyOf"][0]["enum"][1], "least_connections");
    assert_eq!(properties["algorithm"]["default"], "round_robin");
    assert_eq!(properties["backend_servers"]["items"]["properties"]["weight"]["maximum"], 1000);
    assert_eq!(properties["endpoints_allow"]["default"][0], "127.0.0.0/8");
    for (key, property) in properties {
        assert!(property["description"].as_str().unwrap().len() > 10, "{key}");
    }
}

#[test]
fn arguments_make_a_config() {
    let listen = HostPort { host: "127.0.0.1".into(), port: 9000 };
    let to = HostPort { host: "localhost".into(), port: 8001 };
    let config =
        from_arguments(&Arguments { listen: &listen, backends: &[to], backend_tls: false, https: &[], redirect: None })
            .unwrap();
    assert_eq!((&config.listeners[0].at, config.clusters[0].backends.len()), (&listen, 1));
}

#[test]
fn no_text_can_panic() {
    for end in 0..SEED.len() {
        let _ = parse(&SEED[..end]);
        let _ = parse(&format!("{}\u{fffd}{}", &SEED[..end], &SEED[end..]));
    }
}

const MANY: &str = r#"{
  // An application and its next version on one address.
  "$schema": "https://example.com/loadx.json",
  "listeners": [
    {"name": "web", "address": ":8080"},
    {"name": "internal", "address": "127.0.0.1:9000", "endpoints": true},
  ],
  "request_timeout": 7,
  "routes": [
    {"name": "api", "hosts": ["API.example.com", "*.api.example.com"], "path_prefix": "/v1/",
     "methods": ["GET"], "headers": {"X-Canary": "yes"}, "query": {"debug": "1"}, "listeners": ["web"],
     "cluster": "api", "rewrite": {"path_prefix": "/"},
     "request_headers": {"set": {"x-env": "${ENV:-prod}"}, "remove": ["x-debug"]}, "timeouts": {"exchange": 10}},
    {"split": [{"cluster": "web", "weight": 95}, {"cluster": "api", "weight": 5}], "split_by": "client"},
    {"hosts": ["old.example.com"], "redirect": {"host": "shop.example.com"}},
    {"path": "/robots.txt", "respond": {"body": "User-agent: *\n"}, "deny": ["192.0.2.0/24"]}
  ],
  "clusters": {
    "api": {"algorithm": "least_connections", "backends": ["10.0.0.1:8080", {"host": "b", "port": 80, "weight": 2}],
            "health": {"path": "/healthz", "interval": 2}, "resolve": "each"},
    "web": {"backends": ["[::1]:${PORT}"], "health": {"probe": "tcp"}, "request_timeout": 1}
  }
}"#;

#[test]
fn many_listeners_routes_and_clusters() {
    let config = parse_with(MANY, &|name| (name == "PORT").then(|| "8001".to_owned())).unwrap();
    let listeners: Vec<_> = config.listeners.iter().map(|one| (&*one.name, one.at.port, one.endpoints)).collect();
    assert_eq!(listeners, [("web", 8080, false), ("internal", 9000, true)]);
    assert_eq!(config.listeners[0].at.host, "0.0.0.0");
    let api = &config.routes[0];
    assert_eq!(&*api.rules.hosts[0], "api.example.com");
    assert_eq!(api.rules.path, PathRule::Prefix("/v1".into()));
    assert_eq!((&*api.rules.fields[0].name, api.rules.listeners[0]), ("x-canary", 0));
    assert_eq!(api.exchange_timeout, Some(Duration::from_secs(10)));
    let Action::Forward(split) = &config.routes[1].action else { panic!("{:?}", config.routes[1]) };
    assert_eq!((split.split[0].cluster, split.sticky), (1, true));
    assert_eq!(&*config.routes[1].name, "route-2");
    let [first, second] = &config.clusters[..] else { panic!("{:?}", config.clusters) };
    assert_eq!((first.backends.len(), first.resolve_each), (2, true));
    assert_eq!(first.health.interval, Duration::from_secs(2));
    assert_eq!(first.health.probe, Probe::Http(Box::new(HttpProbe::get("/healthz"))));
    assert_eq!((first.attempt.response, second.attempt.response), (Duration::from_secs(7), Duration::from_secs(1)));
    assert_eq!(second.health.probe, Probe::Connect);
    assert_eq!((&*second.backends[0].host, second.backends[0].port), ("::1", 8001));
}

#[test]
fn hosts_have_one_spelling() {
    let hosts = |routes: &str| {
        let config =
            parse(&format!(r#"{{"clusters": {{"a": {{"backends": ["b:1"]}}}}, "routes": [{routes}]}}"#)).unwrap();
        let Action::Forward(forward) = &config.routes[0].action else { panic!("{config:?}") };
        (
            config.routes[0].rules.hosts.first().map(ToString::to_string),
            forward.rewrite.host.as_deref().map(str::to_owned),
        )
    };
    for (typed, host) in [("A.Example.", "a.example"), ("[0:0::01]", "[::1]"), ("*.A", "*.a")] {
        let route = format!(r#"{{"cluster": "a", "hosts": ["{typed}"]}}"#);
        assert_eq!(hosts(&route).0.as_deref(), Some(host), "{typed}");
    }
    for (typed, host) in
        [("A.b:80", "a.b:80"), ("a.", "a"), ("[0::1]:1", "[::1]:1"), ("[::1]", "[::1]"), ("a.:65535", "a:65535")]
    {
        let route = format!(r#"{{"cluster": "a", "rewrite": {{"host": "{typed}"}}}}"#);
        assert_eq!(hosts(&route).1.as_deref(), Some(host), "{typed}");
    }
}

#[test]
fn faults_of_routes_have_a_place_and_a_fix() {
    let backends = r#""clusters": {"web": {"backends": ["a:1"]}}"#;
    for (typed, fault) in [
        (r#""routes": [{"cluster": "wbe"}]"#, "there is no cluster named \"wbe\" | the file has: web"),
        (r#""routes": [{"hosts": ["a"]}]"#, "the route has no action"),
        (r#""routes": [{"cluster": "web", "redirect": {}}]"#, "a route cannot have both \"cluster\" and \"redirect\""),
        (r#""routes": [{"cluster": "web", "path": "/a", "path_regex": "/b"}]"#, "a route cannot have both"),
        (r#""routes": [{"cluster": "web", "path_prefix": "/a/../b"}]"#, "write \"/b\""),
        (r#""routes": [{"cluster": "web", "path_regex": "/(a"}]"#, "cannot be compiled"),
        (r#""routes": [{"cluster": "web", "hosts": ["a:80"]}]"#, "remove the scheme and the port"),
        (r#""routes": [{"cluster": "web", "methods": ["get"]}]"#, "write \"GET\""),
        (r#""routes": [{"cluster": "web", "request_headers": {"set": {"host": "a"}}}]"#, "\"host\" cannot be changed"),
        (r#""routes": [{"cluster": "web", "request_headers": {"set": {"a": "{ip}"}}}]"#, "no variable is named \"ip\""),
        (r#""routes": [{"respond": {}, "mirror": "web"}]"#, "this route has no cluster"),
        (r#""routes": [{"respond": {}, "response_headers": {"remove": ["a"]}}]"#, "this route has no cluster"),
        (r#""routes": [{"redirect": {"host": "*.a"}}]"#, "is a pattern for many hosts | write one host"),
        (r#""routes": [{"cluster": "web", "rewrite": {"host": "*.a"}}]"#, "write one host, not a pattern"),
        (r#""routes": [{"cluster": "web", "rewrite": {"host": "a:0"}}]"#, "is not a host, or a host and a port"),
        (r#""routes": [{"cluster": "web", "rewrite": {"host": "a:"}}]"#, "is not a host, or a host and a port"),
        (r#""routes": [{"cluster": "web", "rewrite": {"host": "[::1]x"}}]"#, "is not a host, or a host and a port"),
        (r#""routes": [{"cluster": "web", "rewrite": {"host": "::1"}}]"#, "is not a host, or a host and a port"),
        (r#""routes": []"#, "\"routes\" is empty"),
        (r#""routes": [{"cluster": "web", "rewrite": {"path": "/a/../b"}}]"#, "normal form | write \"/b\""),
        (r#""routes": [{"cluster": "web", "rewrite": {"path": "//evil"}}]"#, "begins with //"),
        (r#""routes": [{"cluster": "web", "rewrite": {"path": "/x/..//evil"}}]"#, "write \"/evil\""),
        (r#""routes": [{"cluster": "web", "rewrite": {"path": "/%zz"}}]"#, "a % without two hexadecimal digits"),
        (r#""routes": [{"cluster": "web", "rewrite": {"path": "/%61"}}]"#, "normal form | write \"/a\""),
        (r#""routes": [{"cluster": "web", "rewrite": {"path": "/a?b"}}]"#, "a rewritten path cannot have a query"),
        (r#""routes": [{"cluster": "web", "rewrite": {"path_prefix": "/x/.."}}]"#, "normal form | write \"/\""),
        (r#""routes": [{"cluster": "web", "rewrite": {"path_prefix": "//e"}}]"#, "write \"/e\""),
        (r#""routes": [{"redirect": {"path": "//evil"}}]"#, "write \"/evil\""),
        (r#""routes": [{"cluster": "web", "path": "/./a?b"}]"#, "a path cannot have a query"),
        (r#""routes": [{"cluster": "web", "headers": {"x y": "1"}}]"#, "\"x y\" is not a field name"),
        (r#""routes": [{"cluster": "web", "query": {"": "1"}}]"#, "a query parameter has no name"),
        (r#""routes": [{"cluster": "web", "split_by": "client"}]"#, "\"split_by\" needs a \"split\""),
        (r#""routes": [{"respond": {"status": 204, "body": "x"}}]"#, "a response with status 204 has no content"),
        (r#""routes": [{"respond": {"status": 205, "body": "x"}}]"#, "a response with status 205 has no content"),
        (r#""routes": [{"respond": {"status": 304, "body": "x"}}]"#, "a response with status 304 has no content"),
        (r#""routes": [{"cluster": "web", "hosts": ["::1"]}]"#, "\"[::1]\""),
        (r#""listeners": [{"address": "a"}]"#, "is not a host and a port"),
        (
            r#""listeners": [{"address": ":1"}], "proxy_port": 2"#,
            "a file cannot have both \"proxy_port\" and \"listeners\" | move \"proxy_port\"",
        ),
        (
            r#""backend_servers": [{"host": "a", "port": 1}]"#,
            "both \"backend_servers\" and \"clusters\" | move \"backend_servers\"",
        ),
        (r#""via": "${NAME}""#, "the environment variable NAME is not set"),
    ] {
        let reported = faults(&format!("{{{typed}, {backends}}}"));
        assert!(reported.iter().any(|one| one.contains(fault)), "{typed}: {reported:?}");
    }
    let several = r#"{"clusters": {"a": {"backends": ["a:1"]}, "b": {"backends": ["b:1"]}}}"#;
    assert!(faults(several)[0].contains("several clusters and no \"routes\""));
    let added = r#""routes": [{"cluster": "web", "request_headers": {"add": {"a": "1", "A": "2"}}}]"#;
    assert!(parse(&format!("{{{added}, {backends}}}")).is_ok(), "a route may add a field more than once");
}

#[test]
fn a_file_without_forwarding_routes_needs_no_cluster() {
    let routes = r#""routes": [{"path": "/", "redirect": {"path": "/a"}}, {"respond": {"status": 404}}]"#;
    for clusters in ["", r#", "clusters": {}"#] {
        let config = parse(&format!("{{{routes}{clusters}}}")).unwrap();
        assert_eq!((config.routes.len(), config.clusters.len()), (2, 0));
    }
    let forwards = r#""routes": [{"cluster": "web"}]"#;
    let missing = faults(&format!("{{{forwards}}}"));
    assert!(missing[0].contains("the file lacks \"backend_servers\""), "{missing:?}");
    assert!(missing[1].contains("there is no cluster named \"web\" | the file has no cluster"), "{missing:?}");
    let empty = faults(&format!("{{{forwards}, \"clusters\": {{}}}}"));
    assert!(empty.iter().any(|fault| fault.contains("\"clusters\" is empty")), "{empty:?}");
    assert!(faults(r#"{"clusters": {}}"#)[0].contains("\"clusters\" is empty"));
}

#[test]
fn listeners_that_wait_for_the_same_connections_are_a_fault() {
    let parsed = |first: &str, second: &str| {
        parse(&format!(
            r#"{{"listeners": [{{"name": "a", "address": "{first}"}}, {{"address": "{second}"}}],
                "backend_servers": [{{"host": "192.0.2.1", "port": 1}}]}}"#
        ))
    };
    for (first, second) in [
        ("0.0.0.0:80", "127.0.0.1:80"),
        (":80", "192.0.2.1:80"),
        ("[::]:80", "127.0.0.1:80"),
        ("[::1]:80", "[::]:80"),
        ("[::]:80", "0.0.0.0:80"),
        ("localhost:80", "0.0.0.0:80"),
        ("localhost:80", "[::1]:80"),
        ("[::ffff:127.0.0.1]:80", "127.0.0.1:80"),
    ] {
        let faults = parsed(first, second).unwrap_err();
        let message = &faults.iter().next().unwrap().message;
        let second = second.replace("[::ffff:", "");
        assert!(message.contains("the listeners \"a\" (") && message.contains(&second), "{first} {second}: {message}");
    }
    for (first, second) in [
        ("0.0.0.0:80", "[::1]:80"),
        ("0.0.0.0:80", "127.0.0.1:81"),
        ("0.0.0.0:0", "127.0.0.1:0"),
        ("127.0.0.1:80", "192.0.2.1:80"),
        ("app.internal:80", "0.0.0.0:80"),
    ] {
        assert!(parsed(first, second).is_ok(), "{first} {second}");
    }
    let config = parsed("127.0.0.1:80", "[::1]:80").unwrap();
    assert_eq!(&*config.listeners[1].name, "[::1]:80", "a listener without a name is named as its address");
}

#[test]
fn a_wrong_value_of_the_environment_is_shown() {
    let environment = |name: &str| Some(if name == "PORT" { "80a" } else { "" }.to_owned());
    let fault = |port: &str| {
        let text = format!(r#"{{"backend_servers": [{{"host": "a", "port": "{port}"}}]}}"#);
        parse_with(&text, &environment).unwrap_err().iter().next().unwrap().message.clone()
    };
    let wanted = "\"port\" must be a whole number from 1 to 65535, not";
    assert_eq!(fault("${PORT}"), format!("{wanted} \"80a\", the value of \"${{PORT}}\""));
    assert_eq!(fault("x${EMPTY}"), format!("{wanted} \"x\", the value of \"x${{EMPTY}}\""));
}

#[test]
fn a_value_of_the_environment_is_never_a_template() {
    struct Never;
    impl crate::route::Values for Never {
        fn put(&self, _: crate::route::Variable, out: &mut Vec<u8>) {
            out.extend_from_slice(b"VALUE");
        }
    }
    let environment = |name: &str| (name == "SECRET").then(|| "a{host}{{{".to_owned());
    let written = |value: &str| {
        let text = format!(
            r#"{{"routes": [{{"cluster": "a", "request_headers": {{"set": {{"x": "{value}"}}}}}}],
                "clusters": {{"a": {{"backends": ["b:1"]}}}}}}"#
        );
        let config = parse_with(&text, &environment).unwrap();
        let Action::Forward(forward) = &config.routes[0].action else { panic!("{config:?}") };
        let mut out = Vec::new();
        forward.request_fields.put_added(&Never, &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(written("${SECRET} {host}"), "x: a{host}{{{ VALUE\r\n");
    assert_eq!(written("{{host}"), "x: {host}\r\n");
    assert_eq!(written("$${host}"), "x: ${host}\r\n");
    assert_eq!(written("${NONE:-b}"), "x: b\r\n");
}

#[test]
fn local_names_are_those_that_no_public_authority_signs() {
    for name in ["localhost", "app.localhost", "db.internal", "127.0.0.1", "::1", "192.0.2.7"] {
        assert!(is_local_name(name), "{name}");
    }
    for name in ["example.com", "internal.example.com", "notlocalhost", "myinternal", "web", ""] {
        assert!(!is_local_name(name), "{name}");
    }
}

#[test]
fn resilience_is_a_word_or_an_object_and_a_cluster_may_have_its_own() {
    let text = r#"{
  "resilience": "off",
  "clusters": {
    "a": { "backends": ["h:1"] },
    "b": { "backends": ["h:1"], "resilience": "standard" },
    "c": { "backends": ["h:1"], "resilience": { "outliers": "off", "retries": { "statuses": [503], "max": 1 } } },
    "d": { "backends": ["h:1"], "resilience": { "outliers": { "failures_in_a_row": 3, "slow_factor": 0 } } }
  },
  "routes": [{ "cluster": "a" }]
}"#;
    let config = parse(text).unwrap();
    let of = |index: usize| (&config.clusters[index].health.outliers, config.clusters[index].attempt.retry);
    let standard = (&Some(OutlierPolicy::default()), RetryPolicy::default());
    assert_eq!(of(0), (&None, RetryPolicy::off()));
    assert_eq!(of(1), standard);
    let (outliers, retry) = of(2);
    assert_eq!((outliers, retry.resends_max, retry.statuses.iter().collect()), (&None, 1, vec![503]));
    let changed = OutlierPolicy { in_a_row: 3, slow_factor: None, ..OutlierPolicy::default() };
    assert_eq!(of(3), (&Some(changed), RetryPolicy::default()));
    assert_eq!(
        faults(r#"{"backend_servers": [{"host": "h", "port": 1}], "resilience": "standart"}"#),
        [r#"1:63: "resilience" cannot be "standart" | did you mean "standard"?"#]
    );
    let parts = r#"{"outliers": {"ejection_time": 400, "max_ejection_time": 300}, "retries": 3}"#;
    assert_eq!(
        faults(&format!(r#"{{"backend_servers": [{{"host": "h", "port": 1}}], "resilience": {parts}}}"#)),
        [
            r#"1:76: "max_ejection_time" is shorter than "ejection_time" | raise "max_ejection_time", or remove it"#,
            r#"1:137: "retries" must be "off" or an object, not 3 | write "off" or an object"#
        ]
    );
}
