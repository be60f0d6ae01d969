//! One exchange with a backend in HTTP/2.

use std::cell::OnceCell;
use std::future::poll_fn;
use std::task::Poll;

use loadx_core::{Failure, Time};
use loadx_http::h2::section::put_request;
use loadx_http::h2::{Client, Connection, Purpose};
use loadx_http::{Changes, FieldSlots, Forwarding, Framing, Parsed, RequestHead, Response, Version, parse_response};

use super::link::Lease;
use super::tunnel::Offer;
use crate::buffers::HeadBuffer;
use crate::h2::{BodyReader, BodyWriter, Gone, Heading, TaskAlarm};
use crate::net::{Network, PipeOf};
use crate::patience::Patience;
use crate::sides::{RequestSink, ResponseSource};
use crate::timer::Timer;

/// A stream in use by one exchange.
pub(crate) struct Conversation<N: Network> {
    lease: Lease<N>,
    /// The tunnel that the request asks for.
    offer: OnceCell<Offer>,
}

/// The parts that both halves of a conversation share.
pub(crate) struct ConversationParts<'t> {
    pub(crate) timer: &'t Timer,
    /// The longest silence of the backend, and the longest time in which it reads nothing.
    pub(crate) patience: &'t Patience,
    /// Whether the request is a HEAD.
    pub(crate) to_head: bool,
}

impl<N: Network> Conversation<N> {
    pub(crate) fn new(lease: Lease<N>) -> Self {
        Conversation { lease, offer: OnceCell::new() }
    }

    /// Returns the half that sends the request and the half that receives the response.
    pub(crate) fn halves<'c>(
        &'c mut self,
        parts: &ConversationParts<'c>,
    ) -> (RequestWriter<'c, N>, ResponseReader<'c, N>) {
        let &ConversationParts { timer, patience, to_head } = parts;
        let Lease { link, number } = &self.lease;
        let heading = RequestHeading { to_head, scheme: link.scheme(), offer: &self.offer };
        let request = RequestWriter {
            body: BodyWriter::new(&link.mux, *number, timer, patience, heading),
            takes_tunnels: link.mux.look(Connection::takes_tunnels),
        };
        let body = BodyReader::new(&link.mux, *number, timer, patience);
        (request, ResponseReader { body, to_head, offer: &self.offer, text: None, taken: 0, heads: 0 })
    }

    /// Returns the halves after the tunnel is open.
    pub(crate) fn switched<'c>(
        &'c mut self,
        parts: &ConversationParts<'c>,
    ) -> (RequestWriter<'c, N>, ResponseReader<'c, N>) {
        let (mut request, mut response) = self.halves(parts);
        request.body.tunnel();
        response.body.tunnel();
        (request, response)
    }
}

/// How the head of the request becomes a field section.
pub(crate) struct RequestHeading<'c> {
    to_head: bool,
    scheme: &'static [u8],
    offer: &'c OnceCell<Offer>,
}

impl Heading<Client> for RequestHeading<'_> {
    fn put(&self, connection: &mut Connection<Client>, _: u32, ends: bool, text: &[u8], out: &mut Vec<u8>) -> u32 {
        let tunnel = self.offer.get().map(|offer| &*offer.protocol);
        let purpose = match tunnel {
            Some(_) => Purpose::Tunnel,
            None if self.to_head => Purpose::Head,
            None => Purpose::Other,
        };
        let Some(stream) = connection.open(purpose) else { return 0 };
        connection.put_section(stream, ends, out, |out| put_request(text, self.scheme, tunnel, out));
        stream
    }
}

/// Sends the request.
pub(crate) struct RequestWriter<'c, N: Network> {
    body: BodyWriter<'c, Client, TaskAlarm, PipeOf<N>, RequestHeading<'c>>,
    /// Whether the backend takes tunnels. Otherwise it gets the request without the offer of an upgrade.
    takes_tunnels: bool,
}

impl<N: Network> RequestWriter<'_, N> {
    /// Takes a head that is encoded already, in the notation of HTTP/1.1.
    pub(crate) fn text(&mut self, head: &[u8]) {
        self.body.head.extend_from_slice(head);
    }
}

impl<'c, N: Network> RequestSink<PipeOf<N>> for RequestWriter<'c, N> {
    type Body = BodyWriter<'c, Client, TaskAlarm, PipeOf<N>, RequestHeading<'c>>;

    fn body(&mut self) -> &mut Self::Body {
        &mut self.body
    }

