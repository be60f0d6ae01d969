//! The response's way back: wait for its head, pass on what is meant for the client, then the body.

use std::io::ErrorKind;
use std::time::Duration;

use loadx_core::{Failure, Time};
use loadx_http::limits::HEAD_BYTES_MAX;
use loadx_http::{Answering, BodyDecoder, FieldSlots, Framing, Parsed, Response, Version, parse_response};

use super::Progress;
use super::failure::{Sent, client_gone, unanswered};
use crate::buffers::Input;
use crate::date::Date;
use crate::incoming::Incoming;
use crate::io::Waiting;
use crate::io::{Broken, readable};
use crate::limits::{COPY_BEHIND_HEAD_BYTES_MAX, FIRST_READ_BYTES, INTERIM_RESPONSES_MAX, SPLICE_BYTES_MIN};
use crate::net::Stream;
use crate::patience::Patience;
use crate::pipes::Pipes;
use crate::relay::{RelayFault, Sink, Source, pass_on, relay};
use crate::request_id;
use crate::upstream::pool::Pool;

/// The response's way back to the client.
pub(super) struct Download<'d, S: Stream> {
    pub(super) incoming: &'d Incoming,
    pub(super) progress: &'d Progress,
    pub(super) waiting: Waiting<'d>,
    pub(super) from_backend: &'d S,
    pub(super) pipes: &'d Pipes<S>,
    pub(super) pool: &'d Pool<S>,
    /// How long the backend may be silent, before its response and within.
    pub(super) silence: Duration,
    pub(super) input: Input,
    pub(super) to_client: &'d S,
    pub(super) to_client_patience: &'d Patience,
    /// How long the client may keep its body waiting.
    pub(super) from_client: &'d Patience,
    /// For a response that comes without one.
    pub(super) date: &'d Date,
    /// The field lines that the route adds to the response.
    pub(super) added: &'d [u8],
    /// LoadX's name in Via.
    pub(super) via: Option<&'d str>,
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
    /// Whether the connection goes over to a protocol that the client asked for.
    switches: bool,
    framing: Framing,
    client_framing: Option<Framing>,
    backend_persistent: bool,
    client_persistent: bool,
}

pub(super) struct Downloaded {
    pub(super) status: u16,
    /// Whether the connection goes on in another protocol.
    pub(super) switches: bool,
    pub(super) backend_persistent: bool,
    pub(super) client_persistent: bool,
}

