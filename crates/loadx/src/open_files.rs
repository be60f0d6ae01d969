//! The system's limit of open files; each connection takes one file.

use loadx_core::config::Config;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit for a config: a client connection takes two files, its own and the backend's. With HTTP/2, LoadX runs as many
/// further exchanges, over all connections, as there may be connections.
pub(crate) fn allow_for(config: &Config) {
    let files = if config.listeners.iter().any(|listener| listener.http2) { 3 } else { 2 };
    allow(files * config.max_connections as u64 + 100, "\"max_connections\"");
}

/// Raises the limit to the most that the system permits: LoadX would reach the usual 1,024 long before most other
/// limits. Warns when the limit stays below `wanted`; `cause` is the setting that needs so many files.
pub(crate) fn allow(wanted: u64, cause: &str) {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::warn!("cannot raise the limit of open files: {error}");
    }
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if allowed < wanted {
        tracing::warn!("the process may open {allowed} files, and {cause} can need {wanted}; raise `ulimit -n`");
    }
}
