//! Which exchanges begin: the exchanges of all streams of a worker are bounded.

use std::cell::Cell;
use std::rc::Rc;

use super::{Mux, State};
use crate::net::Network;

/// Whether an exchange has begun.
#[derive(Debug)]
pub(super) enum Start {
    /// The worker has too many exchanges.
    Waits,
    /// The first exchange of its connection.
    First,
    /// An exchange beside another one of its connection.
    Further { _counted: Counted },
}

impl Start {
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self, Start::Waits)
    }
}

/// An exchange that counts among those of the worker, until it is dropped.
#[derive(Debug)]
pub(super) struct Counted(Rc<Cell<usize>>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl<N: Network> Mux<N> {
    /// Whether an exchange may begin beside so many others of the connection.
    pub(super) fn start(&self, begun: usize) -> Start {
        match begun {
            0 => Start::First,
            _ if self.worker.may_begin_further() => {
                let further = Rc::clone(&self.worker.further_exchanges);
                further.set(further.get() + 1);
                Start::Further { _counted: Counted(further) }
            }
            _ => Start::Waits,
        }
    }

    /// Whether an exchange may begin. An exchange that may not is woken when another exchange of the connection has ended.
    pub(in super::super) fn may_begin(&self, number: usize) -> bool {
        let state = self.state.borrow();
        state.lanes[number].as_ref().is_none_or(|lane| lane.is_gone || !lane.start.is_waiting())
    }

    /// Counts the end of an exchange, and begins those that wait.
    pub(super) fn ended(&self, start: Start) {
        let State { lanes, begun, pending, .. } = &mut *self.state.borrow_mut();
        if start.is_waiting() {
            return;
        }
        *begun -= 1;
        drop(start);
        while let Some(number) = pending.front() {
            // The client may have reset the stream before its exchange began.
            if let Some(lane) = lanes[*number].as_mut().filter(|lane| lane.start.is_waiting()) {
                lane.start = self.start(*begun);
                if lane.start.is_waiting() {
                    return;
                }
                *begun += 1;
                lane.waker.enqueue();
            }
            pending.pop_front();
        }
    }
}
