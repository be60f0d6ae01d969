//! What all workers and control share.

use std::cell::RefCell;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use loadx_core::View;
use loadx_core::plan::{ClusterSlot, Plan};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::client_counts::{ClientCounts, CountedClient};
use crate::explain_rule::ExplainRule;
use crate::limits::{SPAN_BATCHES_MAX, SPARE_PLACES};
use crate::live::Live;
use crate::telemetry::{LostSpans, SpanBatch, SpanSender};
use crate::tls::{TlsBackends, TlsListeners};

/// What one running proxy shares among its threads.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The present plan; control writes, workers read.
    plan: ArcSwap<Plan>,
    /// Whether memory is nearly used up, so that new requests are refused; written by control.
    is_short_of_memory: AtomicBool,
    /// Counts every plan and every view that was published. A worker that knows this number knows the present plan
    /// and views: one load a request.
    version: CachePadded,
    pub(crate) places: Places,
    /// Client connections, by address.
    pub(crate) clients: ClientCounts,
    /// TLS of the listeners.
    pub(crate) tls: TlsListeners,
    /// TLS to the backends.
    pub(crate) tls_to_backends: TlsBackends,
    /// Client connections, by worker.
    pub(crate) loads: Box<[WorkerLoad]>,
    /// Which requests may ask for an explanation.
    pub(crate) explain: ExplainRule,
    /// The way of spans to the task that sends them.
    pub(crate) spans: SpanQueue,
    /// What open pages of the dashboard get.
    pub(crate) live: Live,
}

/// A counter alone on its cache lines, so that what is written beside it does not slow its readers.
#[derive(Debug, Default)]
#[repr(align(128))]
struct CachePadded(AtomicU64);

/// The way of spans to the task that sends them.
#[derive(Debug)]
pub(crate) struct SpanQueue {
    sender: SpanSender,
    receiver: Mutex<Option<mpsc::Receiver<SpanBatch>>>,
}

impl Default for SpanQueue {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(SPAN_BATCHES_MAX);
        SpanQueue { sender: SpanSender { sender, lost: Arc::default() }, receiver: Mutex::new(Some(receiver)) }
    }
}

impl SpanQueue {
    pub(crate) fn sender(&self) -> SpanSender {
        self.sender.clone()
    }

    pub(crate) fn lost(&self) -> &Arc<LostSpans> {
        &self.sender.lost
    }

    /// The receiving end; only the first caller gets it.
    pub(crate) fn take_receiver(&self) -> Option<mpsc::Receiver<SpanBatch>> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Shared {
    pub(crate) fn new(plan: Arc<Plan>, workers: usize, tls: TlsListeners, tls_to_backends: TlsBackends) -> Self {
        Shared {
            tls,
            tls_to_backends,
            places: Places::new(plan.process.max_connections),
            clients: ClientCounts::default(),
            plan: ArcSwap::new(plan),
            is_short_of_memory: AtomicBool::new(false),
            version: CachePadded::default(),
            explain: ExplainRule::default(),
            spans: SpanQueue::default(),
            live: Live::default(),
            loads: (0..workers).map(|_| Default::default()).collect(),
        }
    }

    /// The present plan.
    pub(crate) fn plan(&self) -> Arc<Plan> {
        self.plan.load_full()
    }

    /// How many times something was published.
    pub(crate) fn version(&self) -> u64 {
        self.version.0.load(Ordering::Acquire)
    }

    pub(crate) fn is_short_of_memory(&self) -> bool {
        self.is_short_of_memory.load(Ordering::Relaxed)
    }

    /// Sets whether new requests are refused. Returns whether they were before.
    pub(crate) fn set_short_of_memory(&self, is_short: bool) -> bool {
        self.is_short_of_memory.swap(is_short, Ordering::Relaxed)
    }

    /// Makes this the present plan.
    pub(crate) fn publish(&self, plan: Arc<Plan>) {
        self.plan.store(plan);
        self.note_published();
    }

    /// Tells workers that a view of the present plan was published.
    pub(crate) fn note_published(&self) {
        self.version.0.fetch_add(1, Ordering::Release);
    }
}

/// A plan in the hands of one worker. Its holders are counted there, without atomics: the count that all workers share
/// stays out of the request path.
#[derive(Clone, Debug)]
pub(crate) struct LocalPlan(Rc<HeldPlan>);

#[derive(Debug)]
struct HeldPlan {
    plan: Arc<Plan>,
    /// Of each cluster, the view that the worker holds, and the version at which the view was the present one.
    views: Box<[RefCell<(u64, LocalView)>]>,
}

impl LocalPlan {
    pub(crate) fn new(plan: Arc<Plan>, version: u64) -> Self {
        let held = |cluster: &Arc<ClusterSlot>| RefCell::new((version, LocalView::new(cluster.view.load_full())));
        LocalPlan(Rc::new(HeldPlan { views: plan.clusters.iter().map(held).collect(), plan }))
    }

    pub(crate) fn is(&self, plan: &Arc<Plan>) -> bool {
        Arc::ptr_eq(&self.0.plan, plan)
    }

    /// The backends of a cluster that are in rotation at `version`.
    pub(crate) fn view(&self, cluster: usize, version: u64) -> LocalView {
        let mut held = self.0.views[cluster].borrow_mut();
        if held.0 != version {
            let published = self.0.plan.clusters[cluster].view.load();
            if !held.1.is(&published) {
                held.1 = LocalView::new(Arc::clone(&published));
            }
            held.0 = version;
        }
        held.1.clone()
    }
}

impl Deref for LocalPlan {
    type Target = Plan;

