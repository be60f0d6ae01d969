//! Changes of backends that an operator makes while LoadX runs: kept apart from the config of the file, so that another
//! file does not undo them, and so that LoadX can tell how the running config differs from the file.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{ClusterConfig, Config};
use crate::BackendSpec;

/// What an operator wants of one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// No new requests (true), or requests again (false).
    Drain(bool),
    /// Another share of the requests.
    Weight(u32),
    /// A backend that the config does not have.
    Add(BackendSpec),
    /// The cluster without the backend.
    Remove,
}

/// Why a change is not possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeError {
    /// No cluster has this name; with the names of the clusters.
    UnknownCluster(String, Vec<String>),
    /// No backend has this address or name; with the addresses of the backends.
    UnknownBackend(String, Vec<String>),
    /// Several clusters have this backend; with the names of the clusters.
    Ambiguous(String, Vec<String>),
    /// The cluster already has a backend with this address or name.
    AlreadyThere(String, String),
    /// The cluster would have no backend.
    LastBackend(String, String),
    /// A weight that is not possible.
    Weight(u32),
    /// More backends than LoadX can hold in one cluster.
    TooMany(usize),
}

/// The changes of all backends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Changes {
    entries: Vec<BackendChange>,
}

/// All that an operator changed of one backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendChange {
    /// The name of the cluster.
    pub cluster: Arc<str>,
    /// The host name or the IP address of the backend.
    pub host: Arc<str>,
    /// The TCP port of the backend.
    pub port: u16,
    /// Whether the backend was added or removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence: Option<Presence>,
    /// Whether the backend gets no new requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<bool>,
    /// The share of the requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
}

/// Whether a backend was added or removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// Added, with this name.
    Added(Arc<str>),
    /// Removed.
    Removed,
}

impl Changes {
    /// The largest weight, as in the config file.
    pub const WEIGHT_MAX: u32 = 1_000;

    /// Whether there is no change.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Drops the changes that no config file could say. Returns their number.
    pub fn drop_invalid(&mut self) -> usize {
        let before = self.entries.len();
        self.entries.retain(BackendChange::is_valid);
        before - self.entries.len()
    }

    /// The change of each backend.
    pub fn iter(&self) -> impl Iterator<Item = &BackendChange> {
        self.entries.iter()
    }

    /// Adds a change. `cluster` may be left out if only one cluster has the backend. `backend` is host and port, or the
    /// name of the backend; [`Wanted::Add`] needs no `backend`. Returns the backend as "host:port of cluster".
    ///
    /// # Errors
    /// Any [`ChangeError`]; nothing has changed then.
    pub fn make(
        &mut self,
        base: &Config,
        cluster: Option<&str>,
        backend: &str,
        wanted: &Wanted,
    ) -> Result<String, ChangeError> {
        let running = self.applied_to(base);
        let (cluster, spec) = match wanted {
            Wanted::Add(spec) => (cluster_for(&running, cluster, spec)?, spec),
            _ => find(&running, cluster, backend)?,
        };
        match wanted {
            Wanted::Weight(weight) if !(1..=Self::WEIGHT_MAX).contains(weight) => {
                return Err(ChangeError::Weight(*weight));
            }
            Wanted::Remove if cluster.backends.len() == 1 => {
                return Err(ChangeError::LastBackend(spec.authority(), cluster.name.to_string()));
            }
            _ => {}
        }
        let of_file = of_base(base, &cluster.name, spec);
        let entry = self.entry(&cluster.name, spec);
        match wanted {
            Wanted::Drain(drain) => entry.drain = Some(*drain),
            Wanted::Weight(weight) => entry.weight = Some(*weight),
            Wanted::Remove => (entry.presence, entry.drain, entry.weight) = (Some(Presence::Removed), None, None),
            Wanted::Add(spec) => {
                entry.presence = of_file.is_none().then(|| Presence::Added(Arc::clone(&spec.name)));
                (entry.drain, entry.weight) = (Some(spec.drain), Some(spec.weight));
            }
        }
        let told = format!("{} of {}", spec.authority(), cluster.name);
        // Changes of other backends that this config does not have may concern a config that comes back.
        let (name, spec) = (Arc::clone(&cluster.name), spec.clone());
        self.entries.retain_mut(|entry| !entry.concerns(&name, &spec) || entry.tidy(base) == Effect::Some);
        Ok(told)
    }

    fn entry(&mut self, cluster: &Arc<str>, spec: &BackendSpec) -> &mut BackendChange {
        let position = self.entries.iter().position(|entry| entry.concerns(cluster, spec));
        let position = position.unwrap_or_else(|| {
            self.entries.push(BackendChange {
                cluster: Arc::clone(cluster),
                host: Arc::clone(&spec.host),
                port: spec.port,
                presence: None,
                drain: None,
                weight: None,
            });
            self.entries.len() - 1
        });
        &mut self.entries[position]
    }

