//! Which requests begin at once, wait, or are refused, when the backends of a cluster are at their limits.

mod adaptive;
mod gate;
mod guards;
mod queue;

use std::time::Duration;

pub(crate) use adaptive::Adaptive;
pub use gate::{Entered, Gate, Place, Turn};
pub(crate) use guards::{Guards, Held, Total};
use queue::{Pushed, Queue, Ticket};

/// The limits of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitPolicy {
    /// The most requests at the same time at one backend; `None` means no limit. Default `None`.
    pub per_backend: Option<BackendLimit>,
    /// The most requests at the same time at all backends of the cluster; `None` means no limit. Default `None`.
    pub per_cluster: Option<u32>,
    /// The most requests that wait when the backends or the cluster are at their limits. Default 1,000.
    pub queue: usize,
    /// The longest time in the queue. Default 1 s: people wait so long without a second click.
    pub queue_time: Duration,
    /// The field of a request that tells clients apart; `None`: their addresses. Each client has its own turn in the queue.
    pub client_field: Option<std::sync::Arc<str>>,
}

/// The most requests at the same time at one backend.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum BackendLimit {
    /// So many at a backend of weight 1, and so many times the weight at others.
    Fixed(u32),
    /// As many as the backend works on without making them wait, found from the times of its responses.
    Adaptive,
}

impl Default for LimitPolicy {
    fn default() -> Self {
        LimitPolicy {
            per_backend: None,
            per_cluster: None,
            queue: 1_000,
            queue_time: Duration::from_secs(1),
            client_field: None,
        }
    }
}

impl LimitPolicy {
    /// How long the oldest request must always have been waiting for longer than [`Self::OVERLOAD_QUEUE_TIME`] before the queue
    /// counts as overloaded. A short burst is no overload: the queue is there for bursts.
    pub const OVERLOAD_AFTER: Duration = Duration::from_millis(100);

    /// The longest time in the queue of an overloaded cluster, if [`queue_time`](Self::queue_time) is not shorter. A queue that
    /// stays full makes each request wait as long as the queue is, and helps none: the backends are as busy with a short one.
    pub const OVERLOAD_QUEUE_TIME: Duration = Duration::from_millis(50);
}
