//! Frames that wait to be written.

use std::io::{self, ErrorKind};
use std::rc::Rc;

use crate::buffers::{Buffers, HeadBuffer};
use crate::limits::H2_OUTPUT_BYTES;

/// Frames that the system has not taken yet. Has no memory while there are none.
#[derive(Debug, Default)]
pub(super) struct Output {
    buffer: Option<HeadBuffer>,
    sent: usize,
    /// Whether nothing is written any more: the last frame may have been written in part, so that what follows would be read as
    /// its content.
    is_closed: bool,
}

impl Output {
    /// The buffer to append frames to.
    pub(super) fn buffer(&mut self, buffers: &Rc<Buffers>) -> &mut HeadBuffer {
        self.buffer.get_or_insert_with(|| buffers.growing())
    }

    /// Drops what waits, and everything that is added from now on.
    pub(super) fn close(&mut self) {
        *self = Output { is_closed: true, ..Output::default() };
    }

    /// Gives the memory back if nothing waits.
    pub(super) fn rest(&mut self) {
        if self.len() == 0 {
            (self.buffer, self.sent) = (None, 0);
        }
    }

    /// The number of bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.buffer.as_ref().map_or(0, |buffer| buffer.len() - self.sent)
    }

    /// How many bytes of messages may be added.
    pub(super) fn room(&self) -> usize {
        H2_OUTPUT_BYTES.saturating_sub(self.len())
    }

    /// Calls `write` with what must be written, until all is written or `write` fails. Returns the number of written bytes.
    pub(super) fn write_with(&mut self, mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> (usize, io::Result<()>) {
        let mut written = 0;
        if self.is_closed {
            self.buffer = None;
        }
        let Some(buffer) = &mut self.buffer else { return (0, Ok(())) };
        while self.sent < buffer.len() {
            match write(&buffer[self.sent..]) {
                // A write of nothing would never end.
                Ok(0) => return (written, Err(ErrorKind::WriteZero.into())),
                Ok(count) => {
                    written += count;
                    self.sent += count;
                }
                Err(error) => return (written, Err(error)),
            }
        }
        buffer.clear();
        self.sent = 0;
        (written, Ok(()))
    }
}
