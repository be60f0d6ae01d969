//! Which exchanges begin: the exchanges of all streams of a worker are bounded.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

/// The exchanges of a connection that have begun, and those that wait.
#[derive(Debug, Default)]
pub(super) struct Starts {
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By the number of the exchange; `None` for a number that is free.
    starts: Vec<Option<Start>>,
    /// The number of exchanges that have begun.
    begun: usize,
    /// The exchanges that have not begun, in order.
    pending: VecDeque<usize>,
}

/// Whether an exchange has begun.
#[derive(Debug)]
enum Start {
    /// The worker has too many exchanges.
    Waits,
    /// The first exchange of its connection.
    First,
    /// An exchange beside another one of its connection.
    Further { _counted: Counted },
}

/// An exchange that counts among those of the worker, until it is dropped.
#[derive(Debug)]
pub(super) struct Counted(Rc<Cell<usize>>);

impl Counted {
    pub(super) fn new(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Counted(Rc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Start {
    /// The start of an exchange beside so many others of the connection. `further`: counts a further exchange of the worker, if there
    /// may be one.
    fn beside(begun: usize, further: impl FnOnce() -> Option<Counted>) -> Self {
        match begun {
            0 => Start::First,
            _ => further().map_or(Start::Waits, |counted| Start::Further { _counted: counted }),
        }
    }
}

impl Starts {
    /// Adds an exchange with this number. `further`: counts a further exchange of the worker, if there may be one.
    pub(super) fn open(&self, number: usize, further: impl FnOnce() -> Option<Counted>) {
        let State { starts, begun, pending } = &mut *self.state.borrow_mut();
        let start = if pending.is_empty() { Start::beside(*begun, further) } else { Start::Waits };
        match start {
            Start::Waits => pending.push_back(number),
            Start::First | Start::Further { .. } => *begun += 1,
        }
        if starts.len() <= number {
            starts.resize_with(number + 1, || None);
        }
        starts[number] = Some(start);
    }

    /// Whether an exchange may begin. An exchange that may not is told by [`close`](Self::close) when it may.
    pub(super) fn may_begin(&self, number: usize) -> bool {
        !matches!(self.state.borrow().starts[number], Some(Start::Waits))
    }

    /// Ends an exchange.
    pub(super) fn close(&self, number: usize) {
        let State { starts, begun, pending } = &mut *self.state.borrow_mut();
        match starts[number].take() {
            // The client may reset a stream before its exchange has begun.
            None | Some(Start::Waits) => pending.retain(|waiting| *waiting != number),
            Some(Start::First | Start::Further { .. }) => *begun -= 1,
        }
    }

    /// Begins exchanges that wait, if there is room. Calls `begins` with the number of each.
    pub(super) fn begin_waiting(&self, further: impl Fn() -> Option<Counted>, mut begins: impl FnMut(usize)) {
        let State { starts, begun, pending } = &mut *self.state.borrow_mut();
        while let Some(number) = pending.front().copied() {
            let start = Start::beside(*begun, &further);
            if let Start::Waits = start {
                return;
            }
            starts[number] = Some(start);
            *begun += 1;
            pending.pop_front();
            begins(number);
        }
    }
}
