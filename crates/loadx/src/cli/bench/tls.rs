//! How `loadx bench` checks the certificates of servers.

use std::sync::Arc;

use loadx_load::{TlsConfig, client_tls};

use super::options::BenchArguments;
use crate::trouble::Trouble;

/// The settings that the options describe.
pub(super) fn config(arguments: &BenchArguments, http2: bool) -> Result<Arc<TlsConfig>, Trouble> {
    let trusted = match (&arguments.ca, arguments.insecure) {
        (_, true) => client_tls::Trust::Everyone,
        (Some(file), false) => client_tls::Trust::Authorities(file.clone()),
        (None, false) => client_tls::Trust::System,
    };
    client_tls::config(&trusted, http2).map(Arc::new).map_err(|error| {
        Trouble::Input(format!(
            "{error}\n  help: name the certificates to trust with --ca FILE, or check none with --insecure"
        ))
    })
}
