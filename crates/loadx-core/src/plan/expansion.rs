//! Names with one backend per address (`"resolve": "each"`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::ClusterConfig;
use crate::{BackendId, BackendSpec, Event, Ids, NameAnswer};

/// The entries of a cluster in the config, and the addresses of the names that mean several backends.
#[derive(Debug, Default)]
pub(super) struct Expansion {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    spec: BackendSpec,
    /// For a name that means several backends: the id for look-ups of the name, and the addresses of the name.
    name: Option<Watched>,
}

#[derive(Clone, Debug)]
struct Watched {
    id: BackendId,
    addresses: Vec<SocketAddr>,
}

impl Expansion {
    /// Applies a config. A name that the former config had keeps its id and its addresses.
    pub(super) fn update(&mut self, config: &ClusterConfig, ids: &mut Ids) {
        let former = std::mem::take(&mut self.entries);
        let mut known: BTreeMap<(Arc<str>, u16), Watched> = former
            .into_iter()
            .filter_map(|entry| Some(((Arc::clone(&entry.spec.host), entry.spec.port), entry.name?)))
            .collect();
        for spec in &config.backends {
            let several = config.resolve_each && spec.literal_addresses().is_none();
            let name = several.then(|| {
                let known = known.remove(&(Arc::clone(&spec.host), spec.port));
                known.unwrap_or_else(|| Watched { id: ids.backend(), addresses: Vec::new() })
            });
            self.entries.push(Entry { spec: spec.clone(), name });
        }
    }

    /// The names that mean several backends.
    pub(super) fn names(&self) -> impl Iterator<Item = (BackendId, &BackendSpec)> {
        self.entries.iter().filter_map(|entry| Some((entry.name.as_ref()?.id, &entry.spec)))
    }

    /// The names that stand for several backends, with their addresses.
    pub(super) fn known_addresses(&self) -> impl Iterator<Item = (&BackendSpec, Arc<[SocketAddr]>)> {
        self.entries.iter().filter_map(|entry| Some((&entry.spec, entry.name.as_ref()?.addresses.as_slice().into())))
    }

    /// Applies an answer of DNS for a name. Returns an event when the addresses changed.
    ///
    /// A failed look-up and an answer without addresses keep the known addresses: health checks eject the backends that
    /// are gone.
    pub(super) fn resolved(&mut self, id: BackendId, answer: &NameAnswer) -> Option<Event> {
        let entry = self.entries.iter_mut().find(|entry| entry.name.as_ref().is_some_and(|name| name.id == id))?;
        let backend = Arc::clone(&entry.spec.name);
        let name = entry.name.as_mut()?;
        match answer {
            NameAnswer::Addresses(addresses) if **addresses == *name.addresses => None,
            NameAnswer::Addresses(addresses) => {
                name.addresses = addresses.to_vec();
                let listed = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                Some(Event::Resolved { backend, addresses: listed })
            }
            NameAnswer::Nowhere(reason) | NameAnswer::Failed(reason) => {
                name.addresses.is_empty().then(|| Event::Unresolved { backend, reason: Arc::clone(reason) })
            }
        }
    }

    /// The backends of the cluster: one per entry, or one per address of the name of the entry.
    pub(super) fn specs(&self) -> Vec<BackendSpec> {
        let mut specs: Vec<BackendSpec> = Vec::new();
        for entry in &self.entries {
            let Some(name) = &entry.name else {
                specs.push(entry.spec.clone());
                continue;
            };
            for address in &name.addresses {
                let host: Arc<str> = address.ip().to_string().into();
                let is_there = |spec: &BackendSpec| spec.host == host && spec.port == address.port();
                if !specs.iter().any(is_there) {
                    let spec_name = format!("{}/{host}", entry.spec.name).into();
                    specs.push(BackendSpec { name: spec_name, host, ..entry.spec.clone() });
                }
            }
        }
        specs
    }
}
