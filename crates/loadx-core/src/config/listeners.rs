//! Makes the validated listeners of the listeners of the file.

use std::sync::Arc;

use super::ListenerConfig;
use super::checker::Checker;
use super::reader::{At, Problem};
use super::routing_file::FileListener;

impl Checker<'_> {
    pub(super) fn listeners(&mut self, typed: &At<Vec<At<FileListener>>>) -> Vec<ListenerConfig> {
        let chosen = typed.value.iter().any(|listener| listener.value.endpoints.is_some());
        let mut listeners: Vec<ListenerConfig> = Vec::new();
        for entry in &typed.value {
            let listener = &entry.value;
            let at = listener.address.value.0.clone();
            let unnamed = format!("{}:{}", at.host, at.port);
            let name: Arc<str> = listener.name.as_ref().map_or(unnamed.as_str(), |name| &name.value.0).into();
            if at.port != 0 && listeners.iter().any(|other| other.at == at) {
                self.fault(
                    entry.place,
                    Problem::new(format!("two listeners have the address {unnamed}"), "remove one"),
                );
            } else if listeners.iter().any(|other| other.name == name) {
                let message = format!("two listeners are named \"{name}\"");
                self.fault(entry.place, Problem::new(message, "give each listener a different name"));
            }
            let endpoints = listener.endpoints.as_ref().map_or(!chosen, |endpoints| endpoints.value);
            listeners.push(ListenerConfig { name, at, endpoints });
        }
        if listeners.is_empty() {
            let help = "add one: {\"address\": \"0.0.0.0:8080\"}";
            self.fault(typed.place, Problem::new("\"listeners\" is empty: no client could connect", help));
        }
        listeners
    }
}
