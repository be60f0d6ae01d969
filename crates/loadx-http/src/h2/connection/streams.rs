//! The open streams of a connection.

use crate::BodyFault;
use crate::h2::flow::{ReceiveWindow, SendWindow};

/// A stream that is not closed (RFC 9113, section 5.1).
#[derive(Debug)]
pub(super) struct Stream {
    id: u32,
    pub(super) send: SendWindow,
    pub(super) receive: ReceiveWindow,
    /// Whether the other side may still send content.
    pub(super) is_receiving: bool,
    /// Whether LoadX may still send content.
    pub(super) is_sending: bool,
    /// What is to come of the content, by Content-Length, in bytes.
    pub(super) left: Option<u64>,
    /// Whether the head of the response must come next; never for a stream of a client.
    pub(super) awaits_head: bool,
    /// Whether the request is a HEAD; never for a stream of a client.
    pub(super) to_head: bool,
    /// Whether the request asks for a tunnel; never for a stream of a client.
    pub(super) to_tunnel: bool,
}

impl Stream {
    pub(super) fn new(id: u32, send: u32, receive: u32) -> Self {
        Stream {
            id,
            send: SendWindow::new(send),
            receive: ReceiveWindow::new(receive),
            is_receiving: true,
            is_sending: true,
            left: None,
            awaits_head: false,
            to_head: false,
            to_tunnel: false,
        }
    }

    /// Counts content, and its end, against Content-Length.
    pub(super) fn count(&mut self, bytes: usize, ends: bool) -> Result<(), BodyFault> {
        if let Some(left) = self.left {
            let left = left.checked_sub(bytes as u64).ok_or(BodyFault::TooLarge)?;
            if ends && left > 0 {
                return Err(BodyFault::Incomplete);
            }
            self.left = Some(left);
        }
        Ok(())
    }
}

/// The open streams. There are few, and their ids only rise, so that a sorted list is the fastest map.
#[derive(Debug, Default)]
pub(super) struct Streams {
    by_id: Vec<Stream>,
}

impl Streams {
    fn position(&self, id: u32) -> Result<usize, usize> {
        match self.by_id.last() {
            Some(last) if last.id == id => Ok(self.by_id.len() - 1),
            _ => self.by_id.binary_search_by_key(&id, |stream| stream.id),
        }
    }

    pub(super) fn get(&self, id: u32) -> Option<&Stream> {
        self.position(id).ok().map(|position| &self.by_id[position])
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Stream> {
        self.position(id).ok().map(|position| &mut self.by_id[position])
    }

    /// Adds a stream, whose id is larger than all others.
    pub(super) fn open(&mut self, stream: Stream) {
        debug_assert!(self.by_id.last().is_none_or(|last| last.id < stream.id));
        self.by_id.push(stream);
    }

    pub(super) fn close(&mut self, id: u32) -> Option<Stream> {
        self.position(id).ok().map(|position| self.by_id.remove(position))
    }

    /// Closes the streams behind `last`.
    pub(super) fn close_behind(&mut self, last: u32) {
        self.by_id.retain(|stream| stream.id <= last);
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.by_id.iter_mut()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Frees the memory if no stream is open.
    pub(super) fn shrink(&mut self) {
        if self.is_empty() {
            self.by_id = Vec::new();
        }
    }
}
