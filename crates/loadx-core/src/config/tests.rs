//! The config as people type it, right and wrong.

use super::*;

const SEED: &str = include_str!("../../../../config.json");

fn faults(text: &str) -> Vec<String> {
    let faults = parse(text).expect_err("the config is wrong");
    faults.iter().map(|fault| format!("{}:{}: {} | {}", fault.line, fault.column, fault.message, fault.help)).collect()
}

/// A config with one good backend and `entry` beside it.
fn with(entry: &str) -> String {
    format!("{{\n  \"backend_servers\": [{{\"host\": \"a\", \"port\": 1}}],\n  {entry}\n}}")
}

#[test]
fn the_config_of_the_seed_runs_unchanged() {
    let config = parse(SEED).unwrap();
    assert_eq!(config.listen, HostPort { host: "0.0.0.0".into(), port: 8080 });
    assert_eq!(config.algorithm, Algorithm::RoundRobin);
    assert_eq!(config.backends.len(), 3);
    assert_eq!(&*config.backends[0].name, "localhost:8001");
    assert_eq!(config.health.interval, Duration::from_secs(30));
    assert_eq!(config.health.timeout, Duration::from_secs(5));
    assert_eq!(config.max_connections, 1000);
    assert_eq!(config.timeouts.connect, Duration::from_secs(30));
    assert_eq!(config.timeouts.request, Duration::from_secs(30));
    assert_eq!(config.access_log, Some(AccessLogConfig { format: LogFormat::Human, file: None }));
    assert!(config.metrics);
}

#[test]
fn fractions_of_seconds_are_seconds() {
    let config = parse(&with("\"health_check_interval\": 0.25")).unwrap();
    assert_eq!(config.health.interval, Duration::from_millis(250));
}

#[test]
fn an_algorithm_may_have_parameters() {
    let config = parse(&with(r#""algorithm": {"name": "ip_hash", "ipv4_prefix": 24}"#)).unwrap();
    assert_eq!(config.algorithm, Algorithm::IpHash(crate::KeyPrefixes { ipv4: 24, ipv6: 64 }));
    let config = parse(&with(r#""algorithm": {"name": "least_connections"}"#)).unwrap();
    assert_eq!(config.algorithm, Algorithm::LeastConnections);
    let wrong = faults(&with(r#""algorithm": {"name": "round_robin", "ipv4_prefix": 24}"#));
    assert!(wrong[0].contains("\"round_robin\" has no prefixes"), "{wrong:?}");
}

#[test]
fn every_fault_is_told_at_once_with_its_place() {
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
            r#"4:16: "algorithm" cannot be "round_robbin" | did you mean "round_robin"? It can be: round_robin, least_connections, ip_hash"#,
            r#"6:14: "host" is not a host name or IP address | leave out the scheme and the port: "a""#,
            r#"7:5: entry 2 of "backend_servers" lacks "port" | add "port""#,
            r#"7:19: unknown key "prt" | did you mean "port"?"#,
            r#"8:40: "weight" must be a whole number from 1 to 1000, not 0 | write a whole number from 1 to 1000"#,
            r#"10:21: "enable_logging" must be true or false, not the text "yes" | write true or false"#,
            r#"11:22: "request_timeout" must be a number of seconds from 0.01 to 86400, not -1 | write a number of seconds from 0.01 to 86400"#,
            r#"12:3: "request_timeout" appears twice | keep one of the two; they cannot both hold"#,
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
fn what_is_no_json_says_where_it_stops_being_json() {
    assert_eq!(
        faults("{\n  \"proxy_port\": 8080,\n}")[0].split(" | ").next(),
        Some("3:1: not valid JSON: trailing comma")
    );
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
         help: it can be: round_robin, least_connections, ip_hash"
    );
}

#[test]
fn hosts_may_be_names_and_addresses_of_both_families() {
    for host in ["localhost", "app_1.internal", "10.0.0.7", "::1", "[::1]"] {
        let config = parse(&format!(r#"{{"backend_servers": [{{"host": "{host}", "port": 80}}]}}"#)).unwrap();
        assert!(!config.backends[0].host.contains('['));
    }
    assert!(
        faults(r#"{"backend_servers": [{"host": "a:80", "port": 80}]}"#)[0].contains("the port has a key of its own")
    );
}

#[test]
fn networks_may_be_single_addresses() {
    let config = parse(&with(r#""trusted_proxies": ["10.0.0.0/8", "192.0.2.1", "fd00::/8"]"#)).unwrap();
    assert_eq!(config.trusted_proxies.len(), 3);
    assert!(faults(&with(r#""trusted_proxies": ["10.0.0.0/33"]"#))[0].contains("not an IP address or network"));
}

#[test]
fn the_schema_tells_every_key_with_its_default() {
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
    let config = from_arguments(&listen, &[to]).unwrap();
    assert_eq!((config.listen, config.backends.len()), (listen, 1));
}

#[test]
fn nothing_typed_can_panic() {
    for end in 0..SEED.len() {
        let _ = parse(&SEED[..end]);
        let _ = parse(&format!("{}\u{fffd}{}", &SEED[..end], &SEED[end..]));
    }
}
