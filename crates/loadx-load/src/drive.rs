//! Runs a plan: assigns requests to the connections, and ends the run.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, spawn_local};

use crate::client::{Client, Scratch};
use crate::h2_client::{Connections, H2Client};
use crate::schedule::{Schedule, Timer};
use crate::wire::Wire;
use crate::{Outcome, Plan, Protocol, Reuse};

/// The results of a run that do not belong to a single request.
#[derive(Copy, Clone, Debug, Default)]
pub struct Course {
    /// The duration of the run.
    pub took: Duration,
    /// Whether the run was stopped before its end.
    pub interrupted: bool,
    /// Requests that were under way when the run was stopped.
    pub unfinished: u64,
    /// Requests that were sent.
    pub started: u64,
    /// The requests per second that an open loop sent; 0 for a closed loop.
    pub sent_rate: f64,
    /// How long after its scheduled moment the last request of an open loop was sent.
    pub behind: Duration,
    /// Requests of an open loop that were due before the end of the run, and were not sent because no connection
    /// was free.
    pub unsent: u64,
}

impl Course {
    /// Adds the course of another thread of the same run.
    pub(crate) fn join(&mut self, other: &Course) {
        self.took = self.took.max(other.took);
        self.add(other);
        self.sent_rate += other.sent_rate;
    }

    /// Adds the course of a later run.
    pub(crate) fn follow(&mut self, later: &Course) {
        let sent = self.started as f64 / self.sent_rate.max(f64::MIN_POSITIVE);
        let whole = sent + later.started as f64 / later.sent_rate.max(f64::MIN_POSITIVE);
        self.took += later.took;
        self.add(later);
        self.sent_rate = if later.sent_rate == 0.0 { 0.0 } else { self.started as f64 / whole };
    }

    fn add(&mut self, other: &Course) {
        self.interrupted |= other.interrupted;
        self.started += other.started;
        self.unfinished += other.unfinished;
        self.unsent += other.unsent;
        self.behind = self.behind.max(other.behind);
    }
}

/// Runs `plan` in the calling thread, and passes every outcome to `observe`. When `stop` completes, the run ends at
/// once and abandons the requests under way.
///
/// # Errors
/// When the system lacks a resource that the run needs, or when a task of the run panicked.
pub fn drive(
    plan: &Plan,
    observe: impl FnMut(&Outcome<'_>) + 'static,
    stop: impl Future<Output = ()>,
) -> io::Result<Course> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let course = runtime.block_on(carry_out(plan, observe, stop));
    // A look-up of a name may still block a thread, and no request needs the address any more.
    runtime.shutdown_background();
    course
}

