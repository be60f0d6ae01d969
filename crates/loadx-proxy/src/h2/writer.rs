//! Sends a message.

use std::future::poll_fn;
use std::marker::PhantomData;
use std::task::{Poll, ready};

use loadx_http::h2::section::put_lines;
use loadx_http::h2::{Client, Connection, Role, Server};

use super::alarm::Alarm;
use super::mux::{Gone, Mux};
use super::turns::Permission;
use crate::buffers::HeadBuffer;
use crate::io::Broken;
use crate::patience::Patience;
use crate::pipes::LentPipe;
use crate::sides::{BodySink, Piece};
use crate::timer::Timer;

/// How a head in the notation of HTTP/1.1 becomes a field section.
pub(crate) trait Heading<R> {
    /// Appends the field section, and opens the stream if `stream` is 0. Returns the stream; 0 if the connection opens no more.
    /// `ends`: whether the message ends with the head.
    fn put(&self, connection: &mut Connection<R>, stream: u32, ends: bool, text: &[u8], out: &mut Vec<u8>) -> u32;
}

/// The side of a connection that LoadX is, as far as sending differs.
pub(crate) trait Side: Role {
    /// Whether the driver ends a connection whose peer lets nothing through. Otherwise each exchange limits its own time, because the
    /// exchanges of other clients may still receive on the connection.
    const DRIVER_LIMITS_TURNS: bool;
}

impl Side for Server {
    const DRIVER_LIMITS_TURNS: bool = true;
}

impl Side for Client {
    const DRIVER_LIMITS_TURNS: bool = false;
}

/// Sends one message. `P`: the pipe of the other half, which HTTP/2 cannot use.
pub(crate) struct BodyWriter<'w, R, A, P, H> {
    mux: &'w Mux<R, A>,
    /// The number of the exchange.
    number: usize,
    timer: &'w Timer,
    patience: &'w Patience,
    pub(crate) heading: H,
    /// The head that goes out with the next piece, in the notation of HTTP/1.1; empty if there is none.
    pub(crate) head: HeadBuffer,
    is_unfinished: bool,
    /// Whether the end of the message is left out, because a tunnel is to follow.
    awaits_tunnel: bool,
    written: u64,
    content: u64,
    pipe: PhantomData<P>,
}

impl<'w, R: Side, A: Alarm, P, H: Heading<R>> BodyWriter<'w, R, A, P, H> {
    pub(crate) fn new(mux: &'w Mux<R, A>, number: usize, timer: &'w Timer, patience: &'w Patience, heading: H) -> Self {
        BodyWriter {
            mux,
            number,
            timer,
            patience,
            heading,
            head: mux.buffers().head(),
            is_unfinished: false,
            awaits_tunnel: false,
            written: 0,
            content: 0,
            pipe: PhantomData,
        }
    }

    /// Whether LoadX has sent a part of the message but not all of it.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.is_unfinished
    }

    /// How the other side has left, if it has.
    pub(crate) fn departed(&self) -> Option<Broken> {
        self.mux.gone(self.number).map(Broken::from)
    }

    /// The message has not begun with what was sent, which was an interim response.
    pub(crate) fn was_interim(&mut self) {
        self.is_unfinished = false;
    }

    /// Leaves the stream open behind the message, for a tunnel.
    pub(crate) fn await_tunnel(&mut self) {
        self.awaits_tunnel = true;
    }

    /// Sends the bytes of a tunnel behind the head.
    pub(crate) fn tunnel(&mut self) {
        self.is_unfinished = true;
        self.awaits_tunnel = false;
    }

    /// Waits until something may be sent. Returns how much content, in bytes.
    async fn permission(&mut self, wants: usize) -> Result<usize, Broken> {
        poll_fn(|cx| match self.mux.ask(self.number, wants, cx) {
            Permission::Send(bytes) => Poll::Ready(Ok(bytes)),
            Permission::Gone => Poll::Ready(Err(self.mux.gone(self.number).unwrap_or(Gone::Lost).into())),
            // The driver of a client's connection limits how long the connection may take.
            Permission::Turn if R::DRIVER_LIMITS_TURNS => Poll::Pending,
            Permission::Turn | Permission::Window => {
                ready!(self.timer.poll_expired(cx, self.patience.wait(self.timer)));
                self.mux.leave_turn(self.number);
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
        let (head, heading) = (&mut self.head, &self.heading);
        let mut written = 0;
        self.mux.put_on(self.number, |connection, mut stream, out| {
            let before = out.len();
            let ends_without_trailers = ends.is_some_and(<[u8]>::is_empty);
            let mut has_ended = false;
            if !head.is_empty() {
                has_ended = ends_without_trailers && content.is_empty();
                stream = heading.put(connection, stream, has_ended, head, out);
                head.clear();
            }
            if count > 0 || (ends_without_trailers && !has_ended) {
                connection.put_content(stream, &content[..count], ends_without_trailers, out);
            }
            if let Some(lines) = ends.filter(|lines| !lines.is_empty()) {
                connection.put_section(stream, true, out, |out| put_lines(lines, out));
            }
            written = out.len() - before;
            stream
        });
        self.written += written as u64;
        self.content += count as u64;
        count
    }
}

impl<R: Side, A: Alarm, P, H: Heading<R>> BodySink for BodyWriter<'_, R, A, P, H> {
    type Pipe = P;

    async fn send(&mut self, piece: Piece<'_>) -> Result<(), Broken> {
        let Piece { mut content, end } = piece;
        let end = end.filter(|_| !self.awaits_tunnel);
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

    fn is_ready(&self, bytes: usize) -> bool {
        self.mux.is_ready(self.number, bytes)
    }

    fn takes_pipes(&self) -> bool {
        false
    }

    async fn drain(&mut self, _: &mut LentPipe<'_, P>, _: &impl Fn()) -> Result<(), Broken> {
        Ok(())
    }

    fn shut(&mut self) {
        self.is_unfinished = false;
        self.mux.put_on(self.number, |connection, stream, out| {
            connection.put_content(stream, b"", true, out);
            stream
        });
    }

    fn written(&self) -> u64 {
        self.written
    }

    fn content(&self) -> u64 {
        self.content
    }
}
