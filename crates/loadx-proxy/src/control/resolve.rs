//! From names to addresses, and again: what a name leads to may change while LoadX runs.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use loadx_core::plan::NameToResolve;
use loadx_core::{BackendId, NameAnswer};
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, spawn_local};

use super::{Control, Finding};
use crate::limits::{
    ADDRESSES_MAX, RESOLVE_AT_START, RESOLVE_BESIDE_OTHERS, RESOLVE_IN_DOUBT, RESOLVE_INTERVAL_MAX,
    RESOLVE_INTERVAL_MIN,
};
use crate::net::{Network, Resolved};

/// What DNS answered for the names of a config, by host and port.
pub(super) type Answers = HashMap<(Arc<str>, u16), NameAnswer>;

/// The look-ups of one name. They end when this is dropped.
#[derive(Debug)]
pub(super) struct Resolver {
    urgency: Rc<Urgency>,
    task: AbortHandle,
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<N: Network> Control<N> {
    /// Starts to resolve the names of the plan, and waits for the first answers, but not for long: names that do
    /// not resolve are a state, not a reason not to start.
    pub(super) async fn resolve_at_start(&mut self, findings: &mut mpsc::Receiver<Finding>) {
        let mut waiting = self.follow_names(&Answers::new());
        let others = self.desired.backends() > waiting;
        let first_answers = async {
            while waiting > 0 {
                let Some(finding) = findings.recv().await else { return };
                waiting -= usize::from(matches!(finding, Finding::Resolved(..)));
                self.take_in_quietly(finding);
            }
        };
        // Where some backends have addresses already, the others need not be waited for as long.
        let patience = if others { RESOLVE_BESIDE_OTHERS } else { RESOLVE_AT_START };
        if tokio::time::timeout(patience, first_answers).await.is_err() {
            tracing::warn!("{waiting} backend names are still being resolved; serving with the others");
        }
    }

    /// At start, that names resolve is no news; that one does not is.
    fn take_in_quietly(&mut self, finding: Finding) {
        if let Finding::Resolved(id, answer) = finding {
            let events = self.desired.resolved(self.clock.now(), id, answer);
            let (bad, _): (Vec<_>, Vec<_>) = events.into_iter().partition(|event| event.event.is_warning());
            self.tell(&bad);
        }
    }

    /// Resolves exactly the names of the present plan from now on. Returns how many are new. New names begin with the
    /// answer that is known already, if there is one.
    pub(super) fn follow_names(&mut self, answers: &Answers) -> usize {
        let names = self.desired.names();
        let wanted: HashSet<BackendId> = names.iter().map(|name| name.id).collect();
        self.resolvers.retain(|id, _| wanted.contains(id));
        let new: Vec<_> = names.into_iter().filter(|name| !self.resolvers.contains_key(&name.id)).collect();
        for name in &new {
            // Out of rotation until DNS has answered.
            let waiting = NameAnswer::Failed("DNS has not answered yet".into());
            self.desired.resolved(self.clock.now(), name.id, waiting);
            if let Some(answer) = answers.get(&(Arc::clone(&name.host), name.port)) {
                self.desired.resolved(self.clock.now(), name.id, answer.clone());
            }
            let resolver = self.keep_resolved(name);
            self.resolvers.insert(name.id, resolver);
        }
        new.len()
    }

    /// Looks the name up again and again: when DNS says that its answer is old, within bounds, and often while the
    /// backend is down.
    fn keep_resolved(&self, name: &NameToResolve) -> Resolver {
        let NameToResolve { id, host, port } = name.clone();
        let (net, found) = (self.net.clone(), self.found.clone());
        let urgency = Rc::new(Urgency::default());
        let changed = Rc::clone(&urgency);
        let task = spawn_local(async move {
            loop {
                let (answer, valid_for) = look_up(&net, &host, port).await;
                if found.send(Finding::Resolved(id, answer)).await.is_err() {
                    return;
                }
                let pause = tokio::time::sleep(valid_for.clamp(RESOLVE_INTERVAL_MIN, RESOLVE_INTERVAL_MAX));
                tokio::select! {
                    // A random choice would make runs of a simulation differ.
                    biased;
                    () = pause => {}
                    () = changed.wait() => {}
                }
            }
        });
        Resolver { urgency, task: task.abort_handle() }
    }

    /// A backend went down or came up: how soon must its name be looked up again?
    pub(super) fn note_standing(&self, id: BackendId, down: bool) {
        if let Some(resolver) = self.resolvers.get(&id) {
            resolver.urgency.down.set(down);
            resolver.urgency.changed.notify_one();
        }
    }
}

/// How soon a name must be looked up again: the addresses of a backend that is down may be wrong.
#[derive(Debug, Default)]
struct Urgency {
    down: Cell<bool>,
    changed: Notify,
}

impl Urgency {
    /// Returns when it is time to look again, which is never while the backend is up.
    async fn wait(&self) {
        while !self.down.get() {
            self.changed.notified().await;
        }
        tokio::time::sleep(RESOLVE_IN_DOUBT).await;
    }
}

pub(super) async fn look_up<N: Network>(net: &N, host: &str, port: u16) -> (NameAnswer, Duration) {
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