async fn carry_out(
    plan: &Plan,
    observe: impl FnMut(&Outcome<'_>) + 'static,
    stop: impl Future<Output = ()>,
) -> io::Result<Course> {
    let run = Rc::new(Run::new(plan, observe)?);
    let connections = plan.requests.map_or(plan.concurrency, |requests| {
        usize::try_from(requests).map_or(plan.concurrency, |requests| requests.min(plan.concurrency))
    });
    let tasks = match plan.protocol {
        Protocol::Http1 => (0..connections).map(|_| spawn_local(Rc::clone(&run).work())).collect(),
        Protocol::Http2 { streams } => {
            let links = connections.div_ceil(streams.max(1));
            let links: Vec<_> = (0..links).map(|_| Rc::new(Connections::new(Rc::clone(&run.plan)))).collect();
            let tasks = (0..connections).map(|task| Rc::clone(&links[task % links.len()]));
            tasks.map(|link| spawn_local(Rc::clone(&run).work_over_h2(link))).collect()
        }
    };
    let mut stop = pin!(stop);
    let mut all = pin!(finish(tasks));
    let mut finished = None;
    let interrupted = poll_fn(|cx| {
        // Polls the stop first, so that a stop that listens for a signal listens before the first request.
        if stop.as_mut().poll(cx).is_ready() {
            return Poll::Ready(true);
        }
        if finished.is_none() {
            let Poll::Ready(outcome) = all.as_mut().poll(cx) else { return Poll::Pending };
            finished = Some(outcome);
        }
        // Held connections stay open until the stop.
        let holds = plan.reuse == Reuse::Held && matches!(finished, Some(Ok(())));
        if holds { Poll::Pending } else { Poll::Ready(false) }
    })
    .await;
    finished.unwrap_or(Ok(()))?;
    Ok(run.course(interrupted))
}

/// Waits for all tasks. A panic is a bug, and must not look like a success.
async fn finish(tasks: Vec<JoinHandle<io::Result<()>>>) -> io::Result<()> {
    for task in tasks {
        task.await.map_err(io::Error::other)??;
    }
    Ok(())
}

/// The state that the tasks of a run share.
struct Run<O> {
    plan: Rc<Plan>,
    scratch: Rc<Scratch>,
    observe: RefCell<O>,
    began: Instant,
    /// After this moment no request is sent.
    end: Option<Instant>,
    pace: Option<Pace>,
    started: Cell<u64>,
    /// Those of them after the warm-up.
    counted: Cell<u64>,
    /// When the last request of an open loop was sent, since the start of the run.
    last_start: Cell<Duration>,
    behind: Cell<Duration>,
    finished: Cell<u64>,
    held: RefCell<Vec<Wire>>,
}

/// The schedule of an open loop.
struct Pace {
    schedule: Schedule,
    /// The task that holds the timer has the next turn. Tasks get the timer in the order in which they ask for the
    /// timer, so that all connections take part alike.
    timer: Mutex<Timer>,
}

/// A request to send now.
struct Turn {
    /// The position in the mix.
    request: usize,
    due: Instant,
    late: Duration,
}

impl Pace {
    fn new(rate: f64) -> io::Result<Self> {
        Ok(Pace { schedule: Schedule::new(rate), timer: Mutex::new(Timer::new()?) })
    }
}

impl<O: FnMut(&Outcome<'_>)> Run<O> {
    fn new(plan: &Plan, observe: O) -> io::Result<Self> {
        let began = Instant::now();
        Ok(Run {
            scratch: Rc::new(Scratch::new(plan)),
            plan: Rc::new(plan.clone()),
            observe: RefCell::new(observe),
            began,
            end: plan.duration.and_then(|duration| began.checked_add(duration)),
            pace: plan.rate.map(Pace::new).transpose()?,
            started: Cell::new(0),
            counted: Cell::new(0),
            last_start: Cell::default(),
            behind: Cell::default(),
            finished: Cell::new(0),
            held: RefCell::default(),
        })
    }

    /// The work of one connection: request after request.
    async fn work(self: Rc<Self>) -> io::Result<()> {
        let mut client = Client::new(Rc::clone(&self.plan), Rc::clone(&self.scratch));
        while let Some(Turn { request, due, late }) = self.turn().await? {
            let outcome = client.exchange(request, due, late).await;
            self.finished.set(self.finished.get() + 1);
            let at = due.saturating_duration_since(self.began);
            (self.observe.borrow_mut())(&Outcome { at, ..outcome });
            if self.plan.reuse == Reuse::Held {
                self.held.borrow_mut().extend(client.take_connection());
            }
        }
        Ok(())
    }

    /// The work of one stream at a time on a connection that others share.
    async fn work_over_h2(self: Rc<Self>, connections: Rc<Connections>) -> io::Result<()> {
        let mut client = H2Client::new(Rc::clone(&self.plan), connections);
        while let Some(Turn { request, due, late }) = self.turn().await? {
            let outcome = client.exchange(request, due, late).await;
            self.finished.set(self.finished.get() + 1);
            let at = due.saturating_duration_since(self.began);
            (self.observe.borrow_mut())(&Outcome { at, ..outcome });
        }
        Ok(())
    }

    /// Waits for the next turn; `None` when the run sends no further request.
    async fn turn(&self) -> io::Result<Option<Turn>> {
        let Some(Pace { schedule, timer }) = &self.pace else {
            let now = Instant::now();
            return Ok(self.may_send(now).then(|| self.start(now, Duration::ZERO)));
        };
        let mut timer = timer.lock().await;
        let due = self.began.checked_add(self.plan.phase + schedule.due(self.started.get()));
        let Some(due) = due.filter(|due| self.may_send(Instant::now().max(*due))) else { return Ok(None) };
        timer.wait_until(due).await?;
        let late = due.elapsed();
        self.last_start.set(due.saturating_duration_since(self.began) + late);
        self.behind.set(late);
        Ok(Some(self.start(due, late)))
    }

    fn may_send(&self, moment: Instant) -> bool {
        self.plan.requests.is_none_or(|requests| self.counted.get() < requests)
            && self.end.is_none_or(|end| moment < end)
    }

    fn start(&self, due: Instant, late: Duration) -> Turn {
        let number = self.started.get();
        self.started.set(number + 1);
        if due.saturating_duration_since(self.began) >= self.plan.warm_up {
            self.counted.set(self.counted.get() + 1);
        }
        let request = if self.plan.mix.len() == 1 { 0 } else { (number % self.plan.mix.len() as u64) as usize };
        Turn { request, due, late }
    }

    fn course(&self, interrupted: bool) -> Course {
        let took = self.began.elapsed();
        Course {
            took,
            interrupted,
            started: self.started.get(),
            sent_rate: self.sent_rate(),
            behind: self.behind.get(),
            unfinished: self.started.get() - self.finished.get(),
            unsent: self.pace.as_ref().map_or(0, |pace| self.unsent(pace.schedule, took)),
        }
    }

    fn sent_rate(&self) -> f64 {
        let (Some(rate), intervals) = (self.plan.rate, self.started.get().saturating_sub(1)) else { return 0.0 };
        let span = self.last_start.get().saturating_sub(self.plan.phase).as_secs_f64();
        // One request alone has no rate.
        if intervals == 0 || span <= 0.0 { rate } else { intervals as f64 / span }
    }

    fn unsent(&self, schedule: Schedule, took: Duration) -> u64 {
        let span = self.plan.duration.map_or(took, |duration| duration.min(took)).saturating_sub(self.plan.phase);
        let of_warm_up = schedule.due_before(self.plan.warm_up.saturating_sub(self.plan.phase));
        let most = self.plan.requests.map_or(u64::MAX, |requests| requests.saturating_add(of_warm_up));
        let due = schedule.due_before(span).min(most);
        due.saturating_sub(self.started.get())
    }
}
