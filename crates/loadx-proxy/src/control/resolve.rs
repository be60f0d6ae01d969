//! From names to addresses, and again: what a name leads to may change while LoadX runs.

use std::net::SocketAddr;
use std::sync::Arc;

use loadx_core::BackendId;
use tokio::sync::mpsc;
use tokio::task::spawn_local;

use super::{Control, Finding, tell};
use crate::limits::{ADDRESSES_MAX, RESOLVE_AT_START, RESOLVE_INTERVAL, RESOLVE_RETRY_INTERVAL};
use crate::net::Network;

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
            let _ = self.cluster.resolved(*id, Err("DNS has not answered yet".into()));
            self.keep_resolved(*id);
        }
        let mut waiting = named.len();
        let first_answers = async {
            while waiting > 0 {
                let Some(finding) = findings.recv().await else { return };
                waiting -= usize::from(matches!(finding, Finding::Resolved(..)));
                self.take_in_quietly(finding);
            }
        };
        if tokio::time::timeout(RESOLVE_AT_START, first_answers).await.is_err() {
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

    fn keep_resolved(&self, id: BackendId) {
        let Some(spec) = self.cluster.spec(id) else { return };
        let (host, port) = (Arc::clone(&spec.host), spec.port);
        let (net, found) = (self.net.clone(), self.found.clone());
        spawn_local(async move {
            loop {
                let answer = look_up(&net, &host, port).await;
                let pause = if answer.is_ok() { RESOLVE_INTERVAL } else { RESOLVE_RETRY_INTERVAL };
                if found.send(Finding::Resolved(id, answer)).await.is_err() {
                    return;
                }
                tokio::time::sleep(pause).await;
            }
        });
    }
}

async fn look_up<N: Network>(net: &N, host: &str, port: u16) -> Result<Arc<[SocketAddr]>, Arc<str>> {
    match net.resolve(host, port).await {
        Ok(addresses) if addresses.is_empty() => Err("the name has no address".into()),
        Ok(mut addresses) => {
            // Several socket types or sources can name one address twice. Each answer may come in another
            // order; sorted, only a real change is one. IPv4 leads: it works wherever there is a choice.
            addresses.sort_unstable();
            addresses.dedup();
            addresses.truncate(ADDRESSES_MAX);
            Ok(addresses.into())
        }
        Err(error) => {
            let text = error.to_string();
            let reason = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
            Err(reason.into())
        }
    }
}
