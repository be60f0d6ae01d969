//! One exchange with a backend in HTTP/1.1.

use std::io::ErrorKind;

use loadx_core::{BackendId, Failure, Time};
use loadx_http::limits::HEAD_BYTES_MAX;
use loadx_http::{Changes, Forwarding, Framing, Parsed, RequestHead, Response, parse_response};

use super::pool::{Connection, Pool};
use crate::buffers::Input;
use crate::h1::{BodyReader, BodyWriter};
use crate::io::{Broken, Waiting, readable};
use crate::limits::{FIRST_READ_BYTES, HEAD_READ_BYTES};
use crate::net::Stream;
use crate::patience::Patience;
use crate::sides::{BodySource as _, RequestSink, ResponseSource};

/// A connection in use by one exchange.
#[derive(Debug)]
pub(crate) struct Conversation<S> {
    connection: Connection<S>,
    /// Received bytes that are not used yet.
    input: Input,
}

/// The parts that both halves of a conversation share.
#[derive(Debug)]
pub(crate) struct ConversationParts<'t, S> {
    pub(crate) waiting: Waiting<'t>,
    /// The longest silence of the backend, and the longest time in which it reads nothing.
    pub(crate) patience: &'t Patience,
    pub(crate) pool: &'t Pool<S>,
    /// Whether the request is a HEAD.
    pub(crate) to_head: bool,
}

impl<S: Stream> Conversation<S> {
    pub(crate) fn new(connection: Connection<S>) -> Self {
        Conversation { connection, input: Input::default() }
    }

    /// Adds what has come already.
    pub(crate) fn begin_with(&mut self, received: Input) {
        self.input = received;
    }

    /// The connection, and what has come and is not used yet.
    pub(crate) fn into_parts(self) -> (Connection<S>, Input) {
        (self.connection, self.input)
    }

    /// Returns the half that sends the request and the half that receives the response.
    pub(crate) fn halves<'c>(
        &'c mut self,
        parts: &ConversationParts<'c, S>,
    ) -> (BodyWriter<'c, S>, ResponseReader<'c, S>) {
        let &ConversationParts { waiting, patience, pool, to_head } = parts;
        let Conversation { connection: Connection { stream, used_pipe, .. }, input } = self;
        let first_read = if *used_pipe { HEAD_READ_BYTES } else { FIRST_READ_BYTES };
        let request = BodyWriter::new(stream, waiting, patience, None);
        let body = BodyReader::new(stream, input, Framing::Length(0), waiting, patience);
        (request, ResponseReader { body, pool, to_head, first_read, heads: 0, persistent: false })
    }

    /// Returns the halves after a switch to another protocol.
    pub(crate) fn switched<'c>(
        &'c mut self,
        parts: &ConversationParts<'c, S>,
    ) -> (BodyWriter<'c, S>, ResponseReader<'c, S>) {
        let (mut request, mut response) = self.halves(parts);
        request.framing = Framing::UntilClose;
        response.body.begin(Framing::UntilClose);
        (request, response)
    }

    /// Puts the connection into the pool, or closes it if the backend sent bytes after its response. `used_pipe`: whether content
    /// of the response went through a pipe.
    pub(crate) fn keep(mut self, pool: &Pool<S>, backend: BackendId, now: Time, used_pipe: bool) {
        if self.input.is_empty() {
            self.connection.used_pipe = used_pipe;
            pool.put(backend, self.connection, now);
        }
    }

    /// Makes the later drop reset the connection.
    pub(crate) fn break_off(&self) {
        self.connection.stream.break_off();
    }
}

impl<S: Stream> RequestSink<S::Pipe> for BodyWriter<'_, S> {
    type Body = Self;

    fn body(&mut self) -> &mut Self {
        self
    }

    fn head(&mut self, head: &RequestHead, forwarding: &Forwarding<'_>, changes: &Changes<'_>) {
        head.encode(forwarding, changes, &mut self.head);
        self.framing = head.framing();
    }
}

/// Receives the response.
#[derive(Debug)]
pub(crate) struct ResponseReader<'c, S> {
    body: BodyReader<'c, S>,
    pool: &'c Pool<S>,
    to_head: bool,
    /// The most bytes of one read of a head.
    first_read: usize,
    /// The number of received heads.
    heads: usize,
    /// Whether the last head allows another exchange on the connection.
    persistent: bool,
}

