//! How `loadx bench` checks the certificates of servers.

use std::sync::Arc;

use loadx_core::config::{BackendProtocol, BackendTls};
use loadx_load::TlsConfig;
use loadx_proxy::client_config;

use super::options::BenchArguments;
use crate::trouble::Trouble;

/// The settings that the options describe.
pub(super) fn config(arguments: &BenchArguments, http2: bool) -> Result<Arc<TlsConfig>, Trouble> {
    let trusted = BackendTls { ca: arguments.ca.clone(), insecure: arguments.insecure, ..BackendTls::default() };
    let protocol = if http2 { BackendProtocol::Http2 } else { BackendProtocol::Http1 };
    client_config(&trusted, protocol).map_err(|error| {
        Trouble::Input(format!(
            "{error}\n  help: name the certificates to trust with --ca FILE, or check none with --insecure"
        ))
    })
}
