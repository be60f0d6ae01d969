//! The load of wrk, which nobody here wrote: wrk copies what it reads, as every client does.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::case::{Case, Upload};
use super::lab::{LOAD_PROCESSOR, Lab};
use super::load::Manner;
use super::tls::NAME;
use crate::Trouble;

/// What wrk sends.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    connections: usize,
    /// Whether each request has a connection of its own.
    closes: bool,
    /// A script in Lua with the method, the fields and the content; `None` for a GET with few fields.
    script: Option<PathBuf>,
}

/// Complete responses and failures.
pub(super) struct Counted {
    pub(super) done: u64,
    pub(super) errors: u64,
}

impl Pattern {
    /// A GET with few fields. `closes`: whether each request has a connection of its own.
    pub(super) fn new(connections: usize, closes: bool) -> Self {
        Pattern { connections, closes, script: None }
    }

    /// What wrk sends in a case; `None` for a case that wrk cannot play.
    pub(super) fn of(case: &Case, lab: &Lab) -> Result<Option<Pattern>, Trouble> {
        if !matches!(case.manner, Manner::Closed | Manner::Churn) {
            return Ok(None);
        }
        let head = String::from_utf8(case.head())?;
        let mut script = String::new();
        for (name, value) in head.lines().skip(1).filter_map(|line| line.split_once(": ")) {
            // wrk writes these itself.
            if !["Content-Length", "Connection"].contains(&name) {
                script.push_str(&format!("wrk.headers[{name:?}] = {value:?}\n"));
            }
        }
        if let Upload::Length(bytes) = case.upload {
            script.push_str(&format!("wrk.method = \"POST\"\nwrk.body = string.rep(\"x\", {bytes})\n"));
        }
        let file = lab.file("wrk.lua");
        std::fs::write(&file, script)?;
        Ok(Some(Pattern { connections: case.connections, closes: case.manner == Manner::Churn, script: Some(file) }))
    }
}

/// Runs wrk in one thread, on the processor of the load.
pub(super) fn wrk(
    scheme: &str,
    address: SocketAddr,
    path: &str,
    pattern: &Pattern,
    span: Duration,
) -> Result<Counted, Trouble> {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &LOAD_PROCESSOR.to_string(), "wrk", "-t1", "-c", &pattern.connections.to_string()]);
    command.args(["--timeout", "60s", "-d", &format!("{}s", span.as_secs_f64().ceil() as u64)]);
    if pattern.closes {
        command.args(["-H", "Connection: close"]);
    }
    if let Some(script) = &pattern.script {
        command.arg("-s").arg(script);
    }
    let output = command.arg(format!("{scheme}://{NAME}:{}{path}", address.port())).stdin(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number_in = |line: &str| line.split(|c: char| !c.is_ascii_digit()).find_map(|word| word.parse().ok());
    let line_with = |words: &str| text.lines().find(|line| line.contains(words));
    let done = line_with("requests in").and_then(number_in).ok_or_else(|| format!("wrk said: {text}"))?;
    let refused: u64 = line_with("Non-2xx").and_then(number_in).unwrap_or(0);
    let broken: u64 = line_with("Socket errors")
        .map_or(0, |line| line.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse::<u64>().ok()).sum());
    Ok(Counted { done, errors: refused + broken })
}
