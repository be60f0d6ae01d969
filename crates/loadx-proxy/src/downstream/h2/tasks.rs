//! The exchanges of a connection, each a future in memory that the next exchange uses again.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::clock::Clock;
use crate::timer::Timer;
use crate::wakes::{NumberedWaker, WakeQueue};

/// The exchanges of one connection. `J`: what an exchange needs at its beginning.
pub(super) struct Tasks<J> {
    clock: Clock,
    /// Makes the place of an exchange.
    place: fn() -> Box<dyn Place<J>>,
    tasks: Vec<Task<J>>,
    free: Vec<usize>,
    queue: Arc<WakeQueue>,
    /// The numbers of the tasks to poll next.
    woken: Vec<u32>,
}

/// One exchange after another.
struct Task<J> {
    place: Box<dyn Place<J>>,
    waker: Arc<NumberedWaker>,
    timer: Rc<Timer>,
    is_running: bool,
}

/// The memory of a future, which can be used again.
pub(super) trait Place<J> {
    /// Begins a future.
    fn begin(&mut self, job: J);

    /// Goes on with the future. When the future has ended, its memory is free.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// A place for the futures that `make` makes.
struct PlaceOf<F, M> {
    future: Pin<Box<Option<F>>>,
    make: M,
}

impl<J, F, M> Place<J> for PlaceOf<F, M>
where
    F: Future<Output = ()>,
    M: Fn(J) -> F,
{
    fn begin(&mut self, job: J) {
        self.future.set(Some((self.make)(job)));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(future) = self.future.as_mut().as_pin_mut() else { return Poll::Ready(()) };
        let polled = future.poll(cx);
        if polled.is_ready() {
            self.future.set(None);
        }
        polled
    }
}

/// A place for the futures that `make` makes.
pub(super) fn place<J: 'static, F>(make: impl Fn(J) -> F + 'static) -> Box<dyn Place<J>>
where
    F: Future<Output = ()> + 'static,
{
    Box::new(PlaceOf { future: Box::pin(None), make })
}

impl<J> Tasks<J> {
    pub(super) fn new(clock: Clock, place: fn() -> Box<dyn Place<J>>) -> Self {
        Tasks { clock, place, tasks: Vec::new(), free: Vec::new(), queue: Arc::default(), woken: Vec::new() }
    }

    /// Begins an exchange, for which `job` gets the number, the waker and the timer.
    pub(super) fn begin(&mut self, job: impl FnOnce(usize, &Arc<NumberedWaker>, Rc<Timer>) -> J) {
        let number = self.free.pop().unwrap_or_else(|| {
            let number = self.tasks.len();
            self.tasks.push(Task {
                place: (self.place)(),
                waker: self.queue.waker(number as u32),
                timer: Rc::new(Timer::new(self.clock)),
                is_running: false,
            });
            number
        });
        let Task { place, waker, timer, is_running } = &mut self.tasks[number];
        timer.now();
        place.begin(job(number, waker, Rc::clone(timer)));
        *is_running = true;
        waker.enqueue();
    }

    /// Goes on with the exchanges that were woken. Calls `ended` with the number of each that ends. Returns whether any was woken.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, mut ended: impl FnMut(usize)) -> bool {
        let mut woken = std::mem::take(&mut self.woken);
        self.queue.take_all(cx, &mut woken);
        let any = !woken.is_empty();
        for number in woken.drain(..) {
            let number = number as usize;
            // A task that ended may be woken late.
            let Some(task) = self.tasks.get_mut(number) else { continue };
            task.waker.rearm();
            if !task.is_running {
                continue;
            }
            let waker = Waker::from(Arc::clone(&task.waker));
            if task.place.poll(&mut Context::from_waker(&waker)).is_ready() {
                task.is_running = false;
                self.free.push(number);
                ended(number);
            }
        }
        self.woken = woken;
        any
    }

    /// Frees the memory of all exchanges, which have ended.
    pub(super) fn shrink(&mut self) {
        debug_assert_eq!(self.free.len(), self.tasks.len());
        self.tasks = Vec::new();
        self.free = Vec::new();
        self.woken = Vec::new();
        // A late wake must not reach the next exchange with the number.
        self.queue = Arc::default();
    }

    /// Whether memory of exchanges is held.
    pub(super) fn holds_memory(&self) -> bool {
        !self.tasks.is_empty()
    }
}
