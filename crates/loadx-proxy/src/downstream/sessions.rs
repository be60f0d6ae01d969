//! The clients of one worker, as far as the worker has something to tell them: that it stops, or that
//! one of those with nothing to do has to go.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use slab::Slab;
use tokio::sync::Notify;

/// All clients of a worker.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    states: RefCell<Slab<Rc<SessionState>>>,
    /// Clients whose tasks have not begun yet.
    announced: Cell<usize>,
    stopping: Cell<bool>,
    cut: Cell<bool>,
    ended: Notify,
}

/// What the worker knows of each client.
#[derive(Debug)]
struct SessionState {
    /// Wakes the client's task.
    waker: Waker,
    /// Whether it has been served and has not begun another request.
    idle: Cell<bool>,
    /// Whether it has to go.
    close: Cell<bool>,
}

/// A client on the list, while it is served.
#[derive(Debug)]
pub(crate) struct Session {
    sessions: Rc<Sessions>,
    key: usize,
    state: Rc<SessionState>,
}

impl Sessions {
    /// Counts a client whose task is about to begin.
    pub(crate) fn announce(&self) {
        self.announced.set(self.announced.get() + 1);
    }

    /// Puts the calling task, which was announced, on the list.
    pub(crate) async fn enroll(self: &Rc<Self>) -> Session {
        self.announced.set(self.announced.get() - 1);
        let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        let state = Rc::new(SessionState { waker, idle: Cell::new(false), close: Cell::new(false) });
        let key = self.states.borrow_mut().insert(Rc::clone(&state));
        Session { sessions: Rc::clone(self), key, state }
    }

    /// Has one idle client go; false when none is idle.
    pub(crate) fn shed(&self) -> bool {
        let states = self.states.borrow();
        let idle = states.iter().find(|(_, state)| state.idle.get() && !state.close.get());
        if let Some((_, state)) = idle {
            state.close.set(true);
            state.waker.wake_by_ref();
        }
        idle.is_some()
    }

    /// Ends every client's task, whatever it is doing.
    pub(crate) fn cut(&self) {
        self.cut.set(true);
        self.wake_all();
    }

    fn wake_all(&self) {
        for (_, state) in self.states.borrow().iter() {
            state.waker.wake_by_ref();
        }
    }

    /// Has every client go that has nothing to do, now or later.
    pub(crate) fn stop(&self) {
        self.stopping.set(true);
        self.wake_all();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Why a task that did not come to its end was dropped.
    pub(crate) fn end_reason(&self) -> &'static str {
        if std::thread::panicking() {
            "a defect of LoadX ended the exchange"
        } else if self.cut.get() {
            "cut at the end of the shutdown's grace"
        } else {
            "the worker ended before the exchange"
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.states.borrow().len()
    }

    /// Waits until no client is left.
    pub(crate) async fn all_ended(&self) {
        while self.len() + self.announced.get() > 0 {
            self.ended.notified().await;
        }
    }
}

impl Session {
    /// Notes that the client has been served and has, or has not, begun another request.
    pub(crate) fn set_idle(&self, idle: bool) {
        self.state.idle.set(idle);
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.state.idle.get()
    }

    /// Runs what serves the client, until it ends; none when it was cut.
    pub(crate) async fn run<T>(&self, mut serving: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        poll_fn(|cx| if self.sessions.cut.get() { Poll::Ready(None) } else { serving.as_mut().poll(cx).map(Some) })
            .await
    }

    /// Whether this client, having nothing to do, is to go.
    pub(crate) fn should_close(&self) -> bool {
        self.state.close.get() || self.sessions.is_stopping()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.sessions.states.borrow_mut().remove(self.key);
        self.sessions.ended.notify_one();
    }
}
