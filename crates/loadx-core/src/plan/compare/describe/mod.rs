//! A config as a list of parts with their settings, in the words of the config.

mod action;
mod cluster;
mod process;
mod resilience;
mod route;
mod tls;
pub(super) mod words;

use super::Part;
use crate::config::{Config, ListenerConfig};

use action::ActionEntry;
use words::{quote, seconds};

/// A part of a config.
pub(super) struct Entry {
    pub(super) part: Part,
    pub(super) of: Option<String>,
    pub(super) name: String,
    /// The settings by name; settings with the default value included.
    pub(super) settings: Settings,
    /// The action of a route, whose settings depend on the kind of the action.
    pub(super) action: Option<ActionEntry>,
    pub(super) effects: Effects,
}

/// The values of settings by name. Two values are equal only if they mean the same.
pub(super) type Settings = Vec<(String, String)>;

/// What happens if the part is added, removed or changed.
pub(super) struct Effects {
    pub(super) added: String,
    pub(super) removed: String,
    pub(super) changed: String,
    /// The effect of a change that concerns a setting whose name begins so.
    pub(super) changed_with: Option<(&'static str, String)>,
}

impl Effects {
    fn new(added: &str, removed: &str, changed: &str) -> Self {
        let (added, removed, changed) = (added.to_owned(), removed.to_owned(), changed.to_owned());
        Effects { added, removed, changed, changed_with: None }
    }
}

impl Entry {
    pub(super) fn is_same_part(&self, other: &Entry) -> bool {
        (self.part, &self.of, &self.name) == (other.part, &other.of, &other.name)
    }

    /// The settings to compare with those of `other`. Two actions of different kinds have no settings in common, so each
    /// is one setting then.
    pub(super) fn settings_beside(&self, other: &Entry) -> Settings {
        let mut all = self.settings.clone();
        match (&self.action, &other.action) {
            (Some(mine), Some(theirs)) if mine.kind != theirs.kind => {
                all.push(("action".to_owned(), mine.summary.clone()));
            }
            (Some(mine), _) => all.extend(mine.settings.iter().cloned()),
            (None, _) => {}
        }
        all
    }
}

/// All parts of a config in its normal form.
pub(super) fn describe(config: &Config) -> Vec<Entry> {
    let grace = seconds(config.timeouts.shutdown_grace);
    let mut entries: Vec<Entry> = config.listeners.iter().map(|listener| listener_entry(listener, &grace)).collect();
    entries.extend(config.routes.iter().map(|one| route::entry(one, config)));
    let drain = seconds(config.timeouts.drain);
    entries.extend(config.clusters.iter().flat_map(|one| cluster::entries(one, &drain)));
    entries.extend(process::entries(config));
    entries
}

fn listener_entry(listener: &ListenerConfig, grace: &str) -> Entry {
    Entry {
        part: Part::Listener,
        of: None,
        name: listener.at.to_string(),
        settings: listener_settings(listener),
        action: None,
        effects: Effects {
            changed_with: Some((
                tls::CLIENT_CERTIFICATES,
                "LoadX closes the connections for hosts whose rule changes, each as soon as the connection is idle"
                    .to_owned(),
            )),
            ..Effects::new(
                "LoadX accepts clients on this address",
                &format!("idle connections close; running requests and WebSockets have {grace} to finish"),
                "connections stay open",
            )
        },
    }
}

fn listener_settings(listener: &ListenerConfig) -> Settings {
    let mut all = settings([
        ("name", quote(&listener.name)),
        ("endpoints", listener.endpoints.to_string()),
        ("http2", listener.http2.to_string()),
        ("proxy_protocol", words::networks(&listener.proxy_protocol, "no peer")),
        ("redirect_to_https", listener.https_port.map_or("no".to_owned(), |port| format!("to port {port}"))),
    ]);
    match &listener.tls {
        Some(tls) => all.extend(tls::settings_of(tls)),
        None => all.extend(tls::settings_without()),
    }
    all
}

fn settings<const N: usize>(all: [(&str, String); N]) -> Settings {
    all.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}
