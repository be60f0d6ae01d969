//! One exchange with a client in HTTP/1.1: the content of the request, and the response.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};

use loadx_http::{Answering, Framing, Response, Version};

use crate::context::Worker;
use crate::downstream::reply::{ReplyOptions, write_own};
use crate::downstream::sessions::Session;
use crate::h1::{BodyReader, BodyWriter};
use crate::io::Broken;
use crate::net::{Network, PipeOf, Stream, StreamOf};
use crate::sides::{BodySink as _, OwnResponse, Piece, RequestSource, ResponseChanges, ResponseSink};

/// A piece that ends a body without content.
const END: Piece<'_> = Piece { content: b"", end: Some(b"") };

impl<S: Stream> RequestSource<S::Pipe> for BodyReader<'_, S> {
    type Body = Self;

    fn body(&mut self) -> &mut Self {
        self
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.stream.local_addr().ok()
    }

    fn set_content_max(&mut self, bytes: u64) {
        Self::set_content_max(self, bytes);
    }

    /// Treats the end of the client's direction as a departure: a close and a half-close look the same, and an exchange
    /// for a client that has closed is wasted. Stops reading when the input is full; then LoadX notices the departure
    /// when it writes the response.
    async fn departure(&mut self) -> Broken {
        let BodyReader { stream, input, waiting, .. } = self;
        poll_fn(|cx| {
            loop {
                if let Err(error) = ready!(stream.poll_readable(cx)) {
                    return Poll::Ready(Broken::Failed(error));
                }
                let room = input.room(waiting.buffers);
                if room.is_empty() {
                    return Poll::Pending;
                }
                match stream.try_read(room) {
                    Ok(0) => return Poll::Ready(Broken::Closed),
                    Ok(count) => input.filled(count),
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                        input.release_if_empty();
                    }
                    Err(error) => return Poll::Ready(Broken::Failed(error)),
                }
            }
        })
        .await
    }

    fn remove_trailers(&mut self, names: &[Arc<str>]) {
        Self::remove_trailers(self, names);
    }

    fn switch(&mut self) {
        self.begin(Framing::UntilClose);
    }
}

/// Writes the response of one exchange.
pub(super) struct ResponseWriter<'c, N: Network> {
    worker: &'c Rc<Worker<N>>,
    session: &'c Session,
    body: BodyWriter<'c, StreamOf<N>>,
    version: Version,
    /// Whether the request is a HEAD.
    to_head: bool,
    /// Whether the connection may stay open; after the head of the response, whether the connection stays open.
    persistent: bool,
}

impl<'c, N: Network> ResponseWriter<'c, N> {
    pub(super) fn new(
        worker: &'c Rc<Worker<N>>,
        session: &'c Session,
        body: BodyWriter<'c, StreamOf<N>>,
        options: ReplyOptions,
    ) -> Self {
        let ReplyOptions { version, to_head, persistent } = options;
        ResponseWriter { worker, session, body, version, to_head, persistent }
    }

    /// Whether the connection stays open after the response.
    pub(super) fn is_persistent(&self) -> bool {
        self.persistent
    }

    /// Whether the connection stays open. Called for each head, because the result may change during the exchange.
    fn stays_open(&self, request_complete: bool) -> bool {
        self.persistent && request_complete && self.worker.keeps_connections() && !self.session.should_close()
    }
}

impl<'c, N: Network> ResponseSink<PipeOf<N>> for ResponseWriter<'c, N> {
    type Body = BodyWriter<'c, StreamOf<N>>;

    fn body(&mut self) -> &mut Self::Body {
        &mut self.body
    }

    fn head(&mut self, response: &Response<'_, '_>, changes: &ResponseChanges<'_>) {
        let framing = response.framing_for(self.version, self.to_head);
        if !response.is_interim() {
            self.persistent = framing != Some(Framing::UntilClose) && self.stays_open(changes.request_complete);
            self.body.closes_after = !self.persistent;
        }
        self.body.framing = framing.unwrap_or(Framing::Length(0));
        let date = response.lacks_date().then(|| self.worker.date());
        let answering = Answering {
            version: self.version,
            framing,
            persistent: self.persistent,
            via: changes.via,
            date: date.as_deref(),
            request_id_line: Some(changes.request_id_line),
            removed: changes.removed,
            replaced: changes.replaced,
            added: changes.added,
        };
        // The head of a response that was not passed on may be there.
        self.body.head.clear();
        response.encode(&answering, &mut self.body.head);
    }

    fn misleads(&self, _: u16) -> bool {
        false
    }

    async fn interim(&mut self) -> Result<(), Broken> {
        // HTTP/1.0 has no interim responses (RFC 9110, section 15.2).
        if self.version == Version::Http10 {
            self.body.head.clear();
            return Ok(());
        }
        self.body.send(END).await
    }

    async fn own(&mut self, response: &OwnResponse<'_>, request_complete: bool) -> Result<u64, Broken> {
        self.persistent = self.stays_open(request_complete);
        self.body.closes_after = !self.persistent;
        self.body.head.clear();
        self.body.framing = Framing::Length(0);
        let options = ReplyOptions { version: self.version, persistent: self.persistent, to_head: self.to_head };
        let content = write_own(response, options, &self.worker.date(), &mut self.body.head);
        self.body.send(END).await?;
        self.body.count_content(content);
        Ok(content)
    }

    fn is_unfinished(&self) -> bool {
        self.body.is_unfinished()
    }

    fn switch(&mut self) {
        self.persistent = false;
        self.body.framing = Framing::UntilClose;
        self.body.set_unfinished(true);
    }
}