impl<S: Stream> Download<'_, S> {
    pub(super) async fn run(&mut self) -> Result<Downloaded, Failure> {
        let mut out = self.waiting.buffers.head();
        let mut interims = 0;
        let head = loop {
            let head = self.head(&mut out, interims == 0).await?;
            self.input.consume(head.length);
            if !head.interim {
                self.progress.head_at.set(Some(self.waiting.timer.latest()));
                break head;
            }
            interims += 1;
            self.progress.silent_since.set(self.waiting.timer.now());
            if interims > INTERIM_RESPONSES_MAX {
                return Err(Failure::Unrequested("sent interim responses without end"));
            }
            if head.status == 101 && !head.switches {
                return Err(Failure::Unrequested("switched to a protocol that was not asked for"));
            }
            if self.incoming.head.version() == Version::Http11 {
                self.interim(&out).await?;
            }
            if head.status == 100 {
                self.from_client.release();
            }
            out.clear();
            if head.switches {
                self.progress.answered.set(Some(head.status));
                return Ok(Downloaded {
                    status: head.status,
                    switches: true,
                    backend_persistent: false,
                    client_persistent: false,
                });
            }
        };
        self.body(&head, &mut out).await?;
        Ok(Downloaded {
            status: head.status,
            switches: false,
            backend_persistent: head.backend_persistent,
            client_persistent: head.client_persistent,
        })
    }

    async fn interim(&mut self, head: &[u8]) -> Result<(), Failure> {
        let mut sink = Sink::new(self.to_client, Framing::UntilClose, self.to_client_patience);
        // Half of it, and another response behind, would be nonsense.
        *self.unfinished = true;
        sink.send(head, b"", None, self.waiting).await.map_err(|broken| client_gone(&broken))?;
        *self.unfinished = false;
        Ok(())
    }

    /// Waits for a response head and writes what the client gets of it to `out`. Only before the `first` of them
    /// the backend has not answered at all.
    async fn head(&mut self, out: &mut Vec<u8>, first: bool) -> Result<ResponseHead, Failure> {
        let (progress, from_client, timer, silence) =
            (self.progress, self.from_client, self.waiting.timer, self.silence);
        let mut seen = 0;
        loop {
            let bytes = self.input.bytes();
            let line_came = || memchr::memchr(b'\n', &bytes[seen..]).is_some();
            let worth_reading = !bytes.is_empty() && (seen == 0 || line_came() || bytes.len() >= HEAD_BYTES_MAX);
            if worth_reading && let Some(head) = self.parse(out)? {
                return Ok(head);
            }
            seen = self.input.bytes().len();
            // The backend's time begins when it has what it was sent, and stands still while LoadX waits for
            // the client.
            let began = || if from_client.is_waiting() { timer.now() } else { progress.silent_since.get() };
            let deadline = || began() + silence;
            match self.read_on(deadline).await {
                Ok(0) if first && seen == 0 => return Err(unanswered(&Broken::Closed, Sent::Something)),
                Ok(0) => return Err(Failure::BrokeOff("the response head broke off".to_owned())),
                Ok(_) => {}
                Err(Broken::TimedOut) if timer.now() < deadline() => {}
                Err(Broken::TimedOut) => return Err(Failure::Silent),
                Err(broken) if first && seen == 0 => return Err(unanswered(&broken, Sent::Something)),
                Err(broken) => return Err(Failure::BrokeOff(broken.to_string())),
            }
        }
    }

    /// Reads more of the response, up to `deadline`. Waits first: right behind the request there is no answer yet.
    async fn read_on(&mut self, deadline: impl Fn() -> Time) -> Result<usize, Broken> {
        loop {
            let mark = self.pool.mark();
            if readable(self.from_backend, self.waiting.timer, &deadline).await? {
                self.pool.polled_since(mark);
            }
            match self.from_backend.try_read(self.input.room_up_to(FIRST_READ_BYTES, self.waiting.buffers)) {
                Ok(count) => {
                    self.input.filled(count);
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.input.release_if_empty(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Broken::Failed(error)),
            }
        }
    }

    /// Reads what else is here of a body that is not worth a pipe, to send all of it at once. What goes wrong shows
    /// at the next read too.
    fn gather(&mut self, decoder: &BodyDecoder) {
        let left = decoder.run_left().saturating_sub(self.input.bytes().len() as u64);
        if (1..SPLICE_BYTES_MIN).contains(&left)
            && let Ok(count) = self.from_backend.try_read(self.input.room(self.waiting.buffers))
        {
            self.input.filled(count);
        }
    }

    fn parse(&self, out: &mut Vec<u8>) -> Result<Option<ResponseHead>, Failure> {
        let (version, to_head) = (self.incoming.head.version(), self.incoming.head.is_head());
        let mut slots = FieldSlots::new();
        let parsed = parse_response(self.input.bytes(), to_head, &mut slots);
        let Parsed::Complete(response, length) = parsed.map_err(|fault| Failure::BadResponse(fault.to_string()))?
        else {
            return Ok(None);
        };
        let client_framing = response.framing_for(version, to_head);
        let client_persistent = self.incoming.persistent
            && client_framing != Some(Framing::UntilClose)
            && self.progress.upload_done.get()
            && (self.keeps_connection)();
        let date = response.lacks_date().then(|| self.date.now());
        let mut line = request_id::EMPTY_LINE;
        let answering = Answering {
            version,
            framing: client_framing,
            persistent: client_persistent,
            via: self.via,
            date: date.as_deref(),
            request_id_line: Some(self.incoming.id.line(&mut line)),
            removed: self.incoming.route().map_or(&[], |route| &route.response_fields.remove[..]),
            added: self.added,
        };
        response.encode(&answering, out);
        Ok(Some(ResponseHead {
            length,
            status: response.status(),
            interim: response.is_interim(),
            switches: response.switches_protocols() && self.was_offered(&response),
            framing: response.framing(),
            client_framing,
            backend_persistent: response.persistent(),
            client_persistent,
        }))
    }

    /// Whether the client offered what this response switches to, and has sent all of its request.
    fn was_offered(&self, response: &Response<'_, '_>) -> bool {
        self.progress.upload_done.get() && self.incoming.head.offers(response)
    }

    /// Sends the head with as much of the body as is here, then the rest.
    async fn body(&mut self, head: &ResponseHead, out: &mut Vec<u8>) -> Result<(), Failure> {
        let framing = head.client_framing.unwrap_or(Framing::Length(0));
        let mut decoder = BodyDecoder::new(head.framing);
        let mut sink = Sink::new(self.to_client, framing, self.to_client_patience);
        self.progress.answered.set(Some(head.status));
        *self.unfinished = true;
        // Whatever comes of it, the connection ends right behind a response that is its last.
        let last = !head.client_persistent;
        let outcome = self.send_body(&mut decoder, &mut sink, out, last).await;
        *self.unfinished = outcome.is_err() && sink.written > 0;
        if sink.written == 0 {
            // Nothing has left: the client can still be told why.
            self.progress.answered.set(None);
        }
        self.progress.content.set(sink.content);
        outcome.map_err(|fault| match fault {
            RelayFault::Source(broken) => Failure::BrokeOff(broken.to_string()),
            RelayFault::Body(fault) => Failure::BrokeOff(fault.as_str().to_owned()),
            RelayFault::Sink(broken) => client_gone(&broken),
        })
    }

    async fn send_body(
        &mut self,
        decoder: &mut BodyDecoder,
        sink: &mut Sink<'_, S>,
        out: &mut Vec<u8>,
        last: bool,
    ) -> Result<(), RelayFault> {
        let whole = decoder.content_left().filter(|left| *left <= self.input.bytes().len() as u64);
        match whole {
            // The usual small response: head and content, one after the other in one buffer.
            Some(length) if length <= COPY_BEHIND_HEAD_BYTES_MAX as u64 => {
                let length = length as usize;
                out.extend_from_slice(&self.input.bytes()[..length]);
                self.input.consume(length);
                let sent = if last { sink.send_last(out) } else { 0 };
                if sent < out.len() {
                    sink.send(&out[sent..], b"", None, self.waiting).await.map_err(RelayFault::Sink)?;
                }
                sink.content = length as u64;
                Ok(())
            }
            _ => {
                self.gather(decoder);
                pass_on(&mut self.input, decoder, out, sink, self.waiting).await?;
                let patience = &Patience::idle(self.silence);
                let source = Source { stream: self.from_backend, input: &mut self.input, decoder, patience };
                relay(source, sink, self.pipes, self.waiting, || {}).await
            }
        }
    }
}
