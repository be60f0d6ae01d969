//! The request of a probe of HTTP, and what its answer says, in either version of HTTP.

use std::fmt::Write as _;

use loadx_core::{Evidence, HttpProbe, ProbeMethod};

use super::http2::Response;

/// A request without content.
#[derive(Copy, Clone, Debug)]
pub(super) struct Request<'r> {
    /// The head in the notation of HTTP/1.1.
    pub(super) head: &'r str,
    pub(super) method: ProbeMethod,
    /// Whether the verdict depends on the content of the response.
    pub(super) needs_content: bool,
}

/// What a backend answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The first bytes of the content.
    pub(super) content: Vec<u8>,
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        Answer { status: response.status, content: response.content }
    }
}

/// The head of the request; `closes`: whether the connection ends with the response.
pub(super) fn head(probe: &HttpProbe, authority: &str, closes: bool) -> String {
    let host = probe.host.as_deref().unwrap_or(authority);
    let mut head = format!("{} {} HTTP/1.1\r\nHost: {host}\r\n", probe.method.as_str(), probe.path);
    for (name, value) in [("User-Agent", "LoadX-health"), ("Accept", "*/*")] {
        if !probe.fields.iter().any(|(typed, _)| typed.eq_ignore_ascii_case(name)) {
            put(&mut head, name, value);
        }
    }
    if probe.method == ProbeMethod::Post {
        put(&mut head, "Content-Length", "0");
    }
    probe.fields.iter().for_each(|(name, value)| put(&mut head, name, value));
    if closes {
        put(&mut head, "Connection", "close");
    }
    head + "\r\n"
}

fn put(head: &mut String, name: &str, value: &str) {
    // Writing to a text cannot fail.
    let _ = write!(head, "{name}: {value}\r\n");
}

/// What an answer says about the backend.
pub(super) fn judge(probe: &HttpProbe, answer: &Answer) -> Evidence {
    let (method, path, status) = (probe.method.as_str(), &probe.path, answer.status);
    if !probe.accepts.contains(status) {
        return Evidence::ProbeFailed { reason: format!("{method} {path} answered {status}").into() };
    }
    if let Some(wanted) = &probe.content
        && !has(&answer.content, wanted.as_bytes())
    {
        let reason = format!("{method} {path} answered {status} without \"{wanted}\" in its content");
        return Evidence::ProbeFailed { reason: reason.into() };
    }
    Evidence::ProbePassed { status }
}

fn has(content: &[u8], wanted: &[u8]) -> bool {
    content.windows(wanted.len()).any(|window| window == wanted)
}
