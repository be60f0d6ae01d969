//! From names to addresses, and again: what a name leads to may change while LoadX runs.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use loadx_core::{BackendId, NameAnswer};
use tokio::sync::{Notify, mpsc};
use tokio::task::spawn_local;

use super::{Control, Finding, tell};
use crate::limits::{
    ADDRESSES_MAX, RESOLVE_AT_START, RESOLVE_BESIDE_OTHERS, RESOLVE_IN_DOUBT, RESOLVE_INTERVAL_MAX,
    RESOLVE_INTERVAL_MIN,
};
use crate::net::{Network, Resolved};

impl<N: Network> Control<N> {
    /// Starts to resolve every name, and waits for the first answers, but not for long: names that do
    /// not resolve are a state, not a reason not to start.
    pub(super) async fn resolve_names(&mut self, findings: &mut mpsc::Receiver<Finding>) {
        let named: Vec<BackendId> = self
            .cluster
            .ids()
            .filter(|id| self.cluster.spec(*id).is_some_and(|spec| spec.literal_addresses().is_none()))
            .collect();
        for id in &named {
            // Out of rotation until DNS has answered.
            let _ = self.cluster.resolved(*id, NameAnswer::Failed("DNS has not answered yet".into()));
            self.keep_resolved(*id);
        }
        let all = self.cluster.ids().count();
        let mut waiting = named.len();
        let first_answers = async {
            while waiting > 0 {
                let Some(finding) = findings.recv().await else { return };
                waiting -= usize::from(matches!(finding, Finding::Resolved(..)));
                self.take_in_quietly(finding);
            }
        };
        // Where some backends have addresses already, the others need not be waited for as long.
        let patience = if named.len() < all { RESOLVE_BESIDE_OTHERS } else { RESOLVE_AT_START };
        if tokio::time::timeout(patience, first_answers).await.is_err() {
            tracing::warn!("{waiting} backend names are still being resolved; serving with the others");
        }
    }

    /// At start, that names resolve is no news; that one does not is.
    fn take_in_quietly(&mut self, finding: Finding) {
        if let Finding::Resolved(id, answer) = finding
            && let Some(event) = self.cluster.resolved(id, answer)
            && event.is_warning()
        {
            tell(&event);
        }
    }

    /// Looks the name up for as long as control runs: when DNS says that its answer is old, within
    /// bounds, and often while the backend is down.
    fn keep_resolved(&mut self, id: BackendId) {
        let Some(spec) = self.cluster.spec(id) else { return };
        let (host, port) = (Arc::clone(&spec.host), spec.port);
        let (net, found) = (self.net.clone(), self.found.clone());
        let doubt = Rc::new(Doubt::default());
        self.doubts.insert(id, Rc::clone(&doubt));
        spawn_local(async move {
            loop {
                let (answer, valid_for) = look_up(&net, &host, port).await;
                if found.send(Finding::Resolved(id, answer)).await.is_err() {
                    return;
                }
                let pause = tokio::time::sleep(valid_for.clamp(RESOLVE_INTERVAL_MIN, RESOLVE_INTERVAL_MAX));
                tokio::select! {
                    () = pause => {}
                    () = doubt.wait() => {}
                }
            }
        });
    }

    /// A backend went down or came up: how soon must its name be looked up again?
    pub(super) fn doubt(&self, id: BackendId, down: bool) {
        if let Some(doubt) = self.doubts.get(&id) {
            doubt.down.set(down);
            doubt.changed.notify_one();
        }
    }
}

/// Whether the addresses of a backend may be wrong, because it is down.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    down: Cell<bool>,
    changed: Notify,
}

impl Doubt {
    /// Returns when it is time to look again, which is never while the backend is up.
    async fn wait(&self) {
        while !self.down.get() {
            self.changed.notified().await;
        }
        tokio::time::sleep(RESOLVE_IN_DOUBT).await;
    }
}

async fn look_up<N: Network>(net: &N, host: &str, port: u16) -> (NameAnswer, Duration) {
    match net.resolve(host, port).await {
        Ok(resolved) if resolved.addresses.is_empty() => {
            (NameAnswer::Nowhere("the name does not exist, or has no address".into()), RESOLVE_IN_DOUBT)
        }
        Ok(Resolved { mut addresses, valid_for }) => {
            // Several sources can name one address twice, and each answer may come in another order: sorted,
            // only a real change is one. IPv4 leads: it works wherever there is a choice.
            addresses.sort_unstable();
            addresses.dedup();
            addresses.truncate(ADDRESSES_MAX);
            (NameAnswer::Addresses(addresses.into()), valid_for)
        }
        Err(error) => (NameAnswer::Failed(error.to_string().into()), RESOLVE_IN_DOUBT),
    }
}
