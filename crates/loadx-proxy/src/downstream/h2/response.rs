//! The response to a request in HTTP/2.

use std::future::poll_fn;
use std::task::{Poll, ready};

use loadx_http::h2::section::{put_head, put_lines};
use loadx_http::{Answering, Response, Version};

use super::mux::{Mux, Permission};
use crate::buffers::HeadBuffer;
use crate::downstream::reply::{ReplyOptions, write_own};
use crate::io::Broken;
use crate::net::{Network, PipeOf};
use crate::patience::Patience;
use crate::pipes::LentPipe;
use crate::sides::{BodySink, OwnResponse, Piece, ResponseChanges, ResponseSink};
use crate::timer::Timer;

/// Sends the response of one exchange.
pub(super) struct ResponseWriter<'w, N: Network> {
    mux: &'w Mux<N>,
    /// The number of the exchange.
    number: usize,
    stream: u32,
    timer: &'w Timer,
    patience: &'w Patience,
    /// Whether the request is a HEAD.
    to_head: bool,
    /// Whether the request asks for a tunnel.
    wants_tunnel: bool,
    /// The head that goes out with the next piece, in the notation of HTTP/1.1; empty if there is none.
    head: HeadBuffer,
    status: u16,
    /// Whether the head opens the tunnel.
    opens_tunnel: bool,
    is_unfinished: bool,
    written: u64,
    content: u64,
}

/// What the request asks of its response.
#[derive(Copy, Clone, Debug)]
pub(super) struct Wants {
    pub(super) to_head: bool,
    pub(super) tunnel: bool,
}

impl<'w, N: Network> ResponseWriter<'w, N> {
    pub(super) fn new(mux: &'w Mux<N>, number: usize, timer: &'w Timer, patience: &'w Patience, wants: Wants) -> Self {
        ResponseWriter {
            mux,
            number,
            stream: mux.stream_of(number),
            timer,
            patience,
            to_head: wants.to_head,
            wants_tunnel: wants.tunnel,
            head: mux.worker.buffers.head(),
            status: 0,
            opens_tunnel: false,
            is_unfinished: false,
            written: 0,
            content: 0,
        }
    }

    /// Waits until something may be sent. Returns how much content, in bytes.
    async fn permission(&mut self, wants: usize) -> Result<usize, Broken> {
        poll_fn(|cx| match self.mux.ask(self.number, wants) {
            Permission::Send(bytes) => Poll::Ready(Ok(bytes)),
            Permission::Gone => Poll::Ready(Err(Broken::Closed)),
            // The driver limits how long the connection may take for what is written.
            Permission::Turn => Poll::Pending,
            Permission::Window => {
                ready!(self.timer.poll_expired(cx, self.patience.wait(self.timer)));
                Poll::Ready(Err(Broken::TimedOut))
            }
        })
        .await
    }

    /// Puts the head, as much content as `most`, and the end if that is all. Returns how much content was put.
    fn put(&mut self, content: &[u8], most: usize, end: Option<&[u8]>) -> usize {
        let count = content.len().min(most);
        let is_all = count == content.len();
        let ends = end.filter(|_| is_all);
        let (stream, status, opens_tunnel) = (self.stream, self.status, self.opens_tunnel);
        let head = &mut self.head;
        let written = self.mux.put(|connection, out| {
            let before = out.len();
            let ends_without_trailers = ends.is_some_and(<[u8]>::is_empty);
            let mut has_ended = false;
            if !head.is_empty() {
                has_ended = ends_without_trailers && content.is_empty();
                connection.put_section(stream, has_ended, out, |out| put_head(status, head, opens_tunnel, out));
                head.clear();
            }
            if count > 0 || (ends_without_trailers && !has_ended) {
                connection.put_content(stream, &content[..count], ends_without_trailers, out);
            }
            if let Some(lines) = ends.filter(|lines| !lines.is_empty()) {
                connection.put_section(stream, true, out, |out| put_lines(lines, out));
            }
            out.len() - before
        });
        self.written += written as u64;
        self.content += count as u64;
        count
    }
}

impl<N: Network> BodySink for ResponseWriter<'_, N> {
    type Pipe = PipeOf<N>;

    async fn send(&mut self, piece: Piece<'_>) -> Result<(), Broken> {
        let Piece { mut content, end } = piece;
        if content.is_empty() && end.is_none() && self.head.is_empty() {
            return Ok(());
        }
        loop {
            // A head needs no window.
            let wants = if self.head.is_empty() { content.len() } else { 0 };
            let most = self.permission(wants).await?;
            self.is_unfinished = true;
            let count = self.put(content, most, end);
            self.patience.moved(count as u64, self.timer);
            content = &content[count..];
            if content.is_empty() {
                break;
            }
        }
        self.is_unfinished = end.is_none();
        Ok(())
    }

    fn takes_pipes(&self) -> bool {
        false
    }

    async fn drain(&mut self, _: &mut LentPipe<'_, PipeOf<N>>, _: &impl Fn()) -> Result<(), Broken> {
        Ok(())
    }

    fn shut(&mut self) {
        self.is_unfinished = false;
        self.mux.put(|connection, out| connection.put_content(self.stream, b"", true, out));
    }

    fn written(&self) -> u64 {
        self.written
    }

    fn content(&self) -> u64 {
        self.content
    }
}

impl<N: Network> ResponseSink<PipeOf<N>> for ResponseWriter<'_, N> {
    type Body = Self;

    fn body(&mut self) -> &mut Self {
        self
    }

    fn head(&mut self, response: &Response<'_, '_>, changes: &ResponseChanges<'_>) {
        let date = response.lacks_date().then(|| self.mux.worker.date.now());
        let answering = Answering {
            version: Version::Http2,
            framing: None,
            persistent: true,
            via: changes.via,
            date: date.as_deref(),
            request_id_line: Some(changes.request_id_line),
            removed: changes.removed,
            replaced: changes.replaced,
            added: changes.added,
        };
        self.head.clear();
        response.encode(&answering, &mut self.head);
        self.opens_tunnel = self.wants_tunnel && response.status() == 101;
        // RFC 8441, section 5.
        self.status = if response.status() == 101 { 200 } else { response.status() };
    }

    /// The client would take any 2xx for an open tunnel.
    fn misleads(&self, status: u16) -> bool {
        self.wants_tunnel && (200..300).contains(&status)
    }

    async fn interim(&mut self) -> Result<(), Broken> {
        self.send(Piece { content: b"", end: None }).await
    }

    async fn own(&mut self, response: &OwnResponse<'_>, _: bool) -> Result<u64, Broken> {
        self.head.clear();
        let options = ReplyOptions { version: Version::Http2, persistent: true, to_head: true };
        write_own(response, options, &mut self.head);
        self.status = response.status;
        self.opens_tunnel = false;
        let content = if self.to_head { b"" } else { &*response.content };
        self.send(Piece { content, end: Some(b"") }).await?;
        Ok(content.len() as u64)
    }

    fn is_unfinished(&self) -> bool {
        self.is_unfinished
    }

    fn switch(&mut self) {
        self.is_unfinished = true;
    }
}
