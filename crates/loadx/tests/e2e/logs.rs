//! The access log.

use serde_json::{Value, json};

use crate::support::{Client, Killed, LoadX, Origin, TestBackend, eventually, unused_address};

#[test]
fn every_request_has_a_complete_log_line() {
    let origin = Origin::answering("HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhello");
    let loadx = LoadX::with(&[origin.address()], &json!({ "log_file": "LOG", "log_format": "json", "workers": 2 }));
    let mut client = loadx.client();
    client.send("PUT /thing?x=%22 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").response();
    let refused = client.send("GET / HTTP/1.1\r\n\r\n").response();
    let lines = eventually("both lines are written", || {
        let lines: Vec<Value> = loadx.access_log().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (lines.len() == 2).then_some(lines)
    });
    let line = &lines[0];
    assert_eq!(line["client"], "127.0.0.1");
    assert_eq!(line["method"], "PUT");
    assert_eq!(line["target"], "/thing?x=%22");
    assert_eq!(line["status"], 201);
    assert_eq!(line["bytes"], 5);
    assert_eq!(line["backend"], origin.address().to_string());
    assert_eq!(line["tries"], 1);
    assert!(line["duration_ms"].as_f64().unwrap() > 0.0);
    assert!(line["time"].as_str().unwrap().ends_with('Z'));
    assert_eq!(line["id"].as_str().unwrap().len(), 16);
    assert_eq!(lines[1]["status"], 400);
    assert_eq!(lines[1]["id"], refused.field("x-request-id").unwrap());
    assert_eq!(lines[1]["error"], "Host is missing");
}

/// A request whose fields would end a line, close a quote or colour a terminal, if they were not escaped. Control
/// characters but tab are refused, bytes beyond ASCII are not.
const HOSTILE: &[u8] = b"GET /x HTTP/1.1\r\nHost: a.example:81\r\nUser-Agent: b\"} \\\t\xc2\x9b31m\r\nX: y\r\n\r\n";

