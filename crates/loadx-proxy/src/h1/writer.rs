//! Writes a message in the framing of HTTP/1.1 to a stream.

use std::io::{ErrorKind, IoSlice};

use loadx_http::{ChunkPrefix, Framing};

use crate::buffers::HeadBuffer;
use crate::io::{Broken, Waiting, writable, write_all};
use crate::limits::COPY_BEHIND_HEAD_BYTES_MAX;
use crate::net::Stream;
use crate::patience::Patience;
use crate::pipes::LentPipe;
use crate::sides::{BodySink, Piece};

/// Writes a head and a body.
#[derive(Debug)]
pub(crate) struct BodyWriter<'w, S> {
    pub(crate) stream: &'w S,
    pub(crate) waiting: Waiting<'w>,
    patience: &'w Patience,
    /// The encoded head; sent with the first piece of the body.
    pub(crate) head: HeadBuffer,
    pub(crate) framing: Framing,
    /// Whether LoadX closes the connection after the message: the FIN may then share a packet with the last bytes.
    pub(crate) closes_after: bool,
    /// Set while only a part of the message has been sent.
    unfinished: Option<&'w mut bool>,
    written: u64,
    content: u64,
}

impl<'w, S: Stream> BodyWriter<'w, S> {
    pub(crate) fn new(
        stream: &'w S,
        waiting: Waiting<'w>,
        patience: &'w Patience,
        unfinished: Option<&'w mut bool>,
    ) -> Self {
        let head = waiting.buffers.head();
        BodyWriter {
            stream,
            waiting,
            patience,
            head,
            framing: Framing::Length(0),
            closes_after: false,
            unfinished,
            written: 0,
            content: 0,
        }
    }

    /// Writes as much of the head as fits, without waiting. Ignores an error: the write of the rest returns the error
    /// again.
    fn try_head(&mut self) -> usize {
        let sent = match self.closes_after {
            true => self.stream.try_write_last(&self.head),
            false => self.stream.try_write(&[IoSlice::new(&self.head)]),
        };
        let sent = sent.unwrap_or(0);
        self.written += sent as u64;
        self.patience.moved(sent as u64, self.waiting.timer);
        sent
    }

    /// Writes the head from byte `sent` on.
    async fn head_rest(&mut self, sent: usize) -> Result<(), Broken> {
        let pieces = &mut [IoSlice::new(&self.head[sent..])];
        write_all(self.stream, pieces, self.waiting.timer, self.patience, &mut self.written).await
    }

    /// Counts content that was sent as a part of the head.
    pub(crate) fn count_content(&mut self, bytes: u64) {
        self.content += bytes;
    }

    /// Whether only a part of the message has been sent.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.unfinished.as_deref().is_some_and(|unfinished| *unfinished)
    }

    /// Sets whether only a part of the message has been sent.
    pub(crate) fn set_unfinished(&mut self, is_unfinished: bool) {
        if let Some(unfinished) = self.unfinished.as_deref_mut() {
            *unfinished = is_unfinished;
        }
    }

    async fn write(&mut self, pieces: &mut [IoSlice<'_>]) -> Result<(), Broken> {
        write_all(self.stream, pieces, self.waiting.timer, self.patience, &mut self.written).await
    }

    /// Writes a piece from a separate buffer than its head.
    async fn send_parts(&mut self, piece: Piece<'_>) -> Result<(), Broken> {
        let Piece { content, .. } = piece;
        if self.framing == Framing::Chunked {
            self.send_chunk(piece).await?;
        } else if self.head.is_empty() {
            self.write(&mut [IoSlice::new(content)]).await?;
        } else {
            let pieces = &mut [IoSlice::new(&self.head), IoSlice::new(content)];
            let pieces = if content.is_empty() { &mut pieces[..1] } else { &mut pieces[..] };
            write_all(self.stream, pieces, self.waiting.timer, self.patience, &mut self.written).await?;
        }
        Ok(())
    }

    /// Writes a piece in the chunked coding (RFC 9112, section 7.1).
    async fn send_chunk(&mut self, piece: Piece<'_>) -> Result<(), Broken> {
        let Piece { content, end } = piece;
        let prefix = ChunkPrefix::new(content.len());
        let around: [&[u8]; 2] = if content.is_empty() { [b"", b""] } else { [prefix.as_bytes(), b"\r\n"] };
        let ending: [&[u8]; 3] = match end {
            Some(trailers) => [b"0\r\n", trailers, b"\r\n"],
            None => [b"", b"", b""],
        };
        let parts = [&self.head, around[0], content, around[1], ending[0], ending[1], ending[2]];
        let mut slices = [IoSlice::new(b""); 7];
        let mut used = 0;
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            slices[used] = IoSlice::new(part);
            used += 1;
        }
        write_all(self.stream, &mut slices[..used], self.waiting.timer, self.patience, &mut self.written).await
    }
}

impl<S: Stream> BodySink for BodyWriter<'_, S> {
    type Pipe = S::Pipe;

    async fn send(&mut self, piece: Piece<'_>) -> Result<(), Broken> {
        let Piece { content, end } = piece;
        let in_one = self.framing != Framing::Chunked
            && end.is_some()
            && !self.head.is_empty()
            && content.len() <= COPY_BEHIND_HEAD_BYTES_MAX;
        let outcome = if in_one {
            // The common case: a small message leaves in one write from one buffer.
            self.head.extend_from_slice(content);
            let sent = self.try_head();
            if sent == self.head.len() {
                Ok(())
            } else {
                self.set_unfinished(true);
                self.head_rest(sent).await
            }
        } else {
            self.set_unfinished(true);
            self.send_parts(piece).await
        };
        self.set_unfinished(if outcome.is_ok() { end.is_none() } else { self.written > 0 });
        if outcome.is_ok() {
            self.head.clear();
            self.content += content.len() as u64;
        }
        outcome
    }

    fn is_ready(&self, _: usize) -> bool {
        // The system takes most pieces at once.
        true
    }

    fn takes_pipes(&self) -> bool {
        self.stream.has_pipes()
    }

    async fn drain(&mut self, pipe: &mut LentPipe<'_, S::Pipe>, progress: &impl Fn()) -> Result<(), Broken> {
        if self.framing == Framing::Chunked {
            let prefix = ChunkPrefix::new(pipe.held());
            self.write(&mut [IoSlice::new(prefix.as_bytes())]).await?;
        }
        while pipe.held() > 0 {
            match pipe.drain(self.stream) {
                Ok(0) => return Err(Broken::Closed),
                Ok(count) => {
                    self.written += count as u64;
                    self.content += count as u64;
                    self.patience.moved(count as u64, self.waiting.timer);
                    progress();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    writable(self.stream, self.waiting.timer, self.patience).await?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Broken::Failed(error)),
            }
        }
        if self.framing == Framing::Chunked {
            self.write(&mut [IoSlice::new(b"\r\n")]).await?;
        }
        Ok(())
    }

    fn shut(&mut self) {
        self.set_unfinished(false);
        self.stream.shut_write();
    }

    fn written(&self) -> u64 {
        self.written
    }

    fn content(&self) -> u64 {
        self.content
    }
}
