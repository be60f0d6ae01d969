//! The actions of routes.

use super::Settings;
use super::words::{list, percent, quote, seconds};
use crate::config::Config;
use crate::route::{Action, FieldEdits, Forward, Redirect, Respond, Route, Share};
use crate::stable_hash;

/// The number of characters of a body that are shown.
const BODY_SHOWN: usize = 40;

/// The action of a route.
pub(in super::super) struct ActionEntry {
    pub(super) kind: &'static str,
    /// The whole action in one line.
    pub(super) summary: String,
    pub(super) settings: Settings,
}

/// A setting: its key, its value if it is set, and the words for a value that is not set.
type Part = (&'static str, Option<String>, &'static str);

impl ActionEntry {
    pub(super) fn new(route: &Route, config: &Config) -> Self {
        match &route.action {
            Action::Forward(forward) => {
                let mut parts = forwarding(forward, config);
                // The config allows these only beside a cluster.
                parts.push(("response_headers", edits(&route.response_fields), "unchanged"));
                parts.push(("timeouts.exchange", route.exchange_timeout.map(seconds), "none"));
                ActionEntry::of("forward", parts)
            }
            Action::Redirect(redirect) => ActionEntry::of("redirect", redirecting(redirect)),
            Action::Respond(respond) => ActionEntry::of("respond", responding(respond)),
        }
    }

    fn of(kind: &'static str, parts: Vec<Part>) -> Self {
        // The config has the settings of a forward beside the action, and the others in the action.
        let (verb, prefix) = if kind == "forward" { ("", String::new()) } else { (kind, format!("{kind}.")) };
        let shown = parts.iter().filter_map(|(key, value, _)| Some((key, value.as_ref()?)));
        let shown = shown.map(|(key, value)| if *key == "status" { value.clone() } else { format!("{key} {value}") });
        let summary = format!("{verb} {}", list(shown, "")).trim_start().to_owned();
        let settings = parts
            .into_iter()
            .map(|(key, value, unset)| (format!("{prefix}{key}"), value.unwrap_or_else(|| unset.to_owned())))
            .collect();
        ActionEntry { kind, summary, settings }
    }
}

fn forwarding(forward: &Forward, config: &Config) -> Vec<Part> {
    let rewrite = &forward.rewrite;
    vec![
        ("cluster", Some(clusters(&forward.split, config)), ""),
        ("split_by", forward.sticky.then(|| "client".to_owned()), "request"),
        ("mirror", forward.mirror.map(|position| cluster_name(position, config)), "none"),
        ("rewrite.path", rewrite.path.as_deref().map(quote), "unchanged"),
        ("rewrite.path_prefix", rewrite.path_prefix.as_deref().map(quote), "unchanged"),
        ("rewrite.host", rewrite.host.as_deref().map(quote), "unchanged"),
        ("request_headers", edits(&forward.request_fields), "unchanged"),
    ]
}

fn clusters(split: &[Share], config: &Config) -> String {
    if let [only] = split {
        return cluster_name(only.cluster, config);
    }
    let total: u64 = split.iter().map(|share| u64::from(share.weight)).sum();
    let share = |share: &Share| {
        let part = percent(f64::from(share.weight) / total as f64);
        format!("{} weight {} ({part})", cluster_name(share.cluster, config), share.weight)
    };
    list(split.iter().map(share), "none")
}

fn cluster_name(position: usize, config: &Config) -> String {
    quote(config.clusters.get(position).map_or("", |cluster| &cluster.name))
}

fn redirecting(redirect: &Redirect) -> Vec<Part> {
    const REQUEST: &str = "as in the request";
    vec![
        ("status", Some(redirect.status.to_string()), ""),
        ("scheme", redirect.scheme.as_deref().map(quote), REQUEST),
        ("host", redirect.host.as_deref().map(quote), REQUEST),
        // Another scheme or host without a port means the default port.
        ("port", redirect.port.map(|port| port.to_string()), "not set"),
        ("path", redirect.path.path.as_deref().map(quote), REQUEST),
        ("path_prefix", redirect.path.path_prefix.as_deref().map(quote), REQUEST),
    ]
}

fn responding(respond: &Respond) -> Vec<Part> {
    vec![
        ("status", Some(respond.status.to_string()), ""),
        ("body", (!respond.body.is_empty()).then(|| content(&respond.body)), "empty"),
        ("content_type", Some(quote(&respond.content_type)), ""),
    ]
}

/// A short text itself; the beginning and the hash of a long text.
fn content(body: &str) -> String {
    match body.char_indices().nth(BODY_SHOWN) {
        None => quote(body),
        Some((end, _)) => {
            let hash = stable_hash::of_bytes(body.as_bytes());
            format!("{}… ({} bytes, hash {hash:016x})", quote(&body[..end]), body.len())
        }
    }
}

fn edits(edits: &FieldEdits) -> Option<String> {
    let removed = edits.remove.iter().map(|name| format!("remove {}", quote(name)));
    let added = edits.add.iter().map(|(name, value)| format!("add {}: {}", quote(name), quote(&value.to_string())));
    (!edits.is_empty()).then(|| list(removed.chain(added), ""))
}