#[test]
fn fields_that_are_asked_for_are_shown_and_break_no_line() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let logged = |format: &str| {
        let settings = json!({
            "log_file": "LOG", "log_format": format, "log_fields": ["user_agent", "host", "referer"], "workers": 1,
        });
        let loadx = LoadX::with(&[origin.address()], &settings);
        let mut client = loadx.client();
        assert_eq!(client.send(HOSTILE).response().status, 200);
        client.send("GET /y HTTP/1.1\r\nHost: b\r\nReferer: http://c/d?e\r\n\r\n").response();
        assert_eq!(client.send("GET / HTTP/1.1\r\n\r\n").response().status, 400);
        eventually("three lines are written", || {
            let lines: Vec<String> = loadx.access_log().lines().map(str::to_owned).collect();
            (lines.len() == 3).then_some(lines)
        })
    };
    let json: Vec<Value> = logged("json").iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(json[0]["host"], "a.example:81");
    assert_eq!(json[0]["user_agent"], "b\"} \\\t\u{c2}\u{9b}31m");
    assert_eq!(json[0]["referer"], Value::Null);
    assert_eq!(json[1]["referer"], "http://c/d?e");
    assert_eq!(json[2]["host"], Value::Null);
    let human = logged("human");
    assert!(human[0].ends_with(r#" user_agent="b\"} \\\x09\xc2\x9b31m" host="a.example:81""#), "{}", human[0]);
    assert!(human[1].ends_with(r#" host="b" referer="http://c/d?e""#), "{}", human[1]);
    assert!(human[2].ends_with(r#" error="Host is missing""#), "{}", human[2]);
    assert!(human.iter().all(|line| line.bytes().all(|byte| (b' '..=b'~').contains(&byte))), "{human:?}");
}

#[test]
fn long_fields_are_cut_and_none_are_shown_unasked() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: {}\r\n\r\n", "u".repeat(5_000));
    let shown = |fields: Value| {
        let settings = json!({ "log_file": "LOG", "log_fields": fields });
        let loadx = LoadX::with(&[origin.address()], &settings);
        loadx.client().send(&request).response();
        eventually("the line is written", || Some(loadx.access_log()).filter(|log| log.ends_with('\n')))
    };
    assert!(shown(json!(["user_agent"])).ends_with(&format!(" user_agent=\"{}\"\n", "u".repeat(1_024))));
    assert!(!shown(json!([])).contains("uu"));
}

#[test]
fn when_the_log_cannot_be_written_requests_go_on_and_lost_lines_are_counted() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    if !std::path::Path::new("/dev/full").exists() {
        eprintln!("skipped: there is no /dev/full here");
        return;
    }
    let loadx = LoadX::with(&[origin.address()], &json!({ "log_file": "/dev/full" }));
    for _ in 0..5 {
        assert_eq!(loadx.get("/").text(), "ok");
    }
    eventually("lost lines are counted", || (loadx.status()["access_log"]["lost_lines"] == 5).then_some(()));
    eventually("the log reports the failure", || {
        loadx.log().contains("the access log cannot be written").then_some(())
    });
}

#[test]
fn access_lines_go_to_standard_output_and_events_to_standard_error() {
    let backend = TestBackend::start("backend-1");
    let loadx = LoadX::with(&[backend.address], &json!({ "health_check_interval": 0.05 }));
    loadx.wait_for_healthy(1);
    assert_eq!(loadx.get("/path-of-a-request").status, 200);
    eventually("the request is logged", || loadx.stdout().contains("/path-of-a-request").then_some(()));
    Client::connect(backend.address).send("POST /health/fail HTTP/1.1\r\nHost: a\r\n\r\n").response();
    loadx.wait_for_log("is down: probe failed: GET /health answered 503");
    assert!(!loadx.log().contains("/path-of-a-request"), "{}", loadx.log());
    assert!(!loadx.stdout().contains("is down"), "{}", loadx.stdout());
}

#[test]
fn libraries_do_not_write_their_debug_text_into_the_log() {
    let loadx = LoadX::run(&["--verbose", "--listen", "127.0.0.1:0", "--to", "no-such-host.invalid:80"]);
    loadx.wait_for_log("backend no-such-host.invalid:80 does not resolve");
    assert!(!loadx.log().contains(" { "), "{}", loadx.log());
}

#[test]
fn a_refused_request_is_logged_with_its_target_and_its_host() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let settings = json!({ "log_file": "LOG", "log_format": "json", "log_fields": ["host"], "workers": 1 });
    let loadx = LoadX::with(&[origin.address()], &settings);
    let requests = [
        ("GET /a?d HTTP/1.1\r\nHost: a.example\r\nContent-Length: x\r\n\r\n", "GET", "/a?d", json!("a.example")),
        ("GET /a b HTTP/1.1\r\nhost:b\r\n\r\n", "GET", "/a b", json!("b")),
        ("POST /c HTTP/1.1\nHost: d\n\n", "POST", "/c", json!("d")),
        ("GET /e HTTP/1.1\r\nX: y\r\n\r\n", "GET", "/e", Value::Null),
        ("GET /f HTTP/3.0\r\nHost: g\r\n\r\n", "GET", "/f", json!("g")),
        ("garbage\r\n\r\n", "garbage", "-", Value::Null),
    ];
    for (request, ..) in &requests {
        assert!(loadx.client().send(request).response().status >= 400, "{request}");
    }
    let lines = eventually("all lines are written", || {
        let lines: Vec<Value> = loadx.access_log().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (lines.len() == requests.len()).then_some(lines)
    });
    for ((request, method, target, host), line) in requests.iter().zip(&lines) {
        assert_eq!((&line["method"], &line["target"]), (&json!(method), &json!(target)), "{request}");
        assert_eq!(line["host"], *host, "{request}");
        assert_eq!(line["listener"], "default", "{request}");
    }
}

#[test]
fn events_name_the_cluster_when_there_are_several() {
    let refusing = unused_address();
    let cluster = json!({ "backends": [refusing.to_string()] });
    let loadx = LoadX::of(&json!({
        "listeners": [{ "address": "127.0.0.1:0" }],
        "clusters": { "web": cluster, "api": cluster },
        "routes": [{ "path": "/a", "cluster": "web" }, { "path": "/b", "cluster": "api" }],
    }));
    for name in ["web", "api"] {
        loadx.wait_for_log(&format!("backend {refusing} of cluster {name} is down: probe failed: connection refused"));
    }
}

#[test]
fn without_the_folder_of_the_log_lines_go_on_to_the_former_file() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let temporary = tempfile::TempDir::new().unwrap();
    let (folder, moved) = (temporary.path().join("logs"), temporary.path().join("moved"));
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("access.log");
    let loadx = LoadX::with(&[origin.address()], &json!({ "log_file": file }));
    let mut sent = 0;
    let mut get = || {
        sent += 1;
        assert_eq!(loadx.get("/").status, 200);
    };
    get();
    std::fs::rename(&folder, &moved).unwrap();
    eventually("the missing folder is noticed", || {
        get();
        loadx.log().contains("lines go on to the former file").then_some(())
    });
    std::fs::create_dir(&folder).unwrap();
    eventually("the new file is open", || {
        get();
        file.exists().then_some(())
    });
    eventually("every line is in one of the files", || {
        let lines = |file| std::fs::read_to_string(file).unwrap().lines().count();
        (lines(file.clone()) + lines(moved.join("access.log")) == sent).then_some(())
    });
    assert_eq!(loadx.status()["access_log"]["lost_lines"], 0);
    assert_eq!(loadx.log().matches("the access log cannot").count(), 1, "{}", loadx.log());
}

#[cfg(target_os = "linux")]
impl Killed {
    /// Limits the size of the files that the process writes, which fails in the middle of a line like a full disk.
    fn limit_files(&self, bytes: Option<u64>) {
        use rustix::process::{Pid, Resource, Rlimit, prlimit};

        let limit = Rlimit { current: bytes, maximum: None };
        prlimit(Some(Pid::from_child(&self.0)), Resource::Fsize, limit).unwrap();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_tears_no_line_and_each_lost_line_is_counted() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let address = unused_address();
    let folder = tempfile::TempDir::new().unwrap();
    let (file, config) = (folder.path().join("access.log"), folder.path().join("config.json"));
    let settings = json!({
        "proxy_port": address.port(), "proxy_host": "127.0.0.1", "workers": 1, "log_file": file, "log_format": "json",
        "backend_servers": [{ "host": "127.0.0.1", "port": origin.address().port() }],
    });
    std::fs::write(&config, settings.to_string()).unwrap();
    // The signal of the limit would end the process.
    let child = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" run --config \"$1\"", env!("CARGO_BIN_EXE_loadx")])
        .arg(&config)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let loadx = Killed(child);
    let mut client = Client::over(eventually("it listens", || std::net::TcpStream::connect(address).ok()));
    loadx.limit_files(Some(1_000));
    let requests: String = (0..20).map(|index| format!("GET /{index} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    client.send(&requests);
    for _ in 0..20 {
        assert_eq!(client.response().status, 200);
    }
    let mut lost =
        || client.get("/__status__").response().json()["access_log"]["lost_lines"].as_u64().unwrap() as usize;
    let text = || std::fs::read_to_string(&file).unwrap();
    eventually("each line is whole or counted as lost", || {
        let written = text();
        let whole = written.is_empty() || written.ends_with('\n');
        (whole && lost() + written.lines().count() == 20).then_some(())
    });
    assert!(lost() > 0 && !text().is_empty(), "{}", text());
    loadx.limit_files(None);
    client.get("/last").response();
    eventually("lines are written again", || text().contains("\"/last\"").then_some(()));
    for line in text().lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
}

/// The lines of the access log, once there are so many.
fn lines(loadx: &LoadX, count: usize) -> Vec<String> {
    eventually("the lines are written", || {
        let lines: Vec<String> = loadx.access_log().lines().map(str::to_owned).collect();
        (lines.len() >= count).then_some(lines)
    })
}

#[test]
fn a_line_tells_the_parts_of_the_time_and_whose_fault_an_error_is() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let closed = unused_address();
    let loadx = LoadX::of(&json!({
        "listeners": [{ "name": "front", "address": "127.0.0.1:0" }],
        "clusters": {
            "web": { "backends": [origin.address().to_string()], "health": { "probe": "off" } },
            "closed": { "backends": [closed.to_string()], "health": { "probe": "off" } },
        },
        "routes": [{ "path_prefix": "/closed", "cluster": "closed" }, { "cluster": "web" }],
        "log_file": "LOG", "log_format": "json", "workers": 1,
    }));
    loadx.client().send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc").response();
    loadx.get("/closed");
    loadx.client().send("GET /a b HTTP/1.1\r\n\r\n").response();
    let lines: Vec<Value> = lines(&loadx, 3).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let served = &lines[0];
    assert_eq!((&served["listener"], &served["received"]), (&json!("front"), &json!(3)));
    let (connect, head) = (served["connect_ms"].as_f64().unwrap(), served["head_ms"].as_f64().unwrap());
    assert!(0.0 < connect && connect <= head && head <= served["duration_ms"].as_f64().unwrap(), "{served}");
    assert_eq!(served.get("fault"), None);
    assert_eq!((&lines[1]["fault"], &lines[1]["error_kind"]), (&json!("backend"), &json!("connection_refused")));
    assert_eq!((&lines[2]["fault"], &lines[2]["error_kind"]), (&json!("client"), &json!("http_request_error")));
}

#[test]
fn the_combined_format_and_templates_break_no_line() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let start = |format: &str| {
        LoadX::with(&[origin.address()], &json!({ "log_file": "LOG", "log_format": format, "workers": 1 }))
    };
    let combined = start("combined");
    combined.client().send(HOSTILE).response();
    let line = &lines(&combined, 1)[0];
    assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
    assert!(line.ends_with(" +0000] \"GET /x HTTP/1.1\" 200 2 \"-\" \"b\\\"} \\\\\\x09\\xc2\\x9b31m\""), "{line}");

    let template = start("{method}\t{status} {host} {user_agent} {{{error_kind}");
    template.client().send(HOSTILE).response();
    template.client().send("BAD\r\n\r\n").response();
    let lines = lines(&template, 2);
    assert_eq!(lines[0], "GET\t200 a.example:81 b\\\"} \\\\\\x09\\xc2\\x9b31m {-");
    assert!(lines[1].ends_with("\t400 - - {http_request_error"), "{lines:?}");
}