impl<S: Stream> ResponseReader<'_, S> {
    /// Whether the connection may be used for another exchange after this response.
    pub(crate) fn leaves_connection(&self) -> bool {
        self.persistent && self.body.is_consumed()
    }

    /// Whether content of the response has gone through a pipe.
    pub(crate) fn used_pipe(&self) -> bool {
        self.body.used_pipe()
    }

    /// Reads more of the response, until `deadline`. Waits before the first read, because no response arrives
    /// immediately after the request.
    async fn read_more(&mut self, deadline: impl Fn() -> Time) -> Result<usize, Broken> {
        let BodyReader { stream, input, waiting, .. } = &mut self.body;
        loop {
            let mark = self.pool.mark();
            if readable(*stream, waiting.timer, &deadline).await? {
                self.pool.polled_since(mark);
            }
            match stream.try_read(input.room_up_to(self.first_read, waiting.buffers)) {
                Ok(count) => {
                    input.filled(count);
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => input.release_if_empty(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Broken::Failed(error)),
            }
        }
    }

    /// Waits for the head of the final response, behind interim ones, and returns its status. Takes nothing of what has come.
    ///
    /// # Errors
    /// When the connection breaks first, the head is invalid, or nothing comes until `deadline`.
    pub(crate) async fn final_status(&mut self, deadline: impl Fn() -> Time) -> Result<u16, Failure> {
        let mut interim_bytes = 0;
        loop {
            match self.status_at(interim_bytes)? {
                Some((status, length)) if status < 200 => interim_bytes += length,
                Some((status, _)) => return Ok(status),
                None => {
                    let seen = self.body.input.bytes().len();
                    match self.read_more(&deadline).await {
                        Ok(0) => return Err(self.broken(&Broken::Closed, seen)),
                        Ok(_) => {}
                        Err(Broken::TimedOut) => return Err(Failure::Silent),
                        Err(broken) => return Err(self.broken(&broken, seen)),
                    }
                }
            }
        }
    }

    /// The status and the length of the head at this place of the input; `None` if the head has not arrived wholly.
    fn status_at(&self, start: usize) -> Result<Option<(u16, usize)>, Failure> {
        let bytes = &self.body.input.bytes()[start..];
        if bytes.is_empty() {
            return Ok(None);
        }
        let mut slots = self.body.waiting.buffers.fields();
        match parse_response(bytes, self.to_head, &mut slots) {
            Ok(Parsed::Complete(response, length)) => Ok(Some((response.status(), length))),
            Ok(Parsed::Partial) => Ok(None),
            Err(fault) => Err(Failure::BadResponse(fault.to_string())),
        }
    }

    /// Calls `take` with the head if the whole head has arrived.
    fn parse<T>(&mut self, take: &mut impl FnMut(&Response<'_, '_>) -> T) -> Result<Option<T>, Failure> {
        let mut slots = self.body.waiting.buffers.fields();
        let parsed = parse_response(self.body.input.bytes(), self.to_head, &mut slots);
        let Parsed::Complete(response, length) = parsed.map_err(|fault| Failure::BadResponse(fault.to_string()))?
        else {
            return Ok(None);
        };
        let taken = take(&response);
        self.persistent = response.persistent();
        let framing = response.framing();
        drop(slots);
        self.body.input.consume(length);
        self.body.begin(framing);
        self.heads += 1;
        Ok(Some(taken))
    }

    /// The failure when the backend's connection broke after `seen` bytes of a head.
    fn broken(&self, broken: &Broken, seen: usize) -> Failure {
        let reason = || match broken {
            Broken::Closed => "the response head is incomplete".to_owned(),
            broken => broken.to_string(),
        };
        match (self.heads, seen) {
            (0, 0) => Failure::Unanswered { reason: broken.to_string(), unsent: false },
            (0, _) => Failure::HeadBrokeOff(reason()),
            // The client has the interim response, which says that this backend works on the request.
            _ => Failure::BrokeOff(reason()),
        }
    }
}

impl<'c, S: Stream> ResponseSource<S::Pipe> for ResponseReader<'c, S> {
    type Body = BodyReader<'c, S>;

    fn body(&mut self) -> &mut Self::Body {
        &mut self.body
    }

    async fn head<T>(
        &mut self,
        deadline: impl Fn() -> Time,
        mut take: impl FnMut(&Response<'_, '_>) -> T,
    ) -> Result<T, Failure> {
        let mut seen = 0;
        loop {
            let bytes = self.body.input.bytes();
            let line_arrived = || memchr::memchr(b'\n', &bytes[seen..]).is_some();
            let worth_reading = !bytes.is_empty() && (seen == 0 || line_arrived() || bytes.len() >= HEAD_BYTES_MAX);
            if worth_reading && let Some(taken) = self.parse(&mut take)? {
                return Ok(taken);
            }
            seen = self.body.input.bytes().len();
            match self.read_more(&deadline).await {
                Ok(0) => return Err(self.broken(&Broken::Closed, seen)),
                Ok(_) => {}
                Err(Broken::TimedOut) if self.body.waiting.timer.now() < deadline() => {}
                Err(Broken::TimedOut) => return Err(Failure::Silent),
                Err(broken) => return Err(self.broken(&broken, seen)),
            }
        }
    }
}
