//! The exchanges of a connection. Each runs in a future that waits for the next exchange when one has ended, so that an exchange
//! takes no new memory.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use loadx_core::Time;

use crate::clock::Clock;
use crate::timer::Timer;
use crate::wakes::{NumberedWaker, WakeQueue};

/// Serves the exchanges that come to a desk, one after the other.
pub(super) type Serving = Pin<Box<dyn Future<Output = ()>>>;

/// Makes the future that serves the exchanges of a desk.
type Serve<J> = fn(Rc<Desk<J>>) -> Serving;

/// The exchanges of one connection. `J`: what an exchange needs at its beginning.
pub(super) struct Tasks<J> {
    clock: Clock,
    serve: Serve<J>,
    tasks: Vec<Task<J>>,
    free: Vec<usize>,
    queue: Arc<WakeQueue>,
    /// The numbers of the tasks to poll next.
    woken: Vec<u32>,
}

/// One exchange after another.
struct Task<J> {
    /// Never ends.
    serving: Serving,
    desk: Rc<Desk<J>>,
    waker: Arc<NumberedWaker>,
    timer: Rc<Timer>,
}

/// Where the next exchange waits for its future.
pub(super) struct Desk<J> {
    state: RefCell<DeskState<J>>,
}

enum DeskState<J> {
    Empty,
    /// The next exchange.
    Waiting(J),
    /// The exchange has begun.
    Taken,
}

impl<J> Desk<J> {
    /// Waits for the next exchange. The former one has ended.
    pub(super) async fn next(&self) -> J {
        poll_fn(|_| {
            let state = &mut *self.state.borrow_mut();
            match std::mem::replace(state, DeskState::Taken) {
                DeskState::Waiting(job) => Poll::Ready(job),
                _ => {
                    *state = DeskState::Empty;
                    Poll::Pending
                }
            }
        })
        .await
    }

    fn is_empty(&self) -> bool {
        matches!(&*self.state.borrow(), DeskState::Empty)
    }
}

impl<J> Tasks<J> {
    pub(super) fn new(clock: Clock, serve: Serve<J>) -> Self {
        Tasks { clock, serve, tasks: Vec::new(), free: Vec::new(), queue: Arc::default(), woken: Vec::new() }
    }

    /// Begins an exchange, for which `job` gets the number, the waker and the timer. `now`: the present time.
    pub(super) fn begin(&mut self, now: Time, job: impl FnOnce(usize, &Arc<NumberedWaker>, Rc<Timer>) -> J) {
        let number = self.free.pop().unwrap_or_else(|| {
            let number = self.tasks.len();
            let desk = Rc::new(Desk { state: RefCell::new(DeskState::Empty) });
            self.tasks.push(Task {
                serving: (self.serve)(Rc::clone(&desk)),
                desk,
                waker: self.queue.waker(number as u32),
                timer: Rc::new(Timer::new(self.clock)),
            });
            number
        });
        let Task { desk, waker, timer, .. } = &self.tasks[number];
        timer.follow(now);
        *desk.state.borrow_mut() = DeskState::Waiting(job(number, waker, Rc::clone(timer)));
        waker.enqueue();
    }

    /// Goes on with the exchanges that were woken. Calls `ended` with the number of each that ends. Returns whether any was woken.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, mut ended: impl FnMut(usize)) -> bool {
        let mut woken = std::mem::take(&mut self.woken);
        self.queue.take_all(cx, &mut woken);
        let any = !woken.is_empty();
        for number in woken.drain(..) {
            let number = number as usize;
            let Task { serving, desk, waker, .. } = &mut self.tasks[number];
            waker.rearm();
            // A task may be woken late, when its exchange has ended.
            if desk.is_empty() {
                continue;
            }
            let waker = Waker::from(Arc::clone(waker));
            let _ = serving.as_mut().poll(&mut Context::from_waker(&waker));
            if desk.is_empty() {
                self.free.push(number);
                ended(number);
            }
        }
        self.woken = woken;
        any
    }
}
