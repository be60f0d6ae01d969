//! The tasks that serve the client connections of one worker. The worker tells one task to close an idle connection, or
//! all tasks to end.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use loadx_core::ListenerId;
use slab::Slab;
use tokio::sync::Notify;

use crate::tls::TlsFacts;

/// All serving tasks of a worker.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    states: RefCell<Slab<Rc<SessionState>>>,
    /// Tasks that have not started yet.
    announced: Cell<usize>,
    stopping: Cell<bool>,
    /// The number of times that all tasks were woken.
    calls: Cell<u64>,
    /// Why all tasks must end at once; for the access log.
    cut: Cell<Option<&'static str>>,
    /// Removed listeners, whose connections must close.
    leaving: RefCell<Vec<ListenerId>>,
    ended: Notify,
}

/// The state of one serving task.
#[derive(Debug)]
struct SessionState {
    /// Wakes the task.
    waker: Waker,
    listener: ListenerId,
    /// Whether the client was served and has not begun another request.
    idle: Cell<bool>,
    /// Whether the task must close the connection when idle.
    close: Cell<Close>,
    /// What the handshake of TLS agreed on, once the connection carries HTTP; inside, none without TLS.
    tls: RefCell<Option<Option<Rc<TlsFacts>>>>,
    /// Whether the task must end at once.
    cut: Cell<bool>,
}

/// Whether a connection must close when idle.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Close {
    No,
    /// A request that has begun keeps its time.
    WhenIdle,
    /// A request that has begun must arrive soon.
    Soon,
}

/// A task's entry in [`Sessions`]. Removed on drop.
#[derive(Debug)]
pub(crate) struct Session {
    sessions: Rc<Sessions>,
    key: usize,
    state: Rc<SessionState>,
}

impl Sessions {
    /// Counts a task that is about to start.
    pub(crate) fn announce(&self) {
        self.announced.set(self.announced.get() + 1);
    }

    /// Adds the calling task, which must have been announced.
    pub(crate) async fn enroll(self: &Rc<Self>, listener: ListenerId) -> Session {
        self.announced.set(self.announced.get() - 1);
        let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        let close = if self.leaving.borrow().contains(&listener) { Close::Soon } else { Close::No };
        let state = Rc::new(SessionState {
            waker,
            listener,
            idle: Cell::new(false),
            close: Cell::new(close),
            tls: RefCell::new(None),
            cut: Cell::new(false),
        });
        let key = self.states.borrow_mut().insert(Rc::clone(&state));
        Session { sessions: Rc::clone(self), key, state }
    }

    /// Closes one idle connection. Returns false if there is none.
    pub(crate) fn shed(&self) -> bool {
        let states = self.states.borrow();
        let idle = states.iter().find(|(_, state)| state.idle.get() && state.close.get() == Close::No);
        if let Some((_, state)) = idle {
            state.close.set(Close::Soon);
            state.waker.wake_by_ref();
        }
        idle.is_some()
    }

    /// Closes all idle connections.
    pub(crate) fn close_idle(&self) {
        for (_, state) in self.states.borrow().iter().filter(|(_, state)| state.idle.get()) {
            state.close.set(Close::Soon);
            state.waker.wake_by_ref();
        }
    }

    /// Ends all tasks at once, also during exchanges.
    pub(crate) fn cut(&self, reason: &'static str) {
        self.cut.set(Some(reason));
        self.wake_all();
    }

    /// Wakes all tasks.
    pub(crate) fn wake_all(&self) {
        self.calls.set(self.calls.get() + 1);
        for (_, state) in self.states.borrow().iter() {
            state.waker.wake_by_ref();
        }
    }

    /// Closes each connection of these listeners as soon as the connection is idle, also connections to come.
    pub(crate) fn leave(&self, listeners: &[ListenerId]) {
        self.leaving.borrow_mut().extend(listeners);
        for (_, state) in self.states.borrow().iter().filter(|(_, state)| listeners.contains(&state.listener)) {
            state.close.set(Close::Soon);
            state.waker.wake_by_ref();
        }
    }

