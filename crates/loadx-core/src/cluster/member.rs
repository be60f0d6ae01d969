//! One backend of a cluster in control: its addresses, its health, its load.

use std::net::SocketAddr;
use std::sync::Arc;

use super::Leaving;
use super::ramp::Ramp;
use crate::admit::Adaptive;
use crate::backend::Backend;
use crate::health::Health;
use crate::health::outlier::{Ejections, Tally};
use crate::load::Load;
use crate::{BackendId, BackendSnapshot, BackendSpec, Event, HealthPolicy, Standing, Time};

/// The answer of DNS for a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameAnswer {
    /// The addresses of the name, in the order to try.
    Addresses(Arc<[SocketAddr]>),
    /// The name does not exist, or has no address; with the reason, as text for logs.
    Nowhere(Arc<str>),
    /// The look-up failed; with the reason, as text for logs.
    Failed(Arc<str>),
}

/// A backend that belongs to the cluster.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: BackendId,
    pub(super) spec: BackendSpec,
    pub(super) addresses: Arc<[SocketAddr]>,
    /// The reason why the name does not resolve now. Shown on status pages; not by itself a reason to eject.
    unresolved: Option<Arc<str>>,
    /// Whether the last DNS answer had no address.
    leads_nowhere: bool,
    pub(super) health: Health,
    /// What the counts of the last seconds say, beside those of the other backends.
    pub(super) tally: Tally,
    pub(super) ejections: Ejections,
    /// How often the backend was taken out of rotation for failures.
    pub(super) ejections_total: u64,
    pub(super) ramp: Ramp,
    /// When the drain began; `None` for a backend that is not drained.
    drained: Option<Time>,
    pub(super) load: Arc<Load>,
    /// What finds the limit, if the limits of the cluster are adaptive.
    pub(super) adaptive: Option<Adaptive>,
}

impl Member {
    /// A backend that has just joined.
    pub(super) fn new(id: BackendId, spec: BackendSpec, now: Time, policy: &HealthPolicy) -> Self {
        let spec_is_drained = spec.drain;
        Member {
            id,
            addresses: spec.literal_addresses().unwrap_or_default(),
            unresolved: None,
            leads_nowhere: false,
            spec,
            health: Health::new(now, policy),
            tally: Tally::default(),
            ejections: Ejections::default(),
            ejections_total: 0,
            ramp: Ramp::new(),
            drained: spec_is_drained.then_some(now),
            load: Arc::default(),
            adaptive: None,
        }
    }

    /// Whether the backend gets requests.
    pub(super) fn admitted(&self) -> bool {
        !self.spec.drain
            && self.health.standing() != Standing::Down
            && self.ejections.present().is_none()
            && self.unreachable().is_none()
    }

    /// When the next probe of the backend is due; `None` without an address or while a probe runs.
    pub(super) fn probe_due(&self) -> Option<Time> {
        self.health.probe_due().filter(|_| !self.addresses.is_empty())
    }

    /// Applies an answer of DNS.
    ///
    /// A failed look-up keeps the known addresses. An answer without addresses removes the addresses, because another
    /// server may use them now: at once for a backend that is down, at the second such answer for a backend that is up.
    pub(super) fn resolved(&mut self, answer: NameAnswer) -> Option<Event> {
        let backend = Arc::clone(&self.spec.name);
        let (reason, nowhere) = match answer {
            NameAnswer::Addresses(addresses) => {
                self.leads_nowhere = false;
                let was_unresolved = self.unresolved.take().is_some();
                if addresses == self.addresses && !was_unresolved {
                    return None;
                }
                let listed = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                self.addresses = addresses;
                return Some(Event::Resolved { backend, addresses: listed });
            }
            NameAnswer::Nowhere(reason) => (reason, true),
            NameAnswer::Failed(reason) => (reason, false),
        };
        let again = std::mem::replace(&mut self.leads_nowhere, nowhere);
        let gone = nowhere && (again || self.health.standing() == Standing::Down) && !self.addresses.is_empty();
        if gone {
            self.addresses = Arc::default();
        }
        let known = self.unresolved.replace(Arc::clone(&reason));
        let news = gone || known.as_ref() != Some(&reason);
        news.then_some(Event::Unresolved { backend, reason })
    }

    /// The reason why the backend has no address to connect to, independent of its health.
    fn unreachable(&self) -> Option<&Arc<str>> {
        self.unresolved.as_ref().filter(|_| self.addresses.is_empty())
    }

    /// The event that reports the begin or the end of a drain. At the end of a drain, running exchanges are no longer cut.
    pub(super) fn drain_event(&mut self, now: Time, was_drained: bool) -> Option<Event> {
        let backend = Arc::clone(&self.spec.name);
        if was_drained != self.spec.drain {
            self.drained = self.spec.drain.then_some(now);
        }
        match (was_drained, self.spec.drain) {
            (false, true) => Some(Event::Drained { backend }),
            (true, false) => {
                self.load.set_cut(false);
                Some(Event::Undrained { backend })
            }
            _ => None,
        }
    }

    /// The backend for its drain.
    pub(super) fn leaving(&self) -> Leaving {
        Leaving { id: self.id, name: Arc::clone(&self.spec.name), load: Arc::clone(&self.load) }
    }

    /// The event that reports the present standing.
    pub(super) fn standing_event(&self) -> Event {
        let backend = Arc::clone(&self.spec.name);
        let reason = Arc::clone(self.health.reason());
        match self.health.standing() {
            Standing::Down => Event::Ejected { backend, reason },
            Standing::Up | Standing::Unproven => Event::Admitted { backend, reason },
        }
    }

    /// The backend for a view.
    pub(super) fn backend(&self) -> Backend {
        Backend {
            id: self.id,
            spec: self.spec.clone(),
            weight: self.spec.weight,
            share: 100,
            addresses: Arc::clone(&self.addresses),
            load: Arc::clone(&self.load),
        }
    }

    /// The state for status pages; `is_probed`: whether the cluster makes probes.
    pub(super) fn snapshot(&self, now: Time, is_probed: bool) -> BackendSnapshot {
        // Failed probes weigh more: the end of the ejection would not admit the backend.
        let ejection = self.ejections.present().filter(|_| self.health.standing() != Standing::Down);
        BackendSnapshot {
            id: self.id,
            name: Arc::clone(&self.spec.name),
            host: Arc::clone(&self.spec.host),
            port: self.spec.port,
            weight: self.spec.weight,
            drained: self.spec.drain,
            addresses: Arc::clone(&self.addresses),
            standing: is_probed.then(|| self.health.standing()),
            ejected: ejection.map(|ejection| ejection.until.since(now)),
            ejections: self.ejections_total,
            admitted: self.admitted(),
            reason: match (self.unreachable(), ejection) {
                _ if self.spec.drain => "gets no new requests".into(),
                (Some(reason), _) => format!("does not resolve: {reason}").into(),
                (None, Some(ejection)) => Arc::clone(&ejection.reason),
                (None, None) if is_probed => Arc::clone(self.health.reason()),
                (None, None) => "probes are off".into(),
            },
            since: now
                .since(self.drained.unwrap_or_else(|| ejection.map_or(self.health.since(), |ejection| ejection.since))),
            in_flight: self.load.in_flight(),
            limit: self.load.limit(),
            last_probe: self.health.last_probe().map(|at| now.since(at)),
            probe_took: self.health.probe_took(),
        }
    }
}