    fn head(&mut self, head: &RequestHead, forwarding: &Forwarding<'_>, changes: &Changes<'_>) {
        head.encode(forwarding, changes, &mut self.body.head);
        // A tunnel has no content (RFC 9110, section 9.3.6), and CONNECT replaces the method: a request with content, and one that
        // is no GET, goes without the offer, which a server may decline (RFC 9110, section 7.8).
        let takes_offer = self.takes_tunnels && head.framing() == Framing::Length(0) && head.method() == b"GET";
        if let Some(offer) = Offer::of(head).filter(|_| takes_offer) {
            self.body.await_tunnel();
            // A conversation has one request.
            let _ = self.body.heading.offer.set(offer);
        }
    }
}

/// Receives the response.
pub(crate) struct ResponseReader<'c, N: Network> {
    body: BodyReader<'c, Client, TaskAlarm, PipeOf<N>>,
    to_head: bool,
    offer: &'c OnceCell<Offer>,
    /// Received heads in the notation of HTTP/1.1.
    text: Option<HeadBuffer>,
    /// How much of the heads was taken.
    taken: usize,
    /// The number of taken heads.
    heads: usize,
}

impl<N: Network> ResponseReader<'_, N> {
    /// Calls `take` with the next head if a head has arrived.
    fn parse<T>(&mut self, take: &mut impl FnMut(&Response<'_, '_>) -> T) -> Result<Option<T>, Failure> {
        let (mux, number) = self.body.lane();
        if self.text.as_ref().is_none_or(|text| self.taken == text.len()) {
            self.taken = 0;
            self.text = mux.take_heads(number);
        }
        let Some(buffer) = &self.text else { return Ok(None) };
        let (text, mut slots) = (&buffer[self.taken..], buffer.buffers().fields());
        let told = read(text, self.to_head, &mut slots, |response, length| match self.offer.get() {
            Some(offer) if (200..300).contains(&response.status()) => (Err(offer.accepted(&text[..length])), length),
            _ => (Ok(take(response)), length),
        })?;
        let (taken, length) = match told {
            (Ok(taken), length) => (taken, length),
            (Err(accepted), length) => (read(&accepted, false, &mut slots, |response, _| take(response))?, length),
        };
        self.taken += length;
        self.heads += 1;
        Ok(Some(taken))
    }

    /// The failure when the stream has ended before a head.
    fn failure(&self, gone: Gone) -> Failure {
        let reason = match gone {
            Gone::Fault(fault) => return Failure::BadResponse(fault.to_owned()),
            Gone::Unserved if self.heads == 0 => {
                return Failure::Unanswered { reason: "it refused the stream".to_owned(), unsent: true };
            }
            Gone::Unserved => "it refused the stream".to_owned(),
            Gone::Reset(code) => format!("it reset the stream ({code})"),
            Gone::Lost => "connection closed".to_owned(),
        };
        match self.heads {
            0 => Failure::Unanswered { reason, unsent: false },
            _ => Failure::BrokeOff(reason),
        }
    }
}

/// Calls `take` with the head at the start of a text, and its length.
fn read<T>(
    text: &[u8],
    to_head: bool,
    slots: &mut FieldSlots,
    take: impl FnOnce(&Response<'_, '_>, usize) -> T,
) -> Result<T, Failure> {
    match parse_response(text, to_head, slots).map_err(|fault| Failure::BadResponse(fault.to_string()))? {
        Parsed::Complete(mut response, length) => {
            response.set_version(Version::Http2);
            Ok(take(&response, length))
        }
        Parsed::Partial => Err(Failure::BadResponse("the head is too large".to_owned())),
    }
}

impl<'c, N: Network> ResponseSource<PipeOf<N>> for ResponseReader<'c, N> {
    type Body = BodyReader<'c, Client, TaskAlarm, PipeOf<N>>;

    fn body(&mut self) -> &mut Self::Body {
        &mut self.body
    }

    async fn head<T>(
        &mut self,
        deadline: impl Fn() -> Time,
        mut take: impl FnMut(&Response<'_, '_>) -> T,
    ) -> Result<T, Failure> {
        let (mux, number) = self.body.lane();
        let timer = self.body.timer;
        poll_fn(|cx| {
            if let Some(taken) = self.parse(&mut take)? {
                timer.now();
                return Poll::Ready(Ok(taken));
            }
            if let Some(gone) = mux.gone(number) {
                return Poll::Ready(Err(self.failure(gone)));
            }
            mux.waits(number, cx);
            timer.poll_expired(cx, deadline()).map(|()| Err(Failure::Silent))
        })
        .await
    }
}
