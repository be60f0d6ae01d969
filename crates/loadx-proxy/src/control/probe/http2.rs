//! A probe in HTTP/2: one stream on a connection of its own.

use std::io::IoSlice;

use loadx_core::Time;
use loadx_http::h2::section::put_request;
use loadx_http::h2::{Answer, Client, Code, Connection, Event, Purpose, Scratch};

use super::Asking;
use crate::buffers::Input;
use crate::io::{fill, write_all};
use crate::limits::PROBE_CONTENT_BYTES_MAX;
use crate::net::Stream;

/// The request of a probe.
#[derive(Copy, Clone, Debug)]
pub(super) struct Request<'r> {
    /// The head in the notation of HTTP/1.1.
    pub(super) head: &'r str,
    pub(super) scheme: &'static [u8],
    /// Whether the request is a HEAD.
    pub(super) to_head: bool,
    pub(super) content: &'r [u8],
}

/// The response to a probe.
#[derive(Debug, Default)]
pub(super) struct Response {
    pub(super) status: u16,
    /// The head, and the trailer section behind it, as field lines.
    pub(super) lines: Vec<u8>,
    pub(super) content: Vec<u8>,
    /// Whether the response is complete.
    is_complete: bool,
}

/// Sends a request and returns the response; with [`PROBE_CONTENT_BYTES_MAX`] of content at most.
///
/// # Errors
/// The fault of the backend, as text for the log.
pub(super) async fn ask<S: Stream>(stream: &S, asking: &Asking<'_>, request: Request<'_>) -> Result<Response, String> {
    let mut probing = Probing { stream, asking, out: Vec::new(), input: Input::default(), scratch: Scratch::default() };
    let mut connection = Connection::to_server(&mut probing.out);
    let mut response = Response::default();
    while !connection.is_established() {
        probing.exchange(&mut connection, &mut response).await?;
    }
    let id = connection
        .open(if request.to_head { Purpose::Head } else { Purpose::Other })
        .ok_or("it allows no requests in HTTP/2")?;
    let ends = request.content.is_empty();
    connection.put_section(id, ends, &mut probing.out, |out| {
        put_request(request.head.as_bytes(), request.scheme, None, out);
    });
    if !ends {
        let sendable = connection.sendable(id).unwrap_or(0);
        if sendable < request.content.len() {
            return Err("it opens no window for the content of the probe".to_owned());
        }
        connection.put_content(id, request.content, true, &mut probing.out);
    }
    while !response.is_complete && response.content.len() < PROBE_CONTENT_BYTES_MAX {
        probing.exchange(&mut connection, &mut response).await?;
    }
    connection.finished(id, 0, &mut probing.out);
    connection.end(&mut probing.out);
    // The response is here: whether the backend takes the end does not matter.
    let _ = probing.write().await;
    Ok(response)
}

/// The connection of a probe.
struct Probing<'p, S> {
    stream: &'p S,
    asking: &'p Asking<'p>,
    out: Vec<u8>,
    input: Input,
    scratch: Scratch,
}

impl<S: Stream> Probing<'_, S> {
    /// Writes what waits.
    async fn write(&mut self) -> Result<(), String> {
        let (timer, patience) = (self.asking.waiting.timer, self.asking.patience);
        let written = write_all(self.stream, &mut [IoSlice::new(&self.out)], timer, patience, &mut 0).await;
        self.out.clear();
        written.map_err(|broken| broken.to_string())
    }

    /// Writes what waits, and reads until something has come.
    async fn exchange(&mut self, connection: &mut Connection<Client>, response: &mut Response) -> Result<(), String> {
        if !self.out.is_empty() {
            self.write().await?;
        }
        let Asking { waiting, patience } = *self.asking;
        if fill(self.stream, &mut self.input, waiting, patience).await.map_err(|broken| broken.to_string())? == 0 {
            return Err("the connection closed without an answer".to_owned());
        }
        loop {
            let now = waiting.timer.now().since(Time::ZERO);
            let received = connection.receive(self.input.bytes(), &mut self.scratch, now, &mut self.out);
            let (length, event) = received.map_err(|fault| format!("not valid HTTP/2: {fault}"))?;
            match event {
                Event::Nothing => {}
                Event::Told(Answer { status: 100..=199, .. }) => {}
                Event::Told(Answer { status, text, ends, .. }) => {
                    response.status = status;
                    response.lines = text.strip_suffix(b"\r\n").unwrap_or(text).to_vec();
                    response.is_complete = ends;
                }
                Event::Content { stream, content, ends } => {
                    connection.pass(stream, content.len(), &mut self.out);
                    response.content.extend_from_slice(content);
                    response.is_complete = ends;
                }
                Event::Trailers { lines, .. } => {
                    response.lines.extend_from_slice(lines);
                    response.is_complete = true;
                }
                // A backend may stop reading once its response is complete.
                Event::Reset { code: Code::NoError, fault: None, .. } if response.is_complete => {}
                Event::Reset { code, fault, .. } => {
                    return Err(fault.map_or_else(|| format!("it reset the stream ({code})"), str::to_owned));
                }
                Event::Goaway { last: 0, code } => return Err(format!("it ended the connection ({code})")),
                Event::Goaway { .. } => {}
            }
            if length == 0 {
                break;
            }
            self.input.consume(length);
        }
        self.input.release_if_empty();
        Ok(())
    }
}
