//! What would change if another config replaced a config.
//!
//! Each config becomes a list of parts with their settings (`describe`), after its lists without an order are sorted
//! (`normal`); [`compare()`] matches the parts as [`Desired::apply`](super::Desired::apply) does: listeners by address,
//! routes and clusters by name, backends by host and port within their cluster.

mod describe;
mod keys;
mod normal;
mod refusals;

use crate::config::Config;

use describe::{Entry, Settings, describe};

/// The kind of a part of a config.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// An address on which LoadX accepts connections.
    Listener,
    /// A route.
    Route,
    /// A cluster.
    Cluster,
    /// A backend of a cluster.
    Backend,
    /// A setting of the whole process.
    Setting,
}

/// Whether a part is only in the new config, only in the old config, or different.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Only in the new config.
    Added,
    /// Only in the old config.
    Removed,
    /// In both configs, with other settings.
    Changed,
}

/// A setting of a part that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detail {
    /// The name of the setting, as in the config where it is there.
    pub key: String,
    /// The value in the old config; `None` without a value there.
    pub old: Option<String>,
    /// The value in the new config; `None` without a value there.
    pub new: Option<String>,
}

/// One difference between two configs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The kind of the part.
    pub part: Part,
    /// The cluster of a backend.
    pub of: Option<String>,
    /// The name of the part: the address of a listener or backend, the key of a setting.
    pub name: String,
    /// What happens to the part.
    pub change: Change,
    /// The settings that differ; empty for parts that are added or removed.
    pub details: Vec<Detail>,
    /// The effect on requests, connections and tunnels.
    pub effect: String,
}

/// The differences between the config `old` and the config `new`, ordered by kind: listeners, routes, clusters with their
/// backends, settings. Only configs with the same behaviour have no differences.
pub fn compare(old: &Config, new: &Config) -> Vec<Difference> {
    let (old, new) = (&normal::normal(old), &normal::normal(new));
    let mut differences = parts(&describe(old), &describe(new));
    differences.extend(order_of_routes(old, new));
    keys::add_moves(old, new, &mut differences);
    refusals::add_refusals(old, new, &mut differences);
    if differences.is_empty() && old != new {
        differences.push(unnamed());
    }
    // A backend stands behind its cluster, whether the cluster differs or not.
    let place = |difference: &Difference| {
        let part = if difference.part == Part::Backend { Part::Cluster } else { difference.part };
        let cluster = difference.of.clone().unwrap_or_else(|| difference.name.clone());
        let group = if part == Part::Cluster { cluster } else { String::new() };
        (part, group, difference.part)
    };
    differences.sort_by_key(place);
    differences
}

fn parts(before: &[Entry], after: &[Entry]) -> Vec<Difference> {
    let mut differences = Vec::new();
    for entry in after {
        match before.iter().find(|other| other.is_same_part(entry)) {
            None => differences.push(whole(entry, Change::Added, entry.effects.added.clone())),
            Some(former) => differences.extend(changed(former, entry)),
        }
    }
    let gone = before.iter().filter(|entry| !after.iter().any(|other| other.is_same_part(entry)));
    differences.extend(gone.map(|entry| whole(entry, Change::Removed, entry.effects.removed.clone())));
    // `enable_logging` tells that the access log begins or ends; without a log its settings mean nothing.
    differences.retain(|difference| difference.part != Part::Setting || difference.change == Change::Changed);
    differences
}

fn whole(entry: &Entry, change: Change, effect: String) -> Difference {
    let (of, name) = (entry.of.clone(), entry.name.clone());
    Difference { part: entry.part, of, name, change, details: Vec::new(), effect }
}

fn changed(former: &Entry, entry: &Entry) -> Option<Difference> {
    let (before, after) = (former.settings_beside(entry), entry.settings_beside(former));
    let value = |settings: &Settings, key: &str| {
        settings.iter().find(|(other, _)| other == key).map(|(_, value)| value.clone())
    };
    let mut keys: Vec<&String> = before.iter().chain(&after).map(|(key, _)| key).collect();
    keys.sort_unstable();
    keys.dedup();
    let details =
        keys.into_iter().map(|key| Detail { key: key.clone(), old: value(&before, key), new: value(&after, key) });
    let details: Vec<Detail> = details.filter(|detail| detail.old != detail.new).collect();
    let has = |key: &str| details.iter().any(|detail| detail.key.starts_with(key));
    let effect = match &entry.effects.changed_with {
        Some((key, effect)) if has(key) => effect.clone(),
        _ => entry.effects.changed.clone(),
    };
    (!details.is_empty()).then(|| Difference { details, ..whole(entry, Change::Changed, effect) })
}

/// "No differences" must not be said of configs that differ, even if a part has no words for its difference.
fn unnamed() -> Difference {
    Difference {
        part: Part::Setting,
        of: None,
        name: "config".to_owned(),
        change: Change::Changed,
        details: Vec::new(),
        effect: "the configs differ in something that has no words here; compare the files".to_owned(),
    }
}

/// Routes that are in both configs, in another order. The order decides between routes of the same precedence.
fn order_of_routes(old: &Config, new: &Config) -> Option<Difference> {
    let common = |config: &Config, other: &Config| {
        let is_there = |name: &str| other.routes.iter().any(|route| *route.name == *name);
        let names = config.routes.iter().map(|route| route.name.to_string());
        names.filter(|name| is_there(name)).collect::<Vec<_>>()
    };
    let (before, after) = (common(old, new), common(new, old));
    (before != after).then(|| Difference {
        part: Part::Route,
        of: None,
        name: "order".to_owned(),
        change: Change::Changed,
        details: vec![Detail { key: "order".to_owned(), old: Some(before.join(", ")), new: Some(after.join(", ")) }],
        effect: "a request that matches several routes of the same precedence may take another route".to_owned(),
    })
}

#[cfg(test)]
mod tests;
