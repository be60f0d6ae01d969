//! The pipes of a worker. With a pipe, the relay of a large body need not copy the content.

use std::cell::{Cell, RefCell};

use crate::limits::PIPES_MAX;
use crate::net::Stream;

/// The pipes of one worker.
#[derive(Debug)]
pub(crate) struct Pipes<P> {
    /// Makes a pipe, if the system has resources for one.
    make: fn() -> Option<P>,
    spare: RefCell<Vec<P>>,
    lent: Cell<usize>,
    /// Whether the system could not make a pipe or does not support pipes between these streams. Never reset.
    exhausted: Cell<bool>,
}

impl<P> Pipes<P> {
    pub(crate) fn new(make: fn() -> Option<P>) -> Self {
        Pipes { make, spare: RefCell::default(), lent: Cell::new(0), exhausted: Cell::new(false) }
    }

    /// Lends an empty pipe; `None` when [`PIPES_MAX`] are lent or the system has none.
    pub(crate) fn lend(&self) -> Option<LentPipe<'_, P>> {
        if self.lent.get() == PIPES_MAX {
            return None;
        }
        let spare = self.spare.borrow_mut().pop();
        if spare.is_none() && self.exhausted.get() {
            return None;
        }
        let Some(pipe) = spare.or_else(self.make) else {
            self.exhausted.set(true);
            return None;
        };
        self.lent.set(self.lent.get() + 1);
        Some(LentPipe { pipe: Some(pipe), held: 0, owner: self })
    }

    /// Records that the system does not support pipes between these streams, and closes the spare pipes.
    pub(crate) fn give_up(&self) {
        self.spare.borrow_mut().clear();
        self.exhausted.set(true);
    }

    /// The number of lent pipes.
    pub(crate) fn lent(&self) -> usize {
        self.lent.get()
    }
}

/// A lent pipe. Returns to [`Pipes`] on drop; a pipe with bytes is closed, because the next body would get the bytes.
#[derive(Debug)]
pub(crate) struct LentPipe<'p, P> {
    pipe: Option<P>,
    /// The number of bytes in the pipe.
    held: usize,
    owner: &'p Pipes<P>,
}

impl<P> LentPipe<'_, P> {
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Moves up to `max` bytes from `stream` into the pipe, which must be empty. 0 means the end of the stream.
    pub(crate) fn fill<S: Stream<Pipe = P>>(&mut self, stream: &S, max: usize) -> std::io::Result<usize> {
        debug_assert_eq!(self.held, 0, "the pipe is not empty");
        let pipe = self.pipe.as_ref().expect("the pipe is present until the drop");
        self.held = stream.try_fill(pipe, max)?;
        Ok(self.held)
    }

    /// Moves bytes from the pipe into `stream`. Returns their number.
    pub(crate) fn drain<S: Stream<Pipe = P>>(&mut self, stream: &S) -> std::io::Result<usize> {
        let pipe = self.pipe.as_ref().expect("the pipe is present until the drop");
        let count = stream.try_drain(pipe, self.held)?;
        self.held -= count;
        Ok(count)
    }
}

impl<P> Drop for LentPipe<'_, P> {
    fn drop(&mut self) {
        self.owner.lent.set(self.owner.lent.get() - 1);
        if self.held == 0
            && let Some(pipe) = self.pipe.take()
        {
            self.owner.spare.borrow_mut().push(pipe);
        }
    }
}
