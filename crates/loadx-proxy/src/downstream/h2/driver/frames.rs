//! What the frames of the client mean for the exchanges.

use std::rc::Rc;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use loadx_core::{ErrorKind, ProxyError, Time};
use loadx_http::grpc;
use loadx_http::h2::section::{Asked, RequestKind};
use loadx_http::h2::{Code, Connection, Event, Told};
use loadx_http::{Fault as HeadFault, Parsed, Version, parse_request};

use super::super::response::Wants;
use super::super::{Job, Work};
use super::Driver;
use crate::downstream::refusal::{refusal_of, start_line};
use crate::h2::Gone;
use crate::incoming::Incoming;
use crate::limits::REFUSED_LINE_BYTES_MAX;
use crate::net::Network;
use crate::telemetry::H2Counts;

impl<N: Network> Driver<'_, N> {
    /// Reads the frames in the input.
    pub(super) fn receive(&mut self) {
        let now = self.timer.now();
        self.heard_at = now;
        let mut input = std::mem::take(&mut self.input);
        let held = input.bytes().len();
        let worker = self.worker;
        // A client that has reset streams may open others, once the exchanges of the former have ended.
        while self.ending.is_none() && !self.served.is_full_of_resets() {
            let scratch = &mut *worker.h2_scratch.borrow_mut();
            let since = now.since(Time::ZERO);
            let told = self.mux().put(|connection, out| connection.receive(input.bytes(), scratch, since, out));
            match told {
                Ok((0, _)) => break,
                Ok((length, event)) => {
                    self.handle(event);
                    input.consume(length);
                }
                Err(fault) => self.fail(&fault),
            }
        }
        self.is_interrupted = self.ending.is_none() && !input.is_empty() && self.served.is_full_of_resets();
        input.release_if_empty();
        // The time of a frame begins anew with each frame, and the time of a field section with each section.
        let has_read = input.bytes().len() < held;
        self.incomplete_since = (!input.is_empty()).then(|| self.incomplete_since.filter(|_| !has_read).unwrap_or(now));
        let is_within_section = self.mux().look(Connection::is_within_section);
        self.section_since = is_within_section.then(|| self.section_since.unwrap_or(now));
        self.input = input;
    }

    fn handle(&mut self, event: Event<'_, Told<'_>>) {
        match event {
            Event::Nothing => {}
            Event::Told(told) => self.told(told),
            Event::Content { stream, content, ends } => self.mux().deliver(stream, content, ends),
            Event::Trailers { stream, lines } => self.mux().deliver_trailers(stream, lines),
            Event::Reset { stream, code, fault } => {
                match fault {
                    Some(_) => self.count(|counts| counts.stream_fault(code)),
                    None => self.count(|counts| counts.resets += 1),
                }
                if let Some(fault) = fault {
                    tracing::debug!("stream {stream} of {} ends: {fault} ({code})", self.served.origin.address());
                }
                self.mux().deliver_end(stream, fault.map_or(Gone::Reset(code), Gone::Fault));
            }
            Event::Goaway { code, .. } => {
                if code != Code::NoError {
                    tracing::debug!("{} ends its connection: {code}", self.served.origin.address());
                }
                self.client_leaves = true;
            }
        }
    }

    fn told(&mut self, told: Told<'_>) {
        match told {
            Told::Request { stream, asked, text, ends } => self.request(stream, asked, text, ends),
            Told::Refused => self.count(|counts| counts.refused += 1),
            Told::TooLarge { stream, text } => {
                let wants = Wants { to_head: text.starts_with(b"HEAD "), tunnel: false };
                self.refuse(stream, refusal_of(HeadFault::HeadTooLarge), text, wants);
            }
            Told::Malformed { reason, text } => {
                self.count(|counts| counts.stream_fault(Code::ProtocolError));
                let error = ProxyError::new(400, ErrorKind::HttpRequestError, reason);
                let id = self.worker.next_request_id();
                self.requests += 1;
                self.worker.log_refusal((self.listener, self.served.origin.ip), &id, start_line(text), &error, 0);
            }
            Told::Priority { stream, priority } => self.mux().set_priority(stream, priority),
        }
    }

    /// Begins the exchange of a request.
    fn request(&mut self, stream: u32, asked: Asked, text: &[u8], ends: bool) {
        let began = self.timer.latest();
        let mut head = self.worker.buffers.request();
        let is_tunnel = asked.kind == RequestKind::Tunnel;
        let parsed = match is_tunnel {
            true => parse_request(&self.with_key(text), &mut head),
            false => parse_request(text, &mut head),
        };
        let wants = Wants { to_head: text.starts_with(b"HEAD "), tunnel: is_tunnel };
        let refusal = match parsed {
            Ok(Parsed::Complete(..)) if is_tunnel && !head.offers_upgrade() => {
                Some(ProxyError::new(501, ErrorKind::HttpRequestError, "LoadX opens no tunnel for this protocol"))
            }
            Ok(Parsed::Complete(..)) => None,
            Ok(Parsed::Partial) => Some(refusal_of(HeadFault::HeadTooLarge)),
            Err(fault) => Some(refusal_of(fault)),
        };
        if let Some(error) = refusal {
            return self.refuse(stream, error, text, Wants { tunnel: false, ..wants });
        }
        head.set_version(Version::Http2);
        let connection = (self.served.stream(), &self.served.origin, self.listener);
        match Incoming::new(self.worker, connection, head, began) {
            Ok(mut incoming) => {
                incoming.is_spare = self.served.is_spare;
                let limits = &incoming.plan.process.client_limits;
                let (most, age) = (limits.requests_per_connection, limits.connection_age);
                self.begin(stream, asked, ends, wants, Work::Exchange(incoming));
                if u64::from(self.requests) >= most || age.is_some_and(|age| began.since(self.opened) >= age) {
                    self.announce_end();
                }
            }
            Err(error) => self.refuse(stream, error, text, wants),
        }
    }

    /// The head of a request for a tunnel with the key that the handshake of WebSockets has in HTTP/1.1 (RFC 6455, section 4.1), and
    /// which HTTP/2 does not have.
    fn with_key(&self, text: &[u8]) -> Vec<u8> {
        let bits = [self.worker.entropy(), self.worker.entropy()].map(u64::to_ne_bytes).concat();
        let is_key = |line: &&[u8]| line.starts_with(b"sec-websocket-key:");
        let lines = text[..text.len().saturating_sub(2)].split_inclusive(|byte| *byte == b'\n');
        let mut head = lines.filter(|line| !is_key(line)).collect::<Vec<_>>().concat();
        head.extend_from_slice(format!("sec-websocket-key: {}\r\n\r\n", BASE64_STANDARD.encode(bits)).as_bytes());
        head
    }

    /// Answers a request that does not become an exchange.
    fn refuse(&mut self, stream: u32, error: ProxyError, text: &[u8], wants: Wants) {
        let is_call = grpc::is_call(text);
        let text = text[..text.len().min(2 * REFUSED_LINE_BYTES_MAX)].to_vec();
        let asked = Asked { kind: RequestKind::Plain, length: None, priority: <_>::default() };
        self.begin(stream, asked, true, wants, Work::Refusal { error, text, is_call });
    }

    pub(super) fn count(&self, count: impl FnOnce(&mut H2Counts)) {
        count(&mut self.worker.metrics.borrow_mut().h2);
    }

    fn begin(&mut self, stream: u32, asked: Asked, ends: bool, wants: Wants, work: Work) {
        self.requests += 1;
        self.count(|counts| counts.requests += 1);
        self.session.set_idle(false);
        let served = self.served;
        self.tasks.begin(self.timer.latest(), |number, waker, timer| {
            served.open(number, stream, asked.priority, Arc::clone(waker), ends);
            Job { served: Rc::clone(served), number, timer, wants, work }
        });
    }
}
