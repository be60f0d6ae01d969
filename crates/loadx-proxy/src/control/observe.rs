//! Collects what control and the workers see, for operators.

use std::collections::BTreeMap;

use loadx_core::Time;
use tokio::sync::oneshot;
use tokio::task::spawn_local;

use super::Control;
use super::endpoints::Endpoints;
use super::reload::LeavingListener;
use crate::explanations::Explanation;
use crate::limits::MEASURE_TIMEOUT;
use crate::messages::{Census, Order};
use crate::net::Network;
use crate::observed::{Counts, ListenerDrain, ListenerObserved, Observed};
use crate::shared::WorkerLoad;

impl<N: Network> Control<N> {
    pub(super) fn observe(&self, reply: oneshot::Sender<Box<Observed>>, endpoints: &Endpoints<N>) {
        let (now, state, plan) = (self.clock.now(), self.state(), self.shared.plan());
        let (endpoints, shared, mailboxes) = (endpoints.clone(), self.shared.clone(), self.mailboxes.clone());
        spawn_local(async move {
            let mut answers = Vec::new();
            for mailbox in &mailboxes {
                let (reply, answer) = oneshot::channel();
                if mailbox.send(Order::Census(reply)).is_ok() {
                    answers.push(answer);
                }
            }
            let counts = endpoints.measure().await;
            let mut all = Census::default();
            for answer in answers {
                // The workers have just answered the measurement; one that did not is left out of both.
                if let Ok(Ok(census)) = tokio::time::timeout(MEASURE_TIMEOUT, answer).await {
                    add(&mut all.connections, census.connections);
                    add(&mut all.tunnels, census.tunnels);
                }
            }
            let listener = |(id, addresses)| ListenerObserved {
                name: plan.listener(id).map_or_else(|| "".into(), |at| plan.listeners[at].name.clone()),
                addresses,
                connections: all.connections.get(&id).copied().unwrap_or_default(),
            };
            let leaving = |listener: LeavingListener| ListenerDrain {
                connections: all.connections.get(&listener.id).copied().unwrap_or_default(),
                addresses: listener.addresses,
                left: listener.until.since(now),
            };
            let observed = Observed {
                generation: plan.generation,
                uptime: now.since(Time::ZERO),
                applied: now.since(state.config.since),
                last_failure: state.config.failure.map(|(at, reason)| (now.since(at), reason)),
                listeners: state.listening.into_iter().map(listener).collect(),
                listener_drains: state.leaving.into_iter().map(leaving).filter(|drain| drain.connections > 0).collect(),
                clusters: state.clusters,
                drains: state.drains,
                tunnels: all.tunnels.into_iter().collect(),
                connections: shared.loads.iter().map(WorkerLoad::connections).sum(),
                connections_max: plan.process.max_connections,
                counts: Counts(Box::new((*counts).clone())),
            };
            // The caller may have given up waiting.
            let _ = reply.send(Box::new(observed));
        });
    }
}

impl<N: Network> Control<N> {
    /// Collects the explanations of all workers, the oldest first.
    pub(super) fn explanations(&self, reply: oneshot::Sender<Vec<Explanation>>) {
        let mailboxes = self.mailboxes.clone();
        spawn_local(async move {
            let mut all = Vec::new();
            for mailbox in &mailboxes {
                let (reply, answer) = oneshot::channel();
                if mailbox.send(Order::Explanations(reply)).is_ok()
                    && let Ok(Ok(explanations)) = tokio::time::timeout(MEASURE_TIMEOUT, answer).await
                {
                    all.extend(explanations);
                }
            }
            all.sort_by_key(|explanation: &Explanation| explanation.at);
            // The caller may have given up waiting.
            let _ = reply.send(all);
        });
    }
}

fn add<K: Ord>(all: &mut BTreeMap<K, usize>, some: BTreeMap<K, usize>) {
    for (key, count) in some {
        *all.entry(key).or_default() += count;
    }
}
