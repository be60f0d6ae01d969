//! The response's way back: wait for its head, pass on what is meant for the client, then the body.

use loadx_http::limits::HEAD_BYTES_MAX;
use loadx_http::{Answering, BodyDecoder, FieldSlots, Framing, Parsed, Version, parse_response};

use super::Progress;
use super::failure::{Failure, client_gone, unanswered};
use crate::buffers::Input;
use crate::incoming::Incoming;
use crate::io::Broken;
use crate::limits::{COPY_BEHIND_HEAD_BYTES_MAX, INTERIM_RESPONSES_MAX};
use crate::net::Stream;
use crate::relay::{RelayFault, Sink, Source, Waiting, fill, pass_on, relay};

/// The response's way back to the client.
pub(super) struct Download<'d, S> {
    pub(super) incoming: &'d Incoming,
    pub(super) progress: &'d Progress,
    pub(super) waiting: Waiting<'d>,
    pub(super) from_backend: &'d S,
    pub(super) input: Input,
    pub(super) to_client: &'d S,
    /// Set from the first byte of the response to its last.
    pub(super) unfinished: &'d mut bool,
    /// Whether the client's connection may go on. Asked when the head is written: that can change
    /// while the backend works.
    pub(super) keeps_connection: &'d dyn Fn() -> bool,
}

/// What a response head says, apart from the bytes that the client gets.
struct ResponseHead {
    length: usize,
    status: u16,
    interim: bool,
    framing: Framing,
    client_framing: Option<Framing>,
    backend_persistent: bool,
    client_persistent: bool,
}

pub(super) struct Downloaded {
    pub(super) status: u16,
    pub(super) backend_persistent: bool,
    pub(super) client_persistent: bool,
}

impl<S: Stream> Download<'_, S> {
    pub(super) async fn run(&mut self) -> Result<Downloaded, Failure> {
        let mut out = self.waiting.buffers.head();
        let mut interims = 0;
        let head = loop {
            let head = self.head(&mut out).await?;
            self.input.consume(head.length);
            if !head.interim {
                break head;
            }
            interims += 1;
            if interims > INTERIM_RESPONSES_MAX || head.status == 101 {
                // Upgrade was not passed on, so no backend may switch protocols.
                return Err(Failure::Flood);
            }
            if self.incoming.version == Version::Http11 {
                let mut sink = Sink::new(self.to_client, Framing::UntilClose);
                sink.send(&out, b"", None, self.waiting).await.map_err(|broken| client_gone(&broken))?;
            }
            out.clear();
        };
        self.body(&head, &mut out).await?;
        Ok(Downloaded {
            status: head.status,
            backend_persistent: head.backend_persistent,
            client_persistent: head.client_persistent && self.progress.upload_done.get(),
        })
    }

    /// Waits for a response head and writes what the client gets of it to `out`.
    async fn head(&mut self, out: &mut Vec<u8>) -> Result<ResponseHead, Failure> {
        let mut seen = 0;
        loop {
            let bytes = self.input.bytes();
            let worth_reading = bytes[seen..].contains(&b'\n') || bytes.len() >= HEAD_BYTES_MAX;
            if worth_reading && let Some(head) = self.parse(out)? {
                return Ok(head);
            }
            seen = self.input.bytes().len();
            let Waiting { idle, .. } = self.waiting;
            // The backend's time begins when it has what it was sent.
            let deadline = || self.progress.sent_at.get() + idle;
            match fill(self.from_backend, &mut self.input, self.waiting, deadline).await {
                Ok(0) if seen == 0 => return Err(unanswered(&Broken::Closed, 1)),
                Ok(0) => return Err(Failure::BrokeOff("the response head broke off".to_owned())),
                Ok(_) => {}
                Err(Broken::TimedOut) if self.waiting.timer.now() < deadline() => {}
                Err(Broken::TimedOut) => return Err(Failure::Silent),
                Err(broken) if seen == 0 => return Err(unanswered(&broken, 1)),
                Err(broken) => return Err(Failure::BrokeOff(broken.describe())),
            }
        }
    }

    fn parse(&self, out: &mut Vec<u8>) -> Result<Option<ResponseHead>, Failure> {
        let mut slots = FieldSlots::new();
        let parsed = parse_response(self.input.bytes(), self.incoming.to_head, &mut slots);
        let Parsed::Complete(response, length) = parsed.map_err(Failure::BadResponse)? else {
            return Ok(None);
        };
        let client_framing = response.framing_for(self.incoming.version, self.incoming.to_head);
        let client_persistent = self.incoming.persistent
            && client_framing != Some(Framing::UntilClose)
            && self.progress.upload_done.get()
            && (self.keeps_connection)();
        let answering =
            Answering { version: self.incoming.version, framing: client_framing, persistent: client_persistent };
        response.encode(&answering, out);
        Ok(Some(ResponseHead {
            length,
            status: response.status(),
            interim: response.is_interim(),
            framing: response.framing(),
            client_framing,
            backend_persistent: response.persistent(),
            client_persistent,
        }))
    }

    /// Sends the head with as much of the body as is here, then the rest.
    async fn body(&mut self, head: &ResponseHead, out: &mut Vec<u8>) -> Result<(), Failure> {
        let framing = head.client_framing.unwrap_or(Framing::Length(0));
        let mut decoder = BodyDecoder::new(head.framing);
        let mut sink = Sink::new(self.to_client, framing);
        self.progress.answered.set(head.status);
        *self.unfinished = true;
        let outcome = self.send_body(&mut decoder, &mut sink, out).await;
        *self.unfinished = outcome.is_err();
        self.progress.content.set(sink.content);
        outcome.map_err(|fault| match fault {
            RelayFault::Source(broken) => Failure::BrokeOff(broken.describe()),
            RelayFault::Body(fault) => Failure::BrokeOff(fault.as_str().to_owned()),
            RelayFault::Sink(broken) => client_gone(&broken),
        })
    }

    async fn send_body(
        &mut self,
        decoder: &mut BodyDecoder,
        sink: &mut Sink<'_, S>,
        out: &mut Vec<u8>,
    ) -> Result<(), RelayFault> {
        let whole = decoder.content_left().filter(|left| *left <= self.input.bytes().len() as u64);
        match whole {
            // The usual small response: head and content, one after the other in one buffer.
            Some(length) if length <= COPY_BEHIND_HEAD_BYTES_MAX as u64 => {
                let length = length as usize;
                out.extend_from_slice(&self.input.bytes()[..length]);
                self.input.consume(length);
                sink.send(out, b"", None, self.waiting).await.map_err(RelayFault::Sink)?;
                sink.content = length as u64;
                Ok(())
            }
            _ => {
                pass_on(&mut self.input, decoder, out, sink, self.waiting).await?;
                let source = Source { stream: self.from_backend, input: &mut self.input, decoder };
                relay(source, sink, self.waiting, || {}).await
            }
        }
    }
}