    /// Closes each connection with HTTP for which `closes` is true as soon as the connection is idle.
    pub(crate) fn close_when_idle(&self, closes: impl Fn(ListenerId, Option<&TlsFacts>) -> bool) {
        for (_, state) in self.states.borrow().iter() {
            let is_meant = state.tls.borrow().as_ref().is_some_and(|tls| closes(state.listener, tls.as_deref()));
            if is_meant && state.close.get() == Close::No {
                state.close.set(Close::WhenIdle);
                state.waker.wake_by_ref();
            }
        }
    }

    /// Ends all tasks of these listeners at once, also during exchanges. Returns the number of tasks.
    pub(crate) fn cut_listeners(&self, listeners: &[ListenerId]) -> usize {
        let states = self.states.borrow();
        let left = states.iter().filter(|(_, state)| listeners.contains(&state.listener));
        let count = left.inspect(|(_, state)| {
            state.cut.set(true);
            state.waker.wake_by_ref();
        });
        count.count()
    }

    /// Closes each connection as soon as the connection is idle.
    pub(crate) fn stop(&self) {
        self.stopping.set(true);
        self.wake_all();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Why the running task was dropped before its end; for the access log.
    pub(crate) fn end_reason(&self, listener: ListenerId) -> &'static str {
        if std::thread::panicking() {
            "a defect of LoadX ended the exchange"
        } else if let Some(reason) = self.cut.get() {
            reason
        } else if self.leaving.borrow().contains(&listener) {
            "cut at the end of the drain of a removed listener"
        } else {
            "the worker ended before the exchange"
        }
    }

    /// Calls `count` with the listener of each task.
    pub(crate) fn listeners(&self, count: impl FnMut(ListenerId)) {
        self.states.borrow().iter().map(|(_, state)| state.listener).for_each(count);
    }

    pub(crate) fn len(&self) -> usize {
        self.states.borrow().len()
    }

    /// Whether no task is left.
    pub(crate) fn are_all_ended(&self) -> bool {
        self.len() + self.announced.get() == 0
    }

    /// Waits for the end of a task.
    pub(crate) async fn next_end(&self) {
        self.ended.notified().await;
    }

    /// Waits until no task is left.
    pub(crate) async fn all_ended(&self) {
        while !self.are_all_ended() {
            self.next_end().await;
        }
    }
}

impl Session {
    /// Sets whether the client was served and has not begun another request.
    pub(crate) fn set_idle(&self, idle: bool) {
        self.state.idle.set(idle);
    }

    /// The number of times that all tasks of the worker were woken. A task that serves many exchanges wakes all of them then.
    pub(crate) fn calls(&self) -> u64 {
        self.sessions.calls.get()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.state.idle.get()
    }

    /// Runs `serving` to its end. Returns `None` when [`Sessions::cut`] ends the task first.
    pub(crate) async fn run<T>(&self, mut serving: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        poll_fn(|cx| {
            if self.sessions.cut.get().is_some() || self.state.cut.get() {
                Poll::Ready(None)
            } else {
                serving.as_mut().poll(cx).map(Some)
            }
        })
        .await
    }

    /// Has the connection close as soon as the connection is idle.
    pub(crate) fn close_when_idle(&self) {
        if self.state.close.get() == Close::No {
            self.state.close.set(Close::WhenIdle);
        }
    }

    /// Has the connection close when idle; a request must arrive soon.
    pub(crate) fn close_soon(&self) {
        self.state.close.set(Close::Soon);
    }

    /// Notes that the connection carries HTTP now, inside TLS or not.
    pub(crate) fn carries_http(&self, tls: Option<&Rc<TlsFacts>>) {
        self.state.tls.replace(Some(tls.cloned()));
    }

    /// Whether this connection must be closed if idle.
    pub(crate) fn should_close(&self) -> bool {
        self.state.close.get() != Close::No || self.sessions.is_stopping()
    }

    /// Whether a request that has begun must arrive soon, because the connection must be closed.
    pub(crate) fn must_hurry(&self) -> bool {
        self.state.close.get() == Close::Soon || self.sessions.is_stopping()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.sessions.states.borrow_mut().remove(self.key);
        self.sessions.ended.notify_one();
    }
}
