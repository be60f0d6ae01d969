//! A worker's pipes. They are lent to the relay of a large body, which then need not copy it.

use std::cell::{Cell, RefCell};

use crate::limits::PIPES_MAX;
use crate::net::Stream;

/// The pipes of one worker.
#[derive(Debug)]
pub(crate) struct Pipes<P> {
    /// Makes a pipe, where the system has one to give.
    make: fn() -> Option<P>,
    spare: RefCell<Vec<P>>,
    lent: Cell<usize>,
    /// Whether the system had no pipe to give, or does nothing with it, when last asked.
    exhausted: Cell<bool>,
}

impl<P> Pipes<P> {
    pub(crate) fn new(make: fn() -> Option<P>) -> Self {
        Pipes { make, spare: RefCell::default(), lent: Cell::new(0), exhausted: Cell::new(false) }
    }

    /// An empty pipe. None when all are lent, or streams cannot do without copying.
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
        Some(LentPipe { pipe: Some(pipe), held: 0, home: self })
    }

    /// The system does not do with pipes what they are for.
    pub(crate) fn give_up(&self) {
        self.spare.borrow_mut().clear();
        self.exhausted.set(true);
    }

    /// How many are lent.
    pub(crate) fn lent(&self) -> usize {
        self.lent.get()
    }
}

/// A pipe on loan. Dropped, it goes home; but not with bytes in it, which the next one would get.
#[derive(Debug)]
pub(crate) struct LentPipe<'p, P> {
    pipe: Option<P>,
    /// Bytes in it.
    held: usize,
    home: &'p Pipes<P>,
}

impl<P> LentPipe<'_, P> {
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Takes up to `max` bytes out of `stream`; 0 is its end. The pipe must be empty.
    pub(crate) fn fill<S: Stream<Pipe = P>>(&mut self, stream: &S, max: usize) -> std::io::Result<usize> {
        debug_assert_eq!(self.held, 0, "a full pipe would look like a silent stream");
        let pipe = self.pipe.as_ref().expect("it is there until it goes home");
        self.held = stream.try_fill(pipe, max)?;
        Ok(self.held)
    }

    /// Puts bytes of the pipe into `stream`.
    pub(crate) fn drain<S: Stream<Pipe = P>>(&mut self, stream: &S) -> std::io::Result<usize> {
        let pipe = self.pipe.as_ref().expect("it is there until it goes home");
        let count = stream.try_drain(pipe, self.held)?;
        self.held -= count;
        Ok(count)
    }
}

impl<P> Drop for LentPipe<'_, P> {
    fn drop(&mut self) {
        self.home.lent.set(self.home.lent.get() - 1);
        if self.held == 0
            && let Some(pipe) = self.pipe.take()
        {
            self.home.spare.borrow_mut().push(pipe);
        }
    }
}
