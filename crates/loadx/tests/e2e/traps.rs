//! Configs that are valid and still cannot work, and the messages of `check` and `run` about them.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{LoadX, Origin, Output, loadx};

fn check(config: &Value) -> Output {
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("config.json");
    std::fs::write(&path, config.to_string()).unwrap();
    loadx(&["check", path.to_str().unwrap()])
}

/// Both `check` and `run` refuse the config with a message that contains `told`.
fn refused(config: &Value, told: &[&str]) {
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("config.json");
    std::fs::write(&path, config.to_string()).unwrap();
    let check = loadx(&["check", path.to_str().unwrap()]);
    let run = loadx(&["run", "--config", path.to_str().unwrap()]);
    assert_eq!((check.code, check.stdout.as_str()), (Some(2), ""), "{config}: {check:?}");
    assert_eq!((check.code, &check.stderr), (run.code, &run.stderr), "run and check tell the same");
    for text in told.iter().chain(&["\n  help: "]) {
        assert!(check.stderr.contains(text), "{config}: {}", check.stderr);
    }
}

#[test]
fn loadx_as_its_own_backend_is_refused() {
    for (listen, backend) in
        [("0.0.0.0", "localhost"), ("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "127.0.0.1"), ("::", "::1")]
    {
        let config = json!({
            "proxy_host": listen,
            "proxy_port": 8080,
            "backend_servers": [{ "host": "192.0.2.1", "port": 80 }, { "host": backend, "port": 8080 }],
        });
        refused(&config, &["has 1 fault", ":8080 is LoadX itself"]);
    }
    let output = loadx(&["run", "--listen", ":8080", "--to", "localhost:8080"]);
    assert_eq!(output.code, Some(2), "{output:?}");
    assert!(output.stderr.starts_with("error: backend localhost:8080 is LoadX itself"), "{output:?}");
}

#[test]
fn a_backend_named_like_this_machine_is_refused_on_a_port_of_loadx() {
    let name = rustix::system::uname().nodename().to_str().unwrap().to_owned();
    let config = |port: u16| json!({ "listeners": [{ "address": ":8080" }], "backend_servers": [{ "host": name, "port": port }] });
    refused(&config(8080), &["has 1 fault", ":8080 is LoadX itself"]);
    assert_eq!(check(&config(8081)).code, Some(0));
}

#[test]
fn settings_that_multiply_the_load_are_warned_of() {
    let resilience = |keys: Value| json!({ "clusters": { "web": { "backends": ["192.0.2.1:80", "192.0.2.2:80"], "resilience": keys } } });
    let mirror = json!({
        "routes": [{ "cluster": "web", "mirror": "web" }], "clusters": { "web": { "backends": ["192.0.2.1:80"] } },
    });
    let many: Vec<String> = (0..250).map(|host| format!("192.0.2.{host}:80")).collect();
    let probes = json!({ "clusters": { "web": { "backends": many, "health": { "interval": 1 } } } });
    let cases = [
        (resilience(json!({ "retries": { "budget_percent": 80 } })), "may add 80 % to its requests"),
        (
            resilience(json!({ "retries": { "hedge": { "percentile": 70 } } })),
            "a second backend for 30 % of the requests",
        ),
        (resilience(json!({ "retries": { "hedge": {}, "max": 0 } })), "\"hedge\" of the cluster \"web\" has no effect"),
        (
            resilience(json!({ "limits": { "requests": 30, "requests_per_backend": 10 } })),
            "its backends take 20 requests",
        ),
        (resilience(json!({ "retries": { "budget_per_second": 1_000_000 } })), "may add 1000000 requests a second"),
        (
            resilience(json!({ "retries": { "hedge": {} }, "limits": { "requests": 1 } })),
            "\"requests\" in \"limits\" is 1",
        ),
        (mirror, "its backends get each request twice"),
        (probes, "250 probes in a second"),
    ];
    for (config, told) in cases {
        let output = check(&config);
        assert_eq!(output.code, Some(0), "{output:?}");
        assert!(output.stderr.contains(told) || output.stdout.contains(told), "{told}: {output:?}");
    }
    let good =
        resilience(json!({ "retries": { "hedge": {} }, "limits": { "requests": 30, "requests_per_backend": "auto" } }));
    let output = check(&good);
    assert!(!format!("{output:?}").contains("warning"), "{output:?}");
}

#[test]
fn listeners_that_overlap_are_refused_with_their_names() {
    for (first, second) in [("0.0.0.0:8080", "127.0.0.1:8080"), ("[::]:8080", "127.0.0.1:8080")] {
        let config = json!({
            "listeners": [{ "name": "web", "address": first }, { "name": "internal", "address": second }],
            "backend_servers": [{ "host": "192.0.2.1", "port": 80 }],
        });
        refused(&config, &[&format!("the listeners \"web\" ({first}) and \"internal\" ({second}) overlap")]);
    }
}

#[test]
fn a_host_that_only_looks_like_an_address_is_refused() {
    let config = json!({ "backend_servers": [{ "host": "127.0.0.1.5", "port": 80 }] });
    refused(&config, &["backend 127.0.0.1.5:80: \"127.0.0.1.5\" looks like an IP address, but is not one"]);
}

#[test]
fn a_listener_that_lets_anybody_tell_addresses_is_warned_about() {
    let config = |peers: &str| {
        json!({
            "listeners": [{ "address": ":8080", "proxy_protocol": [peers] }],
            "backend_servers": [{ "host": "192.0.2.1", "port": 80 }],
        })
    };
    for peers in ["0.0.0.0/0", "::/0"] {
        let said = check(&config(peers));
        assert_eq!(said.code, Some(0));
        assert!(said.stderr.contains("any client may claim any address"), "{}", said.stderr);
    }
    assert_eq!(check(&config("10.0.0.0/8")).stderr, "");
}

#[test]
fn a_log_in_a_folder_that_does_not_exist_is_refused_with_the_folder() {
    let backends = json!([{ "host": "a", "port": 1 }]);
    let log = |file: &str| json!({ "backend_servers": backends, "log_file": file });
    refused(&log("/no/such/dir/access.log"), &["the folder /no/such/dir does not exist", "mkdir -p /no/such/dir"]);
    refused(&log("no-such-dir/access.log"), &["the folder no-such-dir does not exist in /", "mkdir -p no-such-dir"]);
    refused(&log("/etc/passwd/access.log"), &["/etc/passwd is not a folder"]);
    refused(&log("/"), &["/ is a folder"]);
    let off = json!({ "backend_servers": backends, "log_file": "/no/such/dir/access.log", "enable_logging": false });
    assert_eq!(check(&off).code, Some(0), "a log that is off needs no folder");
}

#[test]
fn a_log_beside_the_config_is_good() {
    let directory = tempfile::TempDir::new().unwrap();
    let config = json!({ "backend_servers": [{ "host": "a", "port": 1 }], "log_file": "access.log" });
    std::fs::write(directory.path().join("config.json"), config.to_string()).unwrap();
    let check = Command::new(env!("CARGO_BIN_EXE_loadx")).arg("check").current_dir(directory.path()).output().unwrap();
    assert!(check.status.success(), "{check:?}");
}

#[test]
fn a_probe_that_may_outlast_the_interval_is_worth_a_warning() {
    let config = json!({
        "health_check_interval": 2,
        "health_check_timeout": 3,
        "backend_servers": [{ "host": "a", "port": 1 }],
    });
    let output = check(&config);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.stdout.ends_with(", 1 backend, round_robin, 1 warning\n"), "{output:?}");
    let told = "\"health_check_timeout\" (3 s) is longer than \"health_check_interval\" (2 s)";
    assert!(output.stderr.starts_with("warning: ") && output.stderr.contains(told), "{output:?}");
    assert!(output.stderr.contains("help: set \"health_check_timeout\" to 2 or less"), "{output:?}");

    for (health, told) in [
        (
            json!({ "timeout": 3, "interval": 2 }),
            "cluster \"web\": \"timeout\" (3 s) is longer than \"interval\" (2 s)",
        ),
        (json!({ "timeout": 9 }), "cluster \"web\": \"timeout\" (9 s) is longer than \"health_check_interval\" (8 s)"),
        (json!({ "interval": 2 }), "cluster \"web\": \"health_check_timeout\" (3 s) is longer than \"interval\" (2 s)"),
    ] {
        let output = check(&json!({
            "health_check_interval": 8,
            "health_check_timeout": 3,
            "clusters": { "web": { "backends": ["a:1"], "health": health } },
        }));
        assert!(output.stderr.contains(told), "{output:?}");
        assert!(output.stderr.contains("help: set \"timeout\" in \"health\" of the cluster to "), "{output:?}");
    }

    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let settings = json!({ "health_check_interval": 2, "health_check_timeout": 3 });
    let loadx = LoadX::with(&[origin.address()], &settings);
    loadx.wait_for_log(told);
}

/// What `check` warns of in a config with these routes; the config is good all the same.
fn warnings(routes: &Value, listeners: &Value) -> Vec<String> {
    let config = json!({
        "listeners": listeners,
        "clusters": { "app": { "backends": ["a:1"] } },
        "routes": routes,
    });
    let output = check(&config);
    assert_eq!(output.code, Some(0), "{config}: {output:?}");
    let told = output.stderr.split("warning: ").skip(1).map(|one| one.trim_end().to_owned()).collect::<Vec<_>>();
    assert!(told.iter().all(|one| one.contains("\n  help: ")), "{output:?}");
    told
}

fn plain_listeners() -> Value {
    json!([{ "address": ":8080" }])
}

#[test]
fn routes_behind_a_prefix_of_everything_are_worth_a_warning() {
    let all = json!({ "name": "all", "hosts": ["a", "b"], "path_prefix": "/", "cluster": "app" });
    let told = "route \"all\" has \"path_prefix\": \"/\" for the same hosts";
    for (hidden, message) in [
        (json!({ "name": "x", "hosts": ["a"], "cluster": "app" }), "route \"x\" never gets a request with a path"),
        (json!({ "name": "x", "hosts": ["b", "a"], "methods": ["GET"], "cluster": "app" }), "route \"x\" never gets"),
        (
            json!({ "name": "x", "hosts": ["a"], "path_regex": "/[0-9]+", "cluster": "app" }),
            "route \"x\" can never match",
        ),
    ] {
        for routes in [json!([all, hidden]), json!([hidden, all])] {
            let warned = warnings(&routes, &plain_listeners());
            assert!(
                warned.len() == 1 && warned[0].contains(message) && warned[0].contains(told),
                "{hidden}: {warned:?}"
            );
        }
    }
    for asked in [
        json!({ "hosts": ["a", "c"], "cluster": "app" }),
        json!({ "cluster": "app" }),
        json!({ "hosts": ["*.a"], "cluster": "app" }),
        json!({ "hosts": ["a"], "path_prefix": "/x", "cluster": "app" }),
    ] {
        assert_eq!(warnings(&json!([all, asked]), &plain_listeners()), [""; 0], "{asked}");
    }
    let narrow =
        json!({ "hosts": ["a"], "path_prefix": "/", "methods": ["GET"], "headers": { "x": "1" }, "cluster": "app" });
    let asked = json!({ "hosts": ["a"], "methods": ["GET", "POST"], "headers": { "x": "1" }, "cluster": "app" });
    assert_eq!(warnings(&json!([narrow, asked]), &plain_listeners()), [""; 0]);
}

#[test]
fn paths_that_no_request_can_have_are_worth_a_warning() {
    for path in ["/a//b", "/a;b", "/a%2Fb", "/%5C"] {
        for key in ["path", "path_prefix"] {
            let warned = warnings(&json!([{ "name": "x", key: path, "cluster": "app" }]), &plain_listeners());
            let told = format!("route \"x\" can never match: servers read its \"{key}\" \"{path}\" in different ways");
            assert!(warned.len() == 1 && warned[0].contains(&told), "{path}: {warned:?}");
        }
    }
    let good = json!([{ "path": "/a%20b/b.c/~d", "cluster": "app" }, { "path_prefix": "/x/", "cluster": "app" }]);
    assert_eq!(warnings(&good, &plain_listeners()), [""; 0]);
}

#[test]
fn a_path_that_loadx_itself_answers_is_worth_a_warning() {
    let listeners =
        json!([{ "name": "web", "address": ":1" }, { "name": "inner", "address": ":2", "endpoints": true }]);
    for route in [
        json!({ "name": "x", "path": "/__status__", "cluster": "app" }),
        json!({ "name": "x", "path_prefix": "/__health__", "methods": ["HEAD", "POST"], "cluster": "app" }),
        json!({ "name": "x", "path": "/__metrics__", "listeners": ["inner"], "cluster": "app" }),
    ] {
        let warned = warnings(&json!([route]), &listeners);
        assert!(
            warned.len() == 1 && warned[0].contains("LoadX itself answers GET and HEAD of /__"),
            "{route}: {warned:?}"
        );
    }
    for route in [
        json!({ "path": "/__status__", "listeners": ["web"], "cluster": "app" }),
        json!({ "path": "/__status__", "methods": ["POST"], "cluster": "app" }),
        json!({ "path": "/__status__/x", "cluster": "app" }),
    ] {
        assert_eq!(warnings(&json!([route]), &listeners), [""; 0], "{route}");
    }
}

#[test]
fn an_unknown_method_is_a_warning() {
    let route = |method: &str| json!([{ "name": "x", "methods": [method], "cluster": "app" }]);
    for (method, told) in [
        ("GTE", "\"GTE\" is not a registered method\n  help: write a method such as GET,"),
        ("TRACE", "LoadX answers 501 to TRACE"),
    ] {
        let warned = warnings(&route(method), &plain_listeners());
        assert!(warned.len() == 1 && warned[0].contains(told), "{warned:?}");
    }
    assert_eq!(warnings(&route("PROPFIND"), &plain_listeners()), [""; 0]);
}

#[test]
fn a_redirect_that_leads_to_its_own_route_is_a_warning() {
    let listeners = json!([{ "address": ":8080" }, { "name": "plain", "address": ":80" }]);
    for route in [
        json!({ "redirect": {} }),
        json!({ "path_regex": "/[0-9]+", "redirect": {} }),
        json!({ "hosts": ["a.example"], "redirect": { "host": "a.example" } }),
        json!({ "hosts": ["b.example", "a.example"], "redirect": { "host": "a.example", "status": 303 } }),
        json!({ "hosts": ["*.example"], "redirect": { "host": "www.example" } }),
        json!({ "redirect": { "path": "/welcome" } }),
        json!({ "path_regex": "/w.*", "redirect": { "path": "/welcome" } }),
        json!({ "path_prefix": "/", "redirect": { "path_prefix": "/v2" } }),
        json!({ "path": "/a", "query": { "x y": "1&2" }, "headers": { "x": "1" }, "redirect": { "path": "/a" } }),
        json!({ "redirect": { "port": 8080 } }),
        json!({ "redirect": { "scheme": "http" } }),
    ] {
        let mut named = route.clone();
        named["name"] = "x".into();
        let warned = warnings(&json!([named, { "hosts": ["app"], "cluster": "app" }]), &listeners);
        assert!(warned.len() == 1 && warned[0].contains("route \"x\" redirects to itself: "), "{route}: {warned:?}");
    }
    for route in [
        json!({ "redirect": { "scheme": "https" } }),
        json!({ "redirect": { "port": 8443 } }),
        json!({ "hosts": ["a.example"], "redirect": { "host": "b.example" } }),
        json!({ "path": "/old", "redirect": { "path": "/new" } }),
        json!({ "path_prefix": "/v1", "redirect": { "path_prefix": "/v2" } }),
        json!({ "listeners": ["0.0.0.0:8080"], "redirect": { "port": 80 } }),
        json!({ "methods": ["POST"], "redirect": { "status": 303, "path": "/done" } }),
    ] {
        assert_eq!(warnings(&json!([route, { "hosts": ["app"], "cluster": "app" }]), &listeners), [""; 0], "{route}");
    }
}

#[test]
fn retries_of_grpc_without_http_2_are_a_warning() {
    let cluster = |protocol: &str| {
        json!({ "clusters": { "calls": {
            "protocol": protocol, "retry_grpc": ["UNAVAILABLE"], "backends": [{ "host": "192.0.2.1", "port": 80 }],
        } }, "routes": [{ "cluster": "calls" }] })
    };
    let warned = check(&cluster("http/1.1"));
    assert_eq!(warned.code, Some(0), "{warned:?}");
    assert!(warned.stderr.contains("\"retry_grpc\" of the cluster \"calls\" has no effect"), "{warned:?}");
    let silent = check(&cluster("h2"));
    assert_eq!((silent.code, silent.stderr.as_str()), (Some(0), ""));
}
