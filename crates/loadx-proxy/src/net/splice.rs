//! Pipes of the kernel, through which bytes go from one socket to another without being copied (splice(2)).

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

use crate::limits::PIPE_BYTES;

/// A pipe, both ends of it.
#[derive(Debug)]
pub struct KernelPipe {
    from: OwnedFd,
    to: OwnedFd,
}

impl KernelPipe {
    /// An empty one. None where the system gives no pipe that is worth the detour: it rations their memory.
    pub(super) fn new() -> Option<KernelPipe> {
        let (from, to) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        fcntl_setpipe_size(&to, PIPE_BYTES).ok()?;
        Some(KernelPipe { from, to })
    }

    /// Takes up to `max` bytes out of `socket`. The pipe must be empty: a full one would look like a silent
    /// socket. A short count says nothing about the socket, for the pipe's places are counted, not only its bytes.
    pub(super) fn fill(&self, socket: impl AsFd, max: usize) -> io::Result<usize> {
        Ok(splice(socket, None, &self.to, None, max, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?)
    }

    /// Puts up to `count` bytes of the pipe into `socket`.
    pub(super) fn drain(&self, socket: impl AsFd, count: usize) -> io::Result<usize> {
        Ok(splice(&self.from, None, socket, None, count, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?)
    }
}
