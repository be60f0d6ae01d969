//! Collects what another process needs to go on with the work of this one.

use std::collections::HashMap;
use std::io;

use loadx_core::ListenerId;
use loadx_core::config::HostPort;
use tokio::sync::oneshot;
use tokio::task::spawn_local;

use super::Control;
use crate::limits::MEASURE_TIMEOUT;
use crate::messages::{HandedOver, Order};
use crate::net::Network;

impl<N: Network> Control<N> {
    /// Sends the listening sockets of all workers, and what control knows about names and backends.
    pub(super) fn hand_over(&self, outcome: oneshot::Sender<io::Result<HandedOver>>) {
        let inheritance = self.desired.inheritance(self.clock.now());
        let addresses: HashMap<ListenerId, HostPort> = self.desired.listeners().iter().cloned().collect();
        let mailboxes = self.mailboxes.clone();
        spawn_local(async move {
            let mut sockets = Vec::new();
            for mailbox in &mailboxes {
                let (reply, answer) = oneshot::channel();
                // Without the sockets of a worker the clients in their queues would be lost.
                let lost = || io::Error::other("a worker does not give its sockets");
                let collected = match mailbox.send(Order::Descriptors(reply)) {
                    Ok(()) => tokio::time::timeout(MEASURE_TIMEOUT, answer).await,
                    Err(_) => Ok(Ok(Err(lost()))),
                };
                match collected.ok().and_then(Result::ok).unwrap_or_else(|| Err(lost())) {
                    Ok(some) => sockets.extend(some.into_iter().filter_map(|(listener, descriptor)| {
                        // A listener that was removed just now is not handed over.
                        Some((addresses.get(&listener)?.clone(), descriptor))
                    })),
                    Err(error) => return drop(outcome.send(Err(error))),
                }
            }
            // The caller may have given up waiting.
            let _ = outcome.send(Ok(HandedOver { sockets, inheritance }));
        });
    }
}
