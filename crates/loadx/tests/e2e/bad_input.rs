//! Wrong configs and wrong command lines: LoadX explains each mistake, exits with status 2, and never panics.

use crate::support::{Output, loadx};

fn check(text: &str) -> Output {
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("config.json");
    std::fs::write(&path, text).unwrap();
    let check = loadx(&["check", path.to_str().unwrap()]);
    let run = loadx(&["run", "--config", path.to_str().unwrap()]);
    assert_eq!((check.code, &check.stderr), (run.code, &run.stderr), "run and check tell the same");
    check
}

#[test]
fn bad_configs_are_told_clearly() {
    let good = r#"{"host": "a", "port": 1}"#;
    let with = |entry: &str| format!("{{\"backend_servers\": [{good}], {entry}}}");
    let backends = |list: &str| format!("{{\"backend_servers\": {list}}}");
    for (text, told) in [
        (
            with(r#""proxy_port": "8080""#),
            "\"proxy_port\" must be a whole number from 0 to 65535, not the text \"8080\"",
        ),
        (with(r#""proxy_port": 65536"#), "\"proxy_port\" must be"),
        (with(r#""proxy_port": 80.5"#), "\"proxy_port\" must be"),
        (with(r#""proxy_port": null"#), "\"proxy_port\" must be"),
        (with(r#""proxy_host": 7"#), "\"proxy_host\" must be"),
        (with(r#""algorithm": "random""#), "known values: round_robin, least_connections, ip_hash"),
        (
            with(r#""health_check_interval": 0"#),
            "\"health_check_interval\" must be a number of seconds from 0.01 to 86400",
        ),
        (with(r#""health_check_timeout": 1e300"#), "\"health_check_timeout\" must be"),
        (with(r#""max_connections": 0"#), "\"max_connections\" must be"),
        (with(r#""max_connections": -1"#), "\"max_connections\" must be"),
        (with(r#""enable_logging": 1"#), "\"enable_logging\" must be true or false"),
        (with(r#""log_fields": ["cookie"]"#), "known values: host, user_agent, referer"),
        (with(r#""log_fields": ["host", "host"]"#), "\"host\" is listed twice"),
        (with(r#""workers": 0"#), "\"workers\" must be"),
        (with(r#""health_check_path": "health""#), "must be a path that begins with /"),
        (with(r#""trusted_proxies": "10.0.0.0/8""#), "\"trusted_proxies\" must be a list"),
        (with(r#""max_conections": 5"#), "did you mean \"max_connections\"?"),
        (with(r#""zzz": 5"#), "known keys here: "),
        (backends("[]"), "\"backend_servers\" is empty"),
        (backends("{}"), "\"backend_servers\" must be a list"),
        (backends(&format!("[{good}, {good}]")), "a:1 is listed twice"),
        (backends(r#"[{"host": "a"}]"#), "lacks \"port\""),
        (backends(r#"[{"host": "a", "port": 0}]"#), "\"port\" must be"),
        (backends(r#"["a"]"#), "must be an object"),
        (with(r#""routes": []"#), "\"routes\" is empty"),
        (with(r#""clusters": {}"#), "a file cannot have both \"backend_servers\" and \"clusters\""),
        (backends(r#"[{"host": "", "port": 1}]"#), "\"host\" must not be empty"),
        ("{}".to_owned(), "lacks \"backend_servers\""),
        (String::new(), "the file is empty"),
        ("[1, 2".to_owned(), "not valid JSON"),
        ("{\"a\": 1,,}".to_owned(), "remove the comma"),
    ] {
        let output = check(&text);
        assert_eq!(output.code, Some(2), "{text}: {output:?}");
        assert!(output.stderr.contains(told), "{text}\n{}", output.stderr);
        assert!(output.stderr.contains("help: "), "{}", output.stderr);
        assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
    }
}

#[test]
fn faults_of_routes_have_a_reason() {
    let route = |keys: &str| {
        format!(r#"{{"clusters": {{"a": {{"backends": ["b:1"]}}}}, "routes": [{{"cluster": "a", {keys}}}]}}"#)
    };
    for (text, told) in [
        (route(r#""path_regex": "/(a""#), "\"path_regex\" cannot be compiled: unclosed group\n"),
        (route(r#""path_regex": "/[b-a]""#), "cannot be compiled: invalid character class range"),
        (
            route(r#""path_regex": "/[a-z]{10000}""#),
            "cannot be compiled: the compiled expression takes more than 64 KiB\n",
        ),
        (
            route(r#""methods": ["get"]"#),
            "help: write \"GET\": methods are case-sensitive; LoadX expects a method such as GET",
        ),
        (route(r#""methods": ["G T"]"#), "entry 1 of \"methods\" is not a method: \"G T\""),
        (route(r#""methods": [""]"#), "help: write a method such as GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS"),
        (route(r#""methods": [1]"#), "must be a method such as GET"),
        (
            route(r#""request_headers": {"set": {"x-env": "1", "X-Env": "2"}}"#),
            "\"x-env\" and \"X-Env\" are the same field, twice in one \"set\"",
        ),
        (route(r#""response_headers": {"set": {"a": "1", "a": "2"}}"#), "\"a\" appears twice"),
        (route(r#""headers": {"a": "1", "A": "2"}"#), "are the same field, twice in one \"headers\""),
        (
            "{\n  \"proxy_port\": 80,\n  /* open\n  \"workers\": 1\n}\n".to_owned(),
            "config.json:3:3: the comment that begins in line 3 has no end\n",
        ),
    ] {
        let output = check(&text);
        assert_eq!(output.code, Some(2), "{text}: {output:?}");
        assert!(output.stderr.contains(told) && output.stderr.contains("help: "), "{text}\n{}", output.stderr);
    }
}

#[test]
fn all_faults_of_a_file_are_told_at_once() {
    let output = check("{\n  \"proxy_port\": 99999,\n  \"algoritm\": 1,\n  \"backend_servers\": []\n}");
    for place in ["config.json has 3 faults", "config.json:2:17:", "config.json:3:3:", "config.json:4:22:"] {
        assert!(output.stderr.contains(place), "{place}: {}", output.stderr);
    }
}

#[test]
fn files_that_cannot_be_read_are_told() {
    let directory = tempfile::TempDir::new().unwrap();
    let missing = directory.path().join("none.json");
    let output = loadx(&["run", "--config", missing.to_str().unwrap()]);
    assert_eq!(output.code, Some(2));
    assert!(
        output.stderr.contains("No such file or directory") && output.stderr.contains("loadx run --to"),
        "{output:?}"
    );
    let output = loadx(&["check", directory.path().to_str().unwrap()]);
    assert_eq!(output.code, Some(2), "{output:?}");
    let binary = directory.path().join("binary.json");
    std::fs::write(&binary, [b'{', 0xff, 0xfe]).unwrap();
    let output = loadx(&["check", binary.to_str().unwrap()]);
    assert_eq!(output.code, Some(2));
    assert!(output.stderr.contains("not UTF-8 text from byte 1 on"), "{output:?}");
}

#[test]
fn arguments_are_checked() {
    for (arguments, told) in [
        (vec!["run", "--to", "localhost"], "port is missing"),
        (vec!["run", "--to", "https://localhost:8001", "--to", "localhost:8002"], "others have not"),
        (vec!["run", "--to", "a:1", "--https", "http://x.test"], "write a name without scheme and port"),
        (vec!["run", "--to", "a:1", "--https", "*.x.test"], "dns_hook"),
        (vec!["run", "--to", "http://localhost:8001/api"], "a path is not possible here"),
        (vec!["run", "--to", "a:1", "--listen", "8089"], "write :8089"),
        (vec!["run", "--to", "a:1", "--algorithm", "random"], "round_robin, least_connections, ip_hash"),
        (vec!["run", "--to", "a:1", "--health-path", "live"], "write a path that begins with /"),
        (vec!["run", "--algorithm", "ip_hash"], "--to"),
        (vec!["run", "--health-path", "/live"], "--to"),
        (vec!["run", "--config", "x", "--algorithm", "ip_hash"], "cannot be used with"),
        (vec!["run", "--config", "/no/such/file"], "name the file with --config"),
        (vec!["check", "/no/such/file"], "name the config file: loadx check FILE"),
        (vec!["run", "--to", "a:1", "--to", "a:1", "--listen", "127.0.0.1:9"], "listed twice"),
        (vec!["run", "--listen", "127.0.0.1:9"], "--to"),
        (vec!["run", "--config", "x", "--to", "a:1"], "cannot be used with"),
        (vec!["run", "--listen", "192.0.2.1:8080", "--to", "a:1"], "must be an address of this machine"),
        (
            vec!["run", "--listen", "no-such-host.invalid:8080", "--to", "a:1"],
            "cannot listen on \"no-such-host.invalid\"",
        ),
        (vec!["bench", "-n", "0"], "0"),
        (vec!["bench", "--rate", "0"], "from 0.001 to 1000000"),
        (vec!["bench", "--rate", "fast"], "a number of requests per second"),
        (vec!["bench", "--duration", "0"], "from 0.001 to 86400"),
        (vec!["bench", "--url", "ftp://a"], "only http"),
        (vec!["bench", "--path", "x"], "must begin with /"),
        (vec!["bench", "--compare", "/no/such/file"], "--compare takes a file that --output wrote"),
        (vec!["bench", "-o", "/no/such/dir/x.json"], "cannot write"),
        (vec!["backend", "--fail-rate", "2"], "from 0 (never) to 1 (always)"),
        (vec!["sim", "--duration", "1e18"], "write a number of seconds from 0.001 to 1000000000"),
        (vec!["sim", "--service-ms", "0"], "write a number of milliseconds from 0.001 to 1000000000"),
        (vec!["frobnicate"], "unrecognized subcommand"),
        (vec![], "Usage"),
    ] {
        let output = loadx(&arguments);
        assert_eq!(output.code, Some(2), "{arguments:?}: {output:?}");
        assert!(output.stderr.contains(told), "{arguments:?}: {}", output.stderr);
        assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
    }
}

#[test]
fn an_access_log_that_cannot_be_opened_is_told() {
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("config.json");
    let text =
        r#"{"proxy_port": 0, "backend_servers": [{"host": "a", "port": 1}], "log_file": "/no/such/dir/access.log"}"#;
    std::fs::write(&path, text).unwrap();
    let output = loadx(&["run", "--config", path.to_str().unwrap()]);
    assert_eq!(output.code, Some(2), "{output:?}");
    assert!(output.stderr.contains("cannot open the access log \"/no/such/dir/access.log\""), "{output:?}");
}

#[test]
fn valid_input_is_confirmed() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config.json");
    let output = loadx(&["check", root]);
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""));
    assert!(output.stdout.starts_with("ok: ") && output.stdout.ends_with("3 backends, round_robin\n"), "{output:?}");
    let schema: serde_json::Value = serde_json::from_str(&loadx(&["schema"]).stdout).unwrap();
    assert_eq!(schema["properties"]["algorithm"]["default"], "round_robin");
}

#[test]
fn a_bench_without_a_server_counts_every_failure() {
    let refusing = crate::support::unused_address();
    let output = loadx(&["bench", "-n", "7", "-c", "2", "--url", &format!("http://{refusing}")]);
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stdout.contains("failed       7"), "{output:?}");
    assert!(output.stdout.contains("connect: connection refused"), "{output:?}");
}