    fn deref(&self) -> &Plan {
        &self.0.plan
    }
}

/// A published view in the hands of one worker, for the same reason.
#[derive(Clone, Debug)]
#[expect(clippy::redundant_allocation, reason = "two counts, one for this worker and one for all, are the point")]
pub(crate) struct LocalView(Rc<Arc<View>>);

impl LocalView {
    fn new(published: Arc<View>) -> Self {
        LocalView(Rc::new(published))
    }

    fn is(&self, published: &Arc<View>) -> bool {
        Arc::ptr_eq(&self.0, published)
    }
}

impl Deref for LocalView {
    type Target = View;

    fn deref(&self) -> &View {
        &self.0
    }
}

/// The places for client connections, over all workers.
#[derive(Debug)]
pub(crate) struct Places {
    free: Arc<Semaphore>,
    /// Taken places that are not given out again when they come free, because the limit was lowered.
    surplus: AtomicUsize,
    /// Clients that were accepted and wait for a place.
    awaited: AtomicUsize,
    /// How many places came free so far. Wraps around.
    freed: AtomicUsize,
    /// Places beyond the limit, for clients that would have to wait long.
    spare: Arc<Semaphore>,
}

/// A place that a client takes.
#[derive(Debug)]
pub(crate) enum Claim {
    /// One of the places for clients.
    Regular(OwnedSemaphorePermit),
    /// One of the places beyond the limit: the client gets a status endpoint, or 503.
    Spare(OwnedSemaphorePermit),
}

impl Places {
    pub(crate) fn new(count: usize) -> Self {
        Places {
            free: Arc::new(Semaphore::new(count)),
            surplus: AtomicUsize::new(0),
            awaited: AtomicUsize::new(0),
            freed: AtomicUsize::new(0),
            spare: Arc::new(Semaphore::new(SPARE_PLACES)),
        }
    }

    /// Changes how many places there are. Clients that are connected stay connected, also beyond the new number.
    pub(crate) fn resize(&self, from: usize, to: usize) {
        if to < from {
            let taken = (from - to) - self.free.forget_permits(from - to);
            self.surplus.fetch_add(taken, Ordering::Relaxed);
        } else {
            (from..to).for_each(|_| self.give_back());
        }
    }

    fn give_back(&self) {
        self.freed.fetch_add(1, Ordering::Relaxed);
        let surplus = self.surplus.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |surplus| surplus.checked_sub(1));
        if surplus.is_err() {
            self.free.add_permits(1);
        }
    }

    /// A place, if one is free.
    pub(crate) fn try_take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_owned().ok()
    }

    /// The next place that comes free.
    pub(crate) async fn take(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.free).acquire_owned().await.expect("the places are never closed")
    }

    /// How many places came free so far.
    pub(crate) fn freed(&self) -> usize {
        self.freed.load(Ordering::Relaxed)
    }

    /// The next spare place.
    pub(crate) async fn take_spare(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.spare).acquire_owned().await.expect("the places are never closed")
    }

    /// Counts a waiting client, as long as the guard lives.
    pub(crate) fn wait(&self) -> Awaiting<'_> {
        self.awaited.fetch_add(1, Ordering::Relaxed);
        Awaiting(self)
    }

    /// Whether somebody waits for a place and none is free. A listener remembers a lack until its next client, which may come late.
    pub(crate) fn is_awaited(&self) -> bool {
        self.awaited.load(Ordering::Relaxed) > 0 && self.free.available_permits() == 0
    }
}

/// Somebody waits for a place.
#[derive(Debug)]
pub(crate) struct Awaiting<'p>(&'p Places);

impl Drop for Awaiting<'_> {
    fn drop(&mut self) {
        self.0.awaited.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A client's claim to be connected: its place among all connections, and in its worker's count.
#[derive(Debug)]
pub(crate) struct Place {
    shared: Arc<Shared>,
    worker: u32,
    is_spare: bool,
    /// The count of the client's address, if the address is counted.
    client: Option<CountedClient>,
}

impl Place {
    /// Whether the client gets nothing but status endpoints.
    pub(crate) fn is_spare(&self) -> bool {
        self.is_spare
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.loads[self.worker as usize].0.fetch_sub(1, Ordering::Relaxed);
        if let Some(client) = self.client {
            self.shared.clients.leave(client);
        }
        match self.is_spare {
            false => self.shared.places.give_back(),
            true => self.shared.places.spare.add_permits(1),
        }
    }
}

/// How many client connections one worker has; written by that worker when one opens or closes.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct WorkerLoad(AtomicUsize);

impl WorkerLoad {
    pub(crate) fn connections(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// Takes up a place for a client of `worker`, for as long as it lives.
    pub(crate) fn place(self: &Arc<Self>, worker: usize, claim: Claim, client: Option<CountedClient>) -> Place {
        let is_spare = matches!(claim, Claim::Spare(_));
        let (Claim::Regular(permit) | Claim::Spare(permit)) = claim;
        // Given back by hand, which saves every client at rest half of what a permit takes.
        permit.forget();
        self.loads[worker].0.fetch_add(1, Ordering::Relaxed);
        Place { shared: Arc::clone(self), worker: worker as u32, is_spare, client }
    }
}
