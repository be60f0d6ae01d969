//! HTTP/2 over TLS under the load of h2load.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::PeersArguments;
use super::lab::{LOAD_PROCESSOR, Lab};
use super::tls::{Authority, Counted, Identity, Load, NAME, compare};
use crate::Trouble;

const LOADS: [Load; 5] = [
    Load {
        name: "h2-1",
        about: "13 bytes over TLS, 32 connections with 1 stream each",
        run: |_, address, span| h2load(address, "/", 32, 1, span),
        budget: Some(0.85),
    },
    Load {
        name: "h2-10",
        about: "the same, 8 connections with 10 streams each",
        run: |_, address, span| h2load(address, "/", 8, 10, span),
        budget: Some(0.85),
    },
    Load {
        name: "h2-100",
        about: "the same, 8 connections with 100 streams each",
        run: |_, address, span| h2load(address, "/", 8, 100, span),
        budget: Some(0.85),
    },
    Load {
        name: "h2-1m",
        about: "1 MiB over TLS, 8 connections with 1 stream each",
        run: |_, address, span| h2load(address, "/bytes/1048576", 8, 1, span),
        budget: Some(0.85),
    },
    Load {
        name: "h2-1m-10",
        about: "1 MiB over TLS, 2 connections with 10 streams each",
        run: |_, address, span| h2load(address, "/bytes/1048576", 2, 10, span),
        budget: Some(0.85),
    },
];

pub(super) fn h2(lab: &Lab, arguments: &PeersArguments) -> Result<String, Trouble> {
    compare(lab, arguments, &Identity::new(lab, &Authority::new()?)?, &LOADS)
}

fn h2load(
    address: SocketAddr,
    path: &str,
    connections: usize,
    streams: usize,
    span: Duration,
) -> Result<Counted, Trouble> {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &LOAD_PROCESSOR.to_string(), "h2load", "-c", &connections.to_string()]);
    command.args(["-m", &streams.to_string(), "-D", &span.as_secs_f64().ceil().to_string()]);
    let output = command.arg(format!("https://{NAME}:{}{path}", address.port())).stdin(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line =
        text.lines().find(|line| line.starts_with("requests: ")).ok_or_else(|| format!("h2load said: {text}"))?;
    let count = |word: &str| {
        let before = line.split(',').find_map(|part| part.trim().strip_suffix(word));
        before.and_then(|number| number.trim().parse().ok()).ok_or_else(|| format!("h2load said: {line}"))
    };
    Ok(Counted { done: count("succeeded")?, errors: count("failed")? })
}
