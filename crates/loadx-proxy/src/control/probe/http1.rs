//! A probe in HTTP/1.1.

use std::io::IoSlice;

use loadx_http::{BodyDecoder, FieldSlots, Framing, Parsed, parse_response};

use super::Asking;
use crate::buffers::Input;
use crate::io::{fill, write_all};
use crate::limits::PROBE_CONTENT_BYTES_MAX;
use crate::net::Stream;

/// Sends a head and returns the status of the response.
///
/// # Errors
/// The fault of the backend, as text for the log.
pub(super) async fn ask<S: Stream>(stream: &S, asking: &Asking<'_>, head: &str) -> Result<u16, String> {
    let &Asking { waiting, patience } = asking;
    write_all(stream, &mut [IoSlice::new(head.as_bytes())], waiting.timer, patience, &mut 0)
        .await
        .map_err(|broken| broken.to_string())?;
    let mut input = Input::default();
    loop {
        if let Some((status, framing)) = read_head(&mut input)? {
            drain(stream, &mut input, framing, asking).await;
            return Ok(status);
        }
        match fill(stream, &mut input, waiting, patience).await.map_err(|broken| broken.to_string())? {
            0 => return Err("the connection closed without an answer".to_owned()),
            _ => continue,
        }
    }
}

fn read_head(input: &mut Input) -> Result<Option<(u16, Framing)>, String> {
    loop {
        let mut slots = FieldSlots::new();
        if input.is_empty() {
            return Ok(None);
        }
        let parsed = parse_response(input.bytes(), false, &mut slots);
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

/// Takes the body off the connection where it is here already or soon, so that closing does not look
/// like an abort to the backend. The verdict does not depend on it.
async fn drain<S: Stream>(stream: &S, input: &mut Input, framing: Framing, asking: &Asking<'_>) {
    let mut decoder = BodyDecoder::new(framing);
    let mut left = PROBE_CONTENT_BYTES_MAX;
    while framing != Framing::UntilClose && left > 0 {
        let Ok(decoded) = decoder.decode(input.bytes_mut()) else { return };
        input.consume(decoded.consumed);
        left = left.saturating_sub(decoded.consumed);
        if decoder.is_complete() {
            return;
        }
        match fill(stream, input, asking.waiting, asking.patience).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}
