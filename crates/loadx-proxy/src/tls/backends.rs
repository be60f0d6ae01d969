//! TLS to the backends of all clusters of the plans in use.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use loadx_core::config::{BackendProtocol, BackendTls, BackendTransport, Config};

use super::client::ClientTls;
use crate::error::StartError;

/// TLS to backends; control writes, workers read when they open a connection.
///
/// The keys are the addresses of the transports of plans. An exchange whose plan is not the present plan finds the TLS of its
/// plan.
#[derive(Debug, Default)]
pub(crate) struct TlsBackends {
    by_transport: ArcSwap<HashMap<usize, Prepared>>,
}

#[derive(Clone, Debug)]
struct Prepared {
    transport: Weak<BackendTransport>,
    tls: Arc<ClientTls>,
}

impl TlsBackends {
    /// TLS on connections with this transport; `None` only if the transport has no TLS.
    pub(crate) fn of(&self, transport: &Arc<BackendTransport>) -> Option<Arc<ClientTls>> {
        self.by_transport.load().get(&key(transport)).map(|prepared| Arc::clone(&prepared.tls))
    }

    /// Sets TLS to the clusters of a config up, in their order. Clusters with the same settings share the result.
    ///
    /// # Errors
    /// [`StartError::ClusterTls`].
    pub(crate) fn prepare(config: &Config) -> Result<Vec<Option<Arc<ClientTls>>>, StartError> {
        let mut known: HashMap<(&BackendTls, BackendProtocol), Arc<ClientTls>> = HashMap::new();
        let prepared = config.clusters.iter().map(|cluster| {
            let Some(settings) = &cluster.transport.tls else { return Ok(None) };
            let protocol = cluster.transport.protocol;
            if let Some(tls) = known.get(&(settings, protocol)) {
                return Ok(Some(Arc::clone(tls)));
            }
            let tls = ClientTls::new(settings, protocol)
                .map(Arc::new)
                .map_err(|error| StartError::ClusterTls(Arc::clone(&cluster.name), error))?;
            known.insert((settings, protocol), Arc::clone(&tls));
            Ok(Some(tls))
        });
        prepared.collect()
    }

    /// Adds TLS of the transports of a new plan, and drops TLS of transports that no plan has.
    pub(crate) fn add<'t>(&self, new: impl Iterator<Item = (&'t Arc<BackendTransport>, Option<Arc<ClientTls>>)>) {
        let mut all: HashMap<usize, Prepared> = HashMap::clone(&self.by_transport.load());
        all.retain(|_, prepared| prepared.transport.strong_count() > 0);
        for (transport, tls) in new.filter_map(|(transport, tls)| Some((transport, tls?))) {
            all.insert(key(transport), Prepared { transport: Arc::downgrade(transport), tls });
        }
        self.by_transport.store(Arc::new(all));
    }
}

/// A `Weak` keeps the address of its value from being used again.
fn key(transport: &Arc<BackendTransport>) -> usize {
    Arc::as_ptr(transport).addr()
}
