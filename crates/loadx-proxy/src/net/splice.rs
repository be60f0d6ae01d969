//! Kernel pipes that move bytes from one socket to another without a copy to user space (splice(2)).

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

use crate::limits::PIPE_BYTES;

/// Both ends of a pipe.
#[derive(Debug)]
pub struct KernelPipe {
    from: OwnedFd,
    to: OwnedFd,
}

impl KernelPipe {
    /// Makes an empty pipe of [`PIPE_BYTES`]; `None` if the system has no descriptors or pipe memory for it.
    pub(super) fn new() -> Option<KernelPipe> {
        let (from, to) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        fcntl_setpipe_size(&to, PIPE_BYTES).ok()?;
        Some(KernelPipe { from, to })
    }

    /// Moves up to `max` bytes from `socket` into the pipe. The pipe must be empty: a full pipe returns `WouldBlock`,
    /// like a socket without bytes. A short count does not mean an empty socket: a pipe also limits its segments.
    pub(super) fn fill(&self, socket: impl AsFd, max: usize) -> io::Result<usize> {
        Ok(splice(socket, None, &self.to, None, max, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?)
    }

    /// Moves up to `count` bytes from the pipe into `socket`.
    pub(super) fn drain(&self, socket: impl AsFd, count: usize) -> io::Result<usize> {
        Ok(splice(&self.from, None, socket, None, count, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?)
    }
}
