//! Reads a response in pieces of any size.

use loadx_http::{BodyDecoder, FieldSlots, Parsed, parse_response};

use crate::{Answer, Failure};

/// A response that is being read.
#[derive(Default)]
pub(crate) struct Reading {
    /// The bytes of an incomplete head.
    pending: Vec<u8>,
    body: Option<BodyDecoder>,
    status: u16,
    persistent: bool,
    names_backend: bool,
    backend: String,
    content_bytes: u64,
    began: bool,
    /// Whether the response answers a HEAD, and so has no content.
    to_head: bool,
    slots: FieldSlots,
}

impl Reading {
    /// Prepares for the next response. Buffers keep their memory.
    pub(crate) fn reset(&mut self, to_head: bool) {
        self.to_head = to_head;
        self.pending.clear();
        self.body = None;
        self.content_bytes = 0;
        self.began = false;
    }

    /// Whether a byte of the response has arrived. After that byte the end of the connection is a failure, and not an
    /// idle connection that the server closed.
    pub(crate) fn has_begun(&self) -> bool {
        self.began
    }

    /// Whether the response allows another request on the connection.
    pub(crate) fn is_persistent(&self) -> bool {
        self.persistent
    }

    /// The complete response.
    pub(crate) fn answer(&self) -> Answer<'_> {
        Answer {
            status: self.status,
            backend: self.names_backend.then_some(self.backend.as_str()),
            content_bytes: self.content_bytes,
        }
    }

    /// Adds the bytes of one read. Returns whether the response is complete.
    pub(crate) fn take(&mut self, bytes: &mut [u8]) -> Result<bool, Failure> {
        self.began = true;
        if self.body.is_some() || self.pending.is_empty() {
            return self.take_on(bytes);
        }
        let mut joined = std::mem::take(&mut self.pending);
        joined.extend_from_slice(bytes);
        self.take_on(&mut joined)
    }

    /// Applies the end of the connection. Fails unless the end of the connection ends the response.
    pub(crate) fn end(&mut self) -> Result<(), Failure> {
        let decoder = self.body.as_mut().ok_or(Failure::Closed)?;
        decoder.end_of_input().map_err(Failure::Body)
    }

    fn take_on(&mut self, mut bytes: &mut [u8]) -> Result<bool, Failure> {
        while self.body.is_none() {
            let Some(length) = self.take_head(bytes)? else {
                self.pending.extend_from_slice(bytes);
                return Ok(false);
            };
            bytes = &mut bytes[length..];
        }
        self.take_body(bytes)
    }

    /// Reads a head at the start of `bytes`. Returns its length, or `None` if the head is incomplete.
    fn take_head(&mut self, bytes: &[u8]) -> Result<Option<usize>, Failure> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let parsed = parse_response(bytes, self.to_head, &mut self.slots).map_err(Failure::Head)?;
        let Parsed::Complete(response, length) = parsed else { return Ok(None) };
        // The final response follows an interim response.
        if response.is_interim() {
            return Ok(Some(length));
        }
        self.status = response.status();
        self.persistent = response.persistent();
        self.backend.clear();
        let backend = response.field("x-backend");
        self.names_backend = backend.is_some();
        self.backend.push_str(&String::from_utf8_lossy(backend.unwrap_or_default()));
        self.body = Some(BodyDecoder::new(response.framing()));
        Ok(Some(length))
    }

    fn take_body(&mut self, bytes: &mut [u8]) -> Result<bool, Failure> {
        let Some(decoder) = &mut self.body else { return Ok(false) };
        let decoded = decoder.decode(bytes).map_err(Failure::Body)?;
        self.content_bytes += decoded.content as u64;
        match decoder.is_complete() {
            true if decoded.consumed < bytes.len() => Err(Failure::Excess),
            complete => Ok(complete),
        }
    }
}
