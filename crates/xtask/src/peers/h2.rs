//! HTTP/2 under the load of h2load: over TLS, in clear text, and with backends of HTTP/2.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::PeersArguments;
use super::contender::Contender;
use super::lab::{LOAD_PROCESSOR, Lab, Stage};
use super::tls::{Authority, Counted, Identity, Load, NAME, compare, contenders};
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

/// The same loads in clear text. The proxies with TLS have most of their cost outside of HTTP/2.
const CLEAR_LOADS: [Load; 4] = [
    Load {
        name: "h2c-1",
        about: "13 bytes in clear text, 32 connections with 1 stream each",
        run: |_, address, span| clear_h2load(address, "/", 32, 1, span),
        budget: Some(0.85),
    },
    Load {
        name: "h2c-10",
        about: "the same, 8 connections with 10 streams each",
        run: |_, address, span| clear_h2load(address, "/", 8, 10, span),
        budget: Some(0.85),
    },
    Load {
        name: "h2c-100",
        about: "the same, 8 connections with 100 streams each",
        run: |_, address, span| clear_h2load(address, "/", 8, 100, span),
        budget: Some(0.85),
    },
    Load {
        name: "h2c-1m",
        about: "1 MiB in clear text, 8 connections with 1 stream each",
        run: |_, address, span| clear_h2load(address, "/bytes/1048576", 8, 1, span),
        budget: Some(0.85),
    },
];

pub(super) fn h2(lab: &Lab, arguments: &PeersArguments) -> Result<String, Trouble> {
    let identity = Identity::new(lab, &Authority::new()?)?;
    let start = |contender: &Contender| lab.start_tls(contender, &Stage::USUAL, &identity);
    compare(arguments, &identity, &LOADS, &contenders(lab), &start)
}

pub(super) fn clear_h2(lab: &Lab, arguments: &PeersArguments) -> Result<String, Trouble> {
    let identity = Identity::new(lab, &Authority::new()?)?;
    let start = |contender: &Contender| lab.start_clear_h2(contender, &Stage::USUAL, None);
    compare(arguments, &identity, &CLEAR_LOADS, &contenders(lab), &start)
}

/// HTTP/2 on both sides. Debian's nginx does not speak HTTP/2 to backends; here it is the backend.
pub(super) fn h2_backends(lab: &Lab, arguments: &PeersArguments) -> Result<String, Trouble> {
    let identity = Identity::new(lab, &Authority::new()?)?;
    let origin = lab.start_h2_origin()?;
    let start = |contender: &Contender| lab.start_clear_h2(contender, &Stage::USUAL, Some(&[origin.address]));
    let contenders: Vec<Contender> =
        contenders(lab).into_iter().filter(|contender| *contender != Contender::Nginx).collect();
    let names = ["h2b-1", "h2b-10", "h2b-100", "h2b-1m"];
    let loads = CLEAR_LOADS.into_iter().zip(names).map(|(load, name)| Load { name, budget: None, ..load });
    compare(arguments, &identity, &loads.collect::<Vec<_>>(), &contenders, &start)
}

fn clear_h2load(
    address: SocketAddr,
    path: &str,
    connections: usize,
    streams: usize,
    span: Duration,
) -> Result<Counted, Trouble> {
    h2load_at(format!("http://{address}{path}"), connections, streams, span)
}

fn h2load(
    address: SocketAddr,
    path: &str,
    connections: usize,
    streams: usize,
    span: Duration,
) -> Result<Counted, Trouble> {
    h2load_at(format!("https://{NAME}:{}{path}", address.port()), connections, streams, span)
}

fn h2load_at(url: String, connections: usize, streams: usize, span: Duration) -> Result<Counted, Trouble> {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &LOAD_PROCESSOR.to_string(), "h2load", "-c", &connections.to_string()]);
    command.args(["-m", &streams.to_string(), "-D", &span.as_secs_f64().ceil().to_string()]);
    let output = command.arg(url).stdin(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line =
        text.lines().find(|line| line.starts_with("requests: ")).ok_or_else(|| format!("h2load said: {text}"))?;
    let count = |word: &str| {
        let before = line.split(',').find_map(|part| part.trim().strip_suffix(word));
        before.and_then(|number| number.trim().parse().ok()).ok_or_else(|| format!("h2load said: {line}"))
    };
    Ok(Counted { done: count("succeeded")?, errors: count("failed")? })
}
