//! The results of LoadX, nginx and HAProxy for the cases of cases.rs, side by side, as a table.
//!
//! `LOADX_PEERS=1 cargo test --release --test peers -- --nocapture` prints the table; the test needs the Debian
//! packages nginx and haproxy. The test asserts only the results of LoadX: other proxies may change.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

#[path = "../e2e/cases.rs"]
mod cases;

use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cases::{Answer, RequestCase, ResponseCase, Then, requests, responses};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The silence that counts as the end of a response. Affects only the table, no assertion about LoadX.
const SILENCE: Duration = Duration::from_millis(700);

/// A backend that answers each request in the same way and records the bytes that it gets.
struct Recorder {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<u8>>>,
    answer: Arc<Mutex<Vec<u8>>>,
}

impl Recorder {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, answer) = (Arc::<Mutex<Vec<u8>>>::default(), Arc::new(Mutex::new(OK.to_vec())));
        let recorder = Recorder { address, seen: Arc::clone(&seen), answer: Arc::clone(&answer) };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                std::thread::spawn(move || serve(stream, &seen, &answer));
            }
        });
        recorder
    }
}

/// Serves one request per connection, and records the bytes after the request too.
fn serve(mut stream: TcpStream, seen: &Mutex<Vec<u8>>, answer: &Mutex<Vec<u8>>) {
    stream.set_read_timeout(Some(SILENCE / 2)).unwrap();
    let mut request = Vec::new();
    let mut buffer = [0; 64 * 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        request.extend_from_slice(&buffer[..count]);
        if request.starts_with(b"GET /health ") {
            let _ = stream.write_all(OK);
            return;
        }
        if is_whole(&request) {
            break;
        }
    }
    seen.lock().unwrap().extend_from_slice(&request);
    if request.windows(4).any(|window| window == b"\r\n\r\n") {
        let _ = stream.write_all(&answer.lock().unwrap());
    }
    let _ = stream.shutdown(std::net::Shutdown::Write);
    while let Ok(1..) = stream.read(&mut buffer) {}
}

fn split_head(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = message.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    Some(message.split_at(end))
}

/// Whether head and body are complete, according to the fields.
fn is_whole(message: &[u8]) -> bool {
    let Some((head, body)) = split_head(message) else { return false };
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    if head.contains("\r\ntransfer-encoding: chunked") {
        return body.ends_with(b"\r\n\r\n")
            && (body.starts_with(b"0\r\n") || body.windows(5).any(|end| end == b"\r\n0\r\n"));
    }
    let length = head.split("\r\ncontent-length: ").nth(1).and_then(|rest| rest.split('\r').next()?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

/// A running proxy. Dropping it kills the process.
struct Proxy {
    name: &'static str,
    address: SocketAddr,
    process: Child,
    _directory: tempfile::TempDir,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Proxy {
    /// Starts a proxy. `config` is the text of the config file, with the placeholders PORT and BACKEND; `command`
    /// starts the proxy with the file.
    fn start(name: &'static str, backend: SocketAddr, config: &str, command: impl Fn(&str) -> Command) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("config");
        let text = config
            .replace("PORT", &address.port().to_string())
            .replace("BACKEND_PORT", &backend.port().to_string())
            .replace("BACKEND", &backend.to_string())
            .replace("FOLDER", directory.path().to_str().unwrap());
        std::fs::write(&path, text).unwrap();
        let process = command(path.to_str().unwrap())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} is not installed: {error}"));
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "{name} does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Proxy { name, address, process, _directory: directory }
    }

    /// Sends these bytes; returns the response, and whether the connection was reset.
    fn ask(&self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(SILENCE)).unwrap();
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let mut buffer = [0; 64 * 1024];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return (answer, false),
                Ok(count) => answer.extend_from_slice(&buffer[..count]),
                Err(error) => return (answer, error.kind() == ErrorKind::ConnectionReset),
            }
        }
    }
}

