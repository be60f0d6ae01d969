//! Makes the validated listeners of the listeners of the file.

use std::sync::Arc;

use super::checker::Checker;
use super::reader::{At, Problem, Typed as _};
use super::routing_file::FileListener;
use super::{HostPort, ListenerConfig};

impl Checker<'_> {
    pub(super) fn listeners(&mut self, typed: &At<Vec<At<FileListener>>>) -> Vec<ListenerConfig> {
        let chosen = typed.value.iter().any(|listener| listener.value.endpoints.is_some());
        let mut listeners: Vec<ListenerConfig> = Vec::new();
        let mut redirecting = Vec::new();
        for entry in &typed.value {
            let listener = &entry.value;
            let at = listener.address.value.0.clone();
            let unnamed = at.to_string();
            let name: Arc<str> = listener.name.as_ref().map_or(unnamed.as_str(), |name| &name.value.0).into();
            if let Some(other) = listeners.iter().find(|other| other.at.overlaps(&at)) {
                let problem = overlap(other, &name, &at);
                self.fault(entry.place, problem);
            } else if listeners.iter().any(|other| other.name == name) {
                let message = format!("two listeners are named \"{name}\"");
                self.fault(entry.place, Problem::new(message, "give each listener a different name"));
            }
            let endpoints = listener.endpoints.as_ref().map_or(!chosen, |endpoints| endpoints.value);
            let tls = listener.tls.as_ref().map(|tls| self.tls(tls, listener.http2));
            if listener.redirect_to_https {
                redirecting.push((listeners.len(), entry.value.place_of("redirect_to_https").unwrap_or(entry.place)));
            }
            let proxy_protocol = listener.proxy_protocol.iter().flat_map(|peers| &peers.value);
            let proxy_protocol = proxy_protocol.map(|peer| peer.value.0).collect();
            listeners.push(ListenerConfig {
                name,
                at,
                endpoints,
                listed: true,
                tls,
                https_port: None,
                http2: listener.http2,
                proxy_protocol,
            });
        }
        self.set_https_ports(&mut listeners, &redirecting);
        if listeners.is_empty() {
            let help = "add one: {\"address\": \"0.0.0.0:8080\"}";
            self.fault(typed.place, Problem::new("\"listeners\" is empty: no client could connect", help));
        }
        listeners
    }
}

/// Two listeners that would wait for the same connections: the system refuses the second one.
fn overlap(first: &ListenerConfig, name: &str, at: &HostPort) -> Problem {
    if first.at == *at {
        return Problem::new(format!("two listeners have the address {at}"), "remove one");
    }
    let shown = |name: &str, at: &HostPort| match at.to_string() {
        address if address == name => address,
        address => format!("\"{name}\" ({address})"),
    };
    let message = format!(
        "the listeners {} and {} overlap: a connection could reach both",
        shown(&first.name, &first.at),
        shown(name, at)
    );
    let help = "remove one of the two listeners, or give them different ports: 0.0.0.0 means all IPv4 addresses, and [::] \
                means all addresses";
    Problem::new(message, help)
}
