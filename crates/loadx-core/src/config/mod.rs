//! The config: from the text of the config file to the [`Config`].
//!
//! [`parse`] reads a file into *file types* (`FileConfig`: each value has its place in the text), and makes the
//! validated [`Config`] of the file types. `parse` collects all faults, so that LoadX reports them at once. [`schema`]
//! uses the same file types.

#[macro_use]
mod object;
mod admin;
mod algorithm;
mod changes;
mod checker;
mod client_certificates;
mod comments;
mod edits;
mod environment;
mod fault;
mod file;
mod health;
mod health_file;
mod listeners;
mod log_file;
mod model;
mod reader;
mod resilience;
mod resilience_file;
mod routing;
mod routing_file;
mod routing_values;
mod table;
mod tls;
mod tls_file;
mod validate;
mod values;

use file::FileConfig;
use reader::Read as _;
use validate::BACKENDS_MAX;

pub use changes::{BackendChange, ChangeError, Changes, Presence, Wanted};
pub use client_certificates::{ClientCertificates, ClientRule, ClientRules};
pub use fault::{Fault, Faults};
pub use log_file::{LogField, LogFormat, LogValue};
pub use model::{
    AccessLogConfig, AcmeChallenge, AcmeConfig, AdminConfig, AdminSocket, BackendProtocol, BackendTls,
    BackendTransport, CertificateFiles, ClientLimits, ClusterConfig, Config, ConnectionsPerClient, HealthKeys,
    HostPort, ListenerConfig, LogFilter, ProxyVersion, Signature, Timeouts, TlsConfig, TlsProfile, TokenSource,
    TracingConfig,
};
pub use tls::is_local_name;

/// Reads a config from the text of a file.
///
/// # Errors
/// All faults, each with its place; a text that is not JSON has one fault.
pub fn parse(text: &str) -> Result<Config, Faults> {
    parse_with(text, &|_| None)
}

/// Reads a config as [`parse`] does, and replaces `${NAME}` and `${NAME:-default}` by the values of environment
/// variables.
///
/// # Errors
/// The errors of [`parse`], and variables without a value and without a default.
pub fn parse_with(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<Config, Faults> {
    let mut faults = Faults::default();
    let json = match comments::blanked(text) {
        Ok(json) => json,
        Err(start) => {
            faults.push(open_comment(text, start));
            return Err(faults);
        }
    };
    let file = reader::read::<FileConfig>(&json, environment, &mut faults);
    let config = file.map(|file| validate::validate(&json, file, &mut faults));
    match config {
        Some(config) if faults.is_empty() => Ok(config),
        _ => Err(faults.sorted().with_lines_of(text)),
    }
}

fn open_comment(text: &str, start: usize) -> Fault {
    let line = text[..start].matches('\n').count() + 1;
    let message = format!("the comment that begins in line {line} has no end");
    Fault::new(text, start, 2, message, "close the comment with */".to_owned())
}

/// The config without a file.
#[derive(Clone, Debug)]
pub struct Arguments<'a> {
    /// The address to listen on.
    pub listen: &'a HostPort,
    /// The backends.
    pub backends: &'a [HostPort],
    /// Whether the backends speak TLS.
    pub backend_tls: bool,
    /// The names for which LoadX gets certificates; without names, clients connect without TLS.
    pub https: &'a [String],
    /// The address from which LoadX redirects to https.
    pub redirect: Option<&'a HostPort>,
}

/// The config of arguments, with the defaults for all other keys.
///
/// # Errors
/// The errors of [`parse`]; the places are places in a JSON text that LoadX makes of the arguments.
pub fn from_arguments(arguments: &Arguments<'_>) -> Result<Config, Faults> {
    let Arguments { listen, backends, backend_tls, https, redirect } = arguments;
    let backends: Vec<_> = backends.iter().map(|to| serde_json::json!({ "host": to.host, "port": to.port })).collect();
    let mut file = if https.is_empty() {
        serde_json::json!({ "proxy_host": listen.host, "proxy_port": listen.port, "backend_servers": backends })
    } else {
        let secure = serde_json::json!({ "address": listen.to_string(), "tls": { "auto": https } });
        let plain = redirect.map(|at| serde_json::json!({ "address": at.to_string(), "redirect_to_https": true }));
        let listeners: Vec<_> = std::iter::once(secure).chain(plain).collect();
        serde_json::json!({ "listeners": listeners, "backend_servers": backends })
    };
    if *backend_tls {
        file["backend_tls"] = true.into();
    }
    parse(&format!("{file:#}"))
}

/// The JSON Schema (draft 2020-12) of the config file.
pub fn schema() -> serde_json::Value {
    let mut schema = FileConfig::schema();
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["properties"]["$schema"] =
        serde_json::json!({ "type": "string", "description": "The address of this schema, for editors." });
    schema["title"] = "LoadX configuration".into();
    schema
}

#[cfg(test)]
mod tests;
