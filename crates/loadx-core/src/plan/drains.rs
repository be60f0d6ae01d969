//! The drains of backends: each has a limit, after which the exchanges that still run must end.

use std::sync::Arc;
use std::time::Duration;

use crate::cluster::Leaving;
use crate::load::Load;
use crate::{BackendId, ClusterEvent, Event, Time};

/// The drains that have not ended.
#[derive(Debug, Default)]
pub(super) struct Drains {
    drains: Vec<Drain>,
}

#[derive(Debug)]
struct Drain {
    id: BackendId,
    name: Arc<str>,
    cluster: Arc<str>,
    /// Whether the log names the cluster.
    names_cluster: bool,
    load: Arc<Load>,
    until: Time,
}

/// A backend that gets no new requests and still has running exchanges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainSnapshot {
    /// The id of the backend.
    pub id: BackendId,
    /// The name of the backend.
    pub name: Arc<str>,
    /// The name of the cluster.
    pub cluster: Arc<str>,
    /// The number of running exchanges.
    pub in_flight: u32,
    /// The time until LoadX ends the running exchanges.
    pub left: Duration,
}

impl Drains {
    /// Begins the drains of backends that have `limit` to finish.
    pub(super) fn begin(
        &mut self,
        now: Time,
        limit: Duration,
        (cluster, names_cluster): (&Arc<str>, bool),
        leaving: Vec<Leaving>,
    ) {
        let until = now + limit;
        self.drains.extend(leaving.into_iter().map(|Leaving { id, name, load }| Drain {
            id,
            name,
            cluster: Arc::clone(cluster),
            names_cluster,
            load,
            until,
        }));
    }

    /// Ends the drains of backends that get requests again.
    pub(super) fn cancel(&mut self, is_serving: impl Fn(BackendId) -> bool) {
        self.drains.retain(|drain| !is_serving(drain.id));
    }

    /// When the next drain is over.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.drains.iter().map(|drain| drain.until).min()
    }

    /// Ends the drains that are over. Returns the backends whose running exchanges must end.
    pub(super) fn end(&mut self, now: Time) -> Vec<ClusterEvent> {
        let over = self.drains.extract_if(.., |drain| drain.until <= now);
        let cut = over.filter_map(|drain| {
            // An exchange may pick the backend from a view that the worker still holds.
            drain.load.set_cut(true);
            let exchanges = drain.load.in_flight();
            (exchanges > 0).then(|| ClusterEvent {
                cluster: drain.names_cluster.then_some(drain.cluster),
                event: Event::Cut { backend: drain.name, exchanges },
            })
        });
        cut.collect()
    }

    /// The drains with running exchanges.
    pub(super) fn snapshot(&self, now: Time) -> Vec<DrainSnapshot> {
        let drains = self.drains.iter().map(|drain| DrainSnapshot {
            id: drain.id,
            name: Arc::clone(&drain.name),
            cluster: Arc::clone(&drain.cluster),
            in_flight: drain.load.in_flight(),
            left: drain.until.since(now),
        });
        drains.filter(|drain| drain.in_flight > 0).collect()
    }
}