fn proxies(backend: SocketAddr) -> Vec<Proxy> {
    let loadx =
        r#"{"proxy_host": "127.0.0.1", "proxy_port": PORT, "enable_logging": false, "health_check_interval": 3600,
        "backend_servers": [{"host": "127.0.0.1", "port": BACKEND_PORT}]}"#
            .replace("BACKEND_PORT", &backend.port().to_string());
    let nginx = "daemon off; master_process off; pid FOLDER/pid; error_log /dev/null;
        events { worker_connections 64; }
        http { access_log off; client_body_temp_path FOLDER/a; proxy_temp_path FOLDER/b; fastcgi_temp_path FOLDER/c;
          uwsgi_temp_path FOLDER/d; scgi_temp_path FOLDER/e;
          map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
          server { listen 127.0.0.1:PORT; location / {
            proxy_pass http://BACKEND; proxy_http_version 1.1; proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_pass_header Server; proxy_pass_header Date; } } }";
    let haproxy = "global\n  maxconn 64\ndefaults\n  mode http\n  timeout connect 1s\n  timeout client 5s\n  timeout server 5s\n  option forwardfor\nfrontend f\n  bind 127.0.0.1:PORT\n  default_backend b\nbackend b\n  server s BACKEND\n";
    vec![
        Proxy::start("LoadX", backend, &loadx, |path| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_loadx"));
            command.args(["run", "--config", path]);
            command
        }),
        Proxy::start("nginx", backend, nginx, |path| {
            let mut command = Command::new("nginx");
            command.args(["-c", path]);
            command
        }),
        Proxy::start("HAProxy", backend, haproxy, |path| {
            let mut command = Command::new("haproxy");
            command.args(["-f", path]);
            command
        }),
    ]
}

/// A message without the fields that the config tells each proxy to add.
fn bare(message: &str) -> String {
    let added = ["x-forwarded-", "connection: close", "connection: keep-alive"];
    message
        .split_inclusive("\r\n")
        .filter(|line| !added.iter().any(|added| line.to_ascii_lowercase().starts_with(added)))
        .collect()
}

/// How `got` differs from the expected message.
fn comparison(got: &str, due: &str) -> &'static str {
    let sorted = |text: &str, fold: bool| {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let line = |line: &str| match line.split_once(':') {
            Some((name, value)) if fold => format!("{}:{}", name.to_ascii_lowercase(), value.trim()),
            _ => line.to_owned(),
        };
        let mut lines: Vec<String> = head.split("\r\n").map(line).collect();
        lines.sort();
        (lines, body.to_owned())
    };
    let (got, due) = (bare(got), bare(due));
    // A proxy may add Date and Server where the backend sent none.
    let dated = |line: &&str| ["date:", "server:"].iter().any(|name| line.to_ascii_lowercase().starts_with(name));
    let got: String = if due.split("\r\n").any(|line| dated(&line)) {
        got
    } else {
        got.split_inclusive("\r\n").filter(|line| !dated(line)).collect()
    };
    if got == due {
        "passed"
    } else if sorted(&got, false) == sorted(&due, false) {
        "passed, fields in another order"
    } else if sorted(&got, true) == sorted(&due, true) {
        "passed, names or space changed"
    } else {
        "passed, changed"
    }
}

fn status(answer: &[u8]) -> String {
    let line = String::from_utf8_lossy(answer.split(|byte| *byte == b'\r').next().unwrap_or_default()).into_owned();
    line.split(' ').nth(1).map_or_else(|| "closed".to_owned(), str::to_owned)
}

fn request_cell(proxy: &Proxy, recorder: &Recorder, case: &RequestCase) -> String {
    recorder.seen.lock().unwrap().clear();
    let (answer, _) = proxy.ask(case.request.as_bytes());
    let seen = String::from_utf8_lossy(&recorder.seen.lock().unwrap()).into_owned();
    let heads = seen.matches(" HTTP/1.").count();
    match (&case.then, heads) {
        (_, 0) => format!("refused: {}", status(&answer)),
        (_, 2..) => "**passed, as two requests**".to_owned(),
        (Then::Refused(_), _) if bare(&seen) == case.request => "**passed unchanged**".to_owned(),
        (Then::Refused(_), _) if !is_whole(seen.as_bytes()) => format!("head passed, then {}", status(&answer)),
        (Then::Refused(_), _) => "passed, mended".to_owned(),
        (Then::Passed(due), _) => comparison(&seen, due).to_owned(),
    }
}

fn response_cell(proxy: &Proxy, recorder: &Recorder, case: &ResponseCase) -> String {
    *recorder.answer.lock().unwrap() = case.response.clone().into_bytes();
    let (answer, reset) = proxy.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let code = status(&answer);
    // Interim responses may come before the final response.
    let text = String::from_utf8_lossy(&answer).into_owned();
    let last = text.rfind("HTTP/1.1 ").map_or(text.as_str(), |at| &text[at..]);
    match &case.then {
        Answer::Passed(due) => comparison(&text, due).to_owned(),
        _ if last.starts_with("HTTP/1.1 502") => "502".to_owned(),
        _ if answer.is_empty() => "closed".to_owned(),
        _ if reset || !is_whole(last.as_bytes()) => "truncated".to_owned(),
        _ if bare(&text) == case.response => format!("**passed unchanged**: {code}"),
        _ => format!("passed, mended: {code}"),
    }
}

fn table(title: &str, proxies: &[Proxy], rows: impl Iterator<Item = (&'static str, String, Vec<String>)>) -> String {
    let names: Vec<&str> = proxies.iter().map(|proxy| proxy.name).collect();
    let mut out = format!("| {title} | expected | {} |\n|---|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
    for (name, due, cells) in rows {
        assert_eq!(cells[0], due, "{name}: LoadX does not give the expected result");
        writeln!(out, "| {name} | {due} | {} |", cells.join(" | ")).unwrap();
    }
    out
}

#[test]
fn side_by_side() {
    if std::env::var_os("LOADX_PEERS").is_none() {
        eprintln!("skipped: LOADX_PEERS=1 compares with nginx and HAProxy, which must be installed");
        return;
    }
    let recorder = Recorder::start();
    let proxies = proxies(recorder.address);
    let request_rows = requests().into_iter().map(|case| {
        let due = match &case.then {
            Then::Refused(status) => format!("refused: {status}"),
            Then::Passed(_) => "passed".to_owned(),
        };
        let cells = proxies.iter().map(|proxy| request_cell(proxy, &recorder, &case)).collect();
        (case.name, due, cells)
    });
    println!("{}", table("request", &proxies, request_rows));
    let response_rows = responses().into_iter().map(|case| {
        let due = match &case.then {
            Answer::Passed(_) => "passed",
            Answer::BadGateway => "502",
            Answer::Broken => "truncated",
        };
        let cells = proxies.iter().map(|proxy| response_cell(proxy, &recorder, &case)).collect();
        (case.name, due.to_owned(), cells)
    });
    println!("{}", table("response", &proxies, response_rows));
}