    /// Removes what has no effect on `base`, because `base` says the same or lacks the cluster or the backend. Returns the
    /// changes that were dropped because their cluster or backend is gone.
    pub fn prune(&mut self, base: &Config) -> Vec<BackendChange> {
        let mut dropped = Vec::new();
        self.entries.retain_mut(|entry| match entry.tidy(base) {
            Effect::Some => true,
            Effect::None => false,
            Effect::Impossible => {
                dropped.push(entry.clone());
                false
            }
        });
        dropped.extend(self.drop_emptying(base));
        dropped
    }

    /// Drops the removals that would leave a cluster without a backend.
    fn drop_emptying(&mut self, base: &Config) -> Vec<BackendChange> {
        let is_removed = |entry: &&BackendChange| entry.presence == Some(Presence::Removed);
        let is_empty = |name: &Arc<str>| {
            let of_cluster = || self.entries.iter().filter(|entry| entry.cluster == *name);
            let cluster = base.clusters.iter().find(|cluster| cluster.name == *name);
            let stays = |spec: &BackendSpec| !of_cluster().filter(is_removed).any(|entry| entry.is_for(spec));
            let has_added = of_cluster().any(|entry| matches!(entry.presence, Some(Presence::Added(_))));
            !has_added && cluster.is_some_and(|cluster| !cluster.backends.iter().any(stays))
        };
        let empty: Vec<Arc<str>> =
            self.entries.iter().filter(is_removed).map(|entry| Arc::clone(&entry.cluster)).filter(is_empty).collect();
        self.entries.extract_if(.., |entry| is_removed(&&*entry) && empty.contains(&entry.cluster)).collect()
    }

    /// `base` with the changes.
    pub fn applied_to(&self, base: &Config) -> Config {
        let mut config = base.clone();
        for entry in &self.entries {
            let Some(cluster) = config.clusters.iter_mut().find(|cluster| cluster.name == entry.cluster) else {
                continue;
            };
            match &entry.presence {
                Some(Presence::Removed) => cluster.backends.retain(|spec| !entry.is_for(spec)),
                Some(Presence::Added(name)) if !cluster.backends.iter().any(|spec| entry.is_for(spec)) => {
                    let unnamed = BackendSpec::new(&entry.host, entry.port);
                    // Another config may have given the name to another backend.
                    let is_taken = cluster.backends.iter().any(|spec| spec.name == *name);
                    let name = if is_taken { Arc::clone(&unnamed.name) } else { Arc::clone(name) };
                    cluster.backends.push(BackendSpec { name, ..unnamed });
                }
                _ => {}
            }
            for spec in cluster.backends.iter_mut().filter(|spec| entry.is_for(spec)) {
                spec.drain = entry.drain.unwrap_or(spec.drain);
                spec.weight = entry.weight.unwrap_or(spec.weight);
            }
        }
        // Removals that leave nothing belong to another config.
        for (cluster, of_base) in config.clusters.iter_mut().zip(&base.clusters) {
            if cluster.backends.is_empty() {
                cluster.backends.clone_from(&of_base.backends);
            }
        }
        config
    }
}

/// What a change does to a config.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Effect {
    Some,
    /// The config says the same.
    None,
    /// The config lacks the cluster or the backend.
    Impossible,
}

impl BackendChange {
    /// Whether a config file could say the same: a change may come from a file that somebody edited.
    pub fn is_valid(&self) -> bool {
        let is_name = |text: &str| !text.is_empty() && !text.chars().any(|c| c.is_control() || c.is_whitespace());
        let has_weight = self.weight.is_none_or(|weight| (1..=Changes::WEIGHT_MAX).contains(&weight));
        has_weight && self.port != 0 && is_name(&self.host) && !self.cluster.is_empty()
    }

    /// Leaves out what `base` says anyway.
    fn tidy(&mut self, base: &Config) -> Effect {
        let cluster = base.clusters.iter().find(|cluster| cluster.name == self.cluster);
        let spec = cluster.and_then(|cluster| cluster.backends.iter().find(|spec| self.is_for(spec)));
        match (&self.presence, spec) {
            (Some(Presence::Added(_)), None) if cluster.is_none() => return Effect::Impossible,
            (Some(Presence::Added(_)), Some(_)) => self.presence = None,
            // What the operator removed is gone.
            (Some(Presence::Removed), None) => return Effect::None,
            (None, None) => return Effect::Impossible,
            _ => {}
        }
        let default = spec.map_or((false, 1), |spec| (spec.drain, spec.weight));
        self.drain = self.drain.filter(|drain| *drain != default.0);
        self.weight = self.weight.filter(|weight| *weight != default.1);
        match self.presence.is_some() || self.drain.is_some() || self.weight.is_some() {
            true => Effect::Some,
            false => Effect::None,
        }
    }

    fn is_for(&self, spec: &BackendSpec) -> bool {
        self.port == spec.port && self.host.eq_ignore_ascii_case(&spec.host)
    }

    fn concerns(&self, cluster: &str, spec: &BackendSpec) -> bool {
        *self.cluster == *cluster && self.is_for(spec)
    }
}