#[test]
fn a_filter_keeps_requests_out_of_the_log() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let filter = json!({ "statuses": ["400-499"] });
    let settings = json!({ "log_file": "LOG", "log_format": "{status}", "log_filter": filter });
    let loadx = LoadX::with(&[origin.address()], &settings);
    for _ in 0..5 {
        assert_eq!(loadx.get("/").status, 200);
    }
    loadx.client().send("BAD\r\n\r\n").response();
    assert_eq!(lines(&loadx, 1), ["400"]);
}

#[test]
fn a_trace_is_passed_on_or_begun() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let sent_with = |settings: &Value, fields: &str| {
        let loadx = LoadX::with(&[origin.address()], settings);
        loadx.client().send(format!("GET /traced HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).response();
        let requests = origin.requests();
        let request = requests.iter().rev().find(|request| request.contains("/traced")).unwrap();
        let fields = request.lines().filter(|line| line.to_ascii_lowercase().starts_with("trace"));
        (fields.map(str::to_owned).collect::<Vec<_>>(), lines(&loadx, 1).remove(0))
    };
    let valid = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let off = json!({ "log_file": "LOG", "log_format": "{trace_id}" });
    let on = json!({ "log_file": "LOG", "log_format": "{trace_id}", "trace_context": true });
    assert_eq!(sent_with(&off, ""), (vec![], "-".to_owned()));
    let state = "tracestate: a=1";
    for settings in [&off, &on] {
        let (fields, logged) = sent_with(settings, &format!("{valid}\r\n{state}\r\n"));
        assert_eq!(
            (fields, logged.as_str()),
            (vec![valid.to_owned(), state.to_owned()], "0af7651916cd43dd8448eb211c80319c")
        );
    }
    for fields in ["", "traceparent: nonsense\r\ntracestate: a=1\r\n", &format!("{valid}\r\n{valid}\r\n")] {
        let (fields, logged) = sent_with(&on, fields);
        assert_eq!(fields.len(), 1, "{fields:?}");
        assert!(
            fields[0].starts_with(&format!("Traceparent: 00-{logged}-")) && logged.len() == 32,
            "{fields:?}, {logged}"
        );
    }
}

#[test]
fn a_faulty_format_or_filter_is_explained() {
    for (settings, message, help) in [
        (json!({ "log_format": "jsno" }), "\"log_format\" cannot be \"jsno\"", "did you mean \"json\"?"),
        (json!({ "log_format": "{clinet} {status}" }), "no variable is named \"clinet\"", "did you mean {client}?"),
        (json!({ "log_format": "{client" }), "a { has no }", "write {{ for a brace"),
        (json!({ "log_format": "{client}\n" }), "must not contain control characters", "one line"),
        (json!({ "log_filter": {} }), "lets no request into the access log", "name statuses"),
        (json!({ "log_filter": { "statuses": [99] } }), "neither a status from 200 to 599", "write 200"),
    ] {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("config.json");
        let mut config = json!({ "backend_servers": [{ "host": "127.0.0.1", "port": 1 }] });
        config.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        std::fs::write(&file, config.to_string()).unwrap();
        let output = crate::support::loadx(&["check", file.to_str().unwrap()]);
        assert_eq!(output.code, Some(2));
        assert!(output.stderr.contains(message) && output.stderr.contains(help), "{}", output.stderr);
    }
}
