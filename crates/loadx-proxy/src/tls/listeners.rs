//! TLS of all listeners of the running plan.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use loadx_core::ListenerId;
use loadx_core::config::Config;

use super::identities::Keyring;
use super::server::ServerTls;
use crate::error::StartError;

/// TLS by listener; control writes, workers read when they accept a client.
#[derive(Debug)]
pub(crate) struct TlsListeners {
    keyring: Arc<Keyring>,
    by_listener: ArcSwap<HashMap<ListenerId, Arc<ServerTls>>>,
}

impl TlsListeners {
    pub(crate) fn new(keyring: Arc<Keyring>) -> Self {
        TlsListeners { keyring, by_listener: ArcSwap::default() }
    }

    pub(crate) fn keyring(&self) -> &Arc<Keyring> {
        &self.keyring
    }

    /// TLS of a listener; none if its clients connect without TLS.
    pub(crate) fn of(&self, listener: ListenerId) -> Option<Arc<ServerTls>> {
        self.by_listener.load().get(&listener).cloned()
    }

    /// TLS of each listener that has TLS.
    pub(crate) fn all(&self) -> Arc<HashMap<ListenerId, Arc<ServerTls>>> {
        self.by_listener.load_full()
    }

    /// Sets TLS of the listeners of a config up, in their order. `former`: the listener that a listener of the config
    /// replaces.
    ///
    /// # Errors
    /// [`StartError::Tls`].
    pub(crate) fn prepare(
        &self,
        config: &Config,
        former: impl Fn(usize) -> Option<ListenerId>,
    ) -> Result<Vec<Option<Arc<ServerTls>>>, StartError> {
        let prepared = config.listeners.iter().enumerate().map(|(index, listener)| {
            let Some(tls) = &listener.tls else { return Ok(None) };
            let former = former(index).and_then(|id| self.of(id));
            ServerTls::new(tls, &self.keyring, former.as_deref())
                .map(|tls| Some(Arc::new(tls)))
                .map_err(|error| StartError::Tls(Arc::clone(&listener.name), error))
        });
        prepared.collect()
    }

    /// Replaces TLS of all listeners, and keeps that of listeners that are leaving.
    pub(crate) fn replace(
        &self,
        listeners: impl Iterator<Item = (ListenerId, Option<Arc<ServerTls>>)>,
        leaving: impl IntoIterator<Item = ListenerId>,
    ) {
        let kept = leaving.into_iter().map(|id| (id, self.of(id)));
        let all = listeners.chain(kept).filter_map(|(id, tls)| Some((id, tls?)));
        self.by_listener.store(Arc::new(all.collect()));
    }
}