impl fmt::Display for BackendChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}:", BackendSpec::new(&self.host, self.port).authority(), self.cluster)?;
        let presence = self.presence.as_ref().map(|presence| match presence {
            Presence::Added(_) => " added".to_owned(),
            Presence::Removed => " removed".to_owned(),
        });
        let drain = self.drain.map(|drain| if drain { " drained" } else { " not drained" }.to_owned());
        let weight = self.weight.map(|weight| format!(" weight {weight}"));
        let words: Vec<String> = [presence, drain, weight].into_iter().flatten().collect();
        f.write_str(&words.join(","))
    }
}

fn of_base<'c>(base: &'c Config, cluster: &str, spec: &BackendSpec) -> Option<&'c BackendSpec> {
    let cluster = base.clusters.iter().find(|other| *other.name == *cluster)?;
    cluster.backends.iter().find(|other| other.port == spec.port && other.host.eq_ignore_ascii_case(&spec.host))
}

fn names<'c>(clusters: impl Iterator<Item = &'c ClusterConfig>) -> Vec<String> {
    clusters.map(|cluster| cluster.name.to_string()).collect()
}

/// The cluster to which a backend can be added.
fn cluster_for<'c>(
    config: &'c Config,
    cluster: Option<&str>,
    new: &BackendSpec,
) -> Result<&'c ClusterConfig, ChangeError> {
    let found = match (cluster, &config.clusters[..]) {
        (None, [only]) => only,
        (None, several) => return Err(ChangeError::Ambiguous(new.authority(), names(several.iter()))),
        (Some(name), _) => named(config, name)?,
    };
    let is_same = |spec: &&BackendSpec| {
        spec.name == new.name || (spec.port == new.port && spec.host.eq_ignore_ascii_case(&new.host))
    };
    match found.backends.iter().find(is_same) {
        Some(there) => Err(ChangeError::AlreadyThere(there.authority(), found.name.to_string())),
        None if found.backends.len() >= super::BACKENDS_MAX => Err(ChangeError::TooMany(super::BACKENDS_MAX)),
        None => Ok(found),
    }
}

fn named<'c>(config: &'c Config, name: &str) -> Result<&'c ClusterConfig, ChangeError> {
    let found = config.clusters.iter().find(|cluster| *cluster.name == *name);
    found.ok_or_else(|| ChangeError::UnknownCluster(name.to_owned(), names(config.clusters.iter())))
}

/// The backend with this address or name.
fn find<'c>(
    config: &'c Config,
    cluster: Option<&str>,
    backend: &str,
) -> Result<(&'c ClusterConfig, &'c BackendSpec), ChangeError> {
    let clusters: Vec<&ClusterConfig> = match cluster {
        Some(name) => vec![named(config, name)?],
        None => config.clusters.iter().collect(),
    };
    let is_it = |spec: &&BackendSpec| *spec.name == *backend || spec.authority().eq_ignore_ascii_case(backend);
    let mut found = clusters.iter().filter_map(|cluster| Some((*cluster, cluster.backends.iter().find(is_it)?)));
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only),
        (Some(first), Some(second)) => {
            let both = [first, second].into_iter().chain(found).map(|(cluster, _)| cluster);
            Err(ChangeError::Ambiguous(backend.to_owned(), names(both)))
        }
        (None, _) => {
            let known = clusters.iter().flat_map(|cluster| cluster.backends.iter()).map(BackendSpec::authority);
            Err(ChangeError::UnknownBackend(backend.to_owned(), known.collect()))
        }
    }
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A list of thousands helps nobody.
        let some = |names: &[String]| match names.len() {
            0 => "there are none".to_owned(),
            1..=10 => names.join(", "),
            more => format!("{}, … ({more} in all)", names[..10].join(", ")),
        };
        match self {
            ChangeError::UnknownCluster(name, known) => {
                write!(f, "there is no cluster \"{name}\"\n  help: the clusters are: {}", some(known))
            }
            ChangeError::UnknownBackend(backend, known) => write!(
                f,
                "there is no backend \"{backend}\"\n  help: name a backend by host:port or by its name; the backends are: {}",
                some(known)
            ),
            ChangeError::Ambiguous(backend, clusters) => write!(
                f,
                "the cluster of {backend} is not clear\n  help: name the cluster; the clusters are: {}",
                some(clusters)
            ),
            ChangeError::AlreadyThere(backend, cluster) => write!(
                f,
                "the cluster {cluster} already has {backend}, or a backend of that name\n  help: choose another address and name, or change the backend that is there"
            ),
            ChangeError::LastBackend(backend, cluster) => write!(
                f,
                "{backend} is the last backend of the cluster {cluster}\n  help: drain the backend, or add another backend first"
            ),
            ChangeError::Weight(weight) => {
                write!(f, "{weight} is no weight\n  help: a weight is from 1 to {}", Changes::WEIGHT_MAX)
            }
            ChangeError::TooMany(max) => {
                write!(f, "the cluster has {max} backends, and more are not possible\n  help: remove a backend first")
            }
        }
    }
}

impl std::error::Error for ChangeError {}

#[cfg(test)]
mod tests;
