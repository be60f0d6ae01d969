//! A probe in HTTP/1.1.

use std::io::IoSlice;

use loadx_core::ProbeMethod;
use loadx_http::{BodyDecoder, FieldSlots, Framing, Parsed, parse_response};

use super::Asking;
use super::http::{Answer, Request};
use crate::buffers::Input;
use crate::io::{fill, write_all};
use crate::limits::PROBE_CONTENT_BYTES_MAX;
use crate::net::Stream;

/// Sends a request without content and returns the answer.
///
/// # Errors
/// The fault of the backend, as text for the log.
pub(super) async fn ask<S: Stream>(stream: &S, asking: &Asking<'_>, request: Request<'_>) -> Result<Answer, String> {
    let &Asking { waiting, patience } = asking;
    let head = request.head.as_bytes();
    write_all(stream, &mut [IoSlice::new(head)], waiting.timer, patience, &mut 0)
        .await
        .map_err(|broken| broken.to_string())?;
    let mut input = Input::default();
    let is_head = request.method == ProbeMethod::Head;
    loop {
        if let Some((status, framing)) = read_head(&mut input, is_head)? {
            let mut answer = Answer { status, content: Vec::new() };
            if request.needs_content || framing != Framing::UntilClose {
                take_content(stream, &mut input, framing, asking, &mut answer.content).await;
            }
            return Ok(answer);
        }
        match fill(stream, &mut input, waiting, patience).await.map_err(|broken| broken.to_string())? {
            0 => return Err("the connection closed without an answer".to_owned()),
            _ => continue,
        }
    }
}

fn read_head(input: &mut Input, is_head: bool) -> Result<Option<(u16, Framing)>, String> {
    loop {
        let mut slots = FieldSlots::new();
        if input.is_empty() {
            return Ok(None);
        }
        let parsed = parse_response(input.bytes(), is_head, &mut slots);
        let Parsed::Complete(response, length) = parsed.map_err(|fault| format!("not valid HTTP: {fault}"))? else {
            return Ok(None);
        };
        let (status, framing, interim) = (response.status(), response.framing(), response.is_interim());
        input.consume(length);
        if !interim {
            return Ok(Some((status, framing)));
        }
    }
}

/// Takes the content off the connection, up to [`PROBE_CONTENT_BYTES_MAX`]: also where no verdict depends on the content, so
/// that closing does not look like an abort to the backend.
async fn take_content<S: Stream>(
    stream: &S,
    input: &mut Input,
    framing: Framing,
    asking: &Asking<'_>,
    content: &mut Vec<u8>,
) {
    let mut decoder = BodyDecoder::new(framing);
    let mut left = PROBE_CONTENT_BYTES_MAX;
    while left > 0 {
        let Ok(decoded) = decoder.decode(input.bytes_mut()) else { return };
        let consumed = decoded.consumed;
        content.extend_from_slice(&input.bytes()[..decoded.content]);
        input.consume(consumed);
        left = left.saturating_sub(consumed);
        if decoder.is_complete() {
            return;
        }
        match fill(stream, input, asking.waiting, asking.patience).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}
