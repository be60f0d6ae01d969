//! HTTP/2 under the load of h2load: over TLS, in clear text, and with backends of HTTP/2.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::PeersArguments;
use super::contender::Contender;
use super::lab::{LOAD_PROCESSOR, Lab, Stage};
use super::tls::{Authority, Identity, Load, NAME, compare, contenders};
use super::wrk::{Counted, Pattern, wrk};
use crate::Trouble;

/// A load of h2load.
struct Shape {
    name: &'static str,
    about: &'static str,
    path: &'static str,
    connections: usize,
    streams: usize,
}

const SHAPES: [Shape; 5] = [
    Shape { name: "1", about: "13 bytes, 32 connections with 1 stream each", path: "/", connections: 32, streams: 1 },
    Shape { name: "10", about: "13 bytes, 8 connections with 10 streams each", path: "/", connections: 8, streams: 10 },
    Shape {
        name: "100",
        about: "13 bytes, 8 connections with 100 streams each",
        path: "/",
        connections: 8,
        streams: 100,
    },
    Shape { name: "1m", about: "1 MiB, 8 connections with 1 stream each", path: MIB, connections: 8, streams: 1 },
    Shape { name: "1m-10", about: "1 MiB, 2 connections with 10 streams each", path: MIB, connections: 2, streams: 10 },
];

const MIB: &str = "/bytes/1048576";

/// The loads, with this scheme in their URLs.
fn loads(prefix: &str, scheme: &'static str, budget: Option<f64>) -> Vec<Load> {
    let load = |shape: &'static Shape| Load {
        name: format!("{prefix}-{}", shape.name),
        about: format!("{} ({scheme})", shape.about),
        run: Box::new(move |_, address, span| h2load(scheme, address, shape, span)),
        budget,
    };
    SHAPES.iter().map(load).collect()
}

pub(super) fn h2(lab: &Lab, arguments: &PeersArguments) -> Result<String, Trouble> {
    let identity = Identity::new(lab, &Authority::new()?)?;
    let start = |contender: &Contender| lab.start_tls(contender, &Stage::USUAL, &identity);
    compare(arguments, &identity, &loads("h2", "https", Some(0.85)), &contenders(lab), &start)
}

/// The same loads in clear text. The proxies with TLS have most of their cost outside of HTTP/2.
pub(super) fn clear_h2(lab: &Lab, arguments: &PeersArguments) -> Result<String, Trouble> {
    let identity = Identity::new(lab, &Authority::new()?)?;
    let start = |contender: &Contender| lab.start_clear_h2(contender, &Stage::USUAL, None);
    compare(arguments, &identity, &loads("h2c", "http", Some(0.85)), &contenders(lab), &start)
}

/// HTTP/2 on both sides. Debian's nginx does not speak HTTP/2 to backends; here it is the backend.
pub(super) fn h2_backends(lab: &Lab, arguments: &PeersArguments) -> Result<String, Trouble> {
    let identity = Identity::new(lab, &Authority::new()?)?;
    let origin = lab.start_h2_origin()?;
    let start = |contender: &Contender| lab.start_clear_h2(contender, &Stage::USUAL, Some(&[origin.address]));
    let contenders: Vec<Contender> =
        contenders(lab).into_iter().filter(|contender| *contender != Contender::Nginx).collect();
    let of_h2 = compare(arguments, &identity, &loads("h2b", "http", None), &contenders, &start)?;
    let start = |contender: &Contender| lab.start_clear(contender, &Stage::USUAL, false, Some(&[origin.address]));
    let of_h1 = compare(arguments, &identity, &loads_of_h1(), &contenders, &start)?;
    Ok(format!("{of_h2}\n{of_h1}"))
}

/// Clients of HTTP/1.1.
fn loads_of_h1() -> [Load; 2] {
    let load = |name: &str, about: &str, path: &'static str, connections| Load {
        name: name.to_owned(),
        about: format!("{about}, {connections} connections of HTTP/1.1"),
        run: Box::new(move |_, address, span| wrk("http", address, path, &Pattern::new(connections, false), span)),
        budget: None,
    };
    [load("h2b-h1", "13 bytes", "/", 32), load("h2b-h1-1m", "1 MiB", MIB, 8)]
}

fn h2load(scheme: &str, address: SocketAddr, shape: &Shape, span: Duration) -> Result<Counted, Trouble> {
    // The certificate is for the name, which leads to the loopback address.
    let url = format!("{scheme}://{NAME}:{}{}", address.port(), shape.path);
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &LOAD_PROCESSOR.to_string(), "h2load", "-c", &shape.connections.to_string()]);
    command.args(["-m", &shape.streams.to_string(), "-D", &span.as_secs_f64().ceil().to_string()]);
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
