//! What TLS of a config comes to, for people: which certificate a client would get, and what a backend shows.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use loadx_core::config::{BackendProtocol, BackendTls, Config, TlsConfig};
use rustls::ClientConnection;

use super::choice::Reason;
use super::client::ClientTls;
use super::error::TlsError;
use super::facts::TlsFacts;
use super::identities::Keyring;
use super::identity::{Identity, Summary};
use super::roots;
use super::server::ServerTls;

/// The certificate that a client gets that asks a listener for this name, or that connects to this address without a name; and
/// why.
///
/// # Errors
/// When the files of the listener cannot be used.
pub fn explain_listener(
    tls: &TlsConfig,
    keyring: &Arc<Keyring>,
    name: Option<&str>,
    local: Option<IpAddr>,
) -> Result<(Option<Arc<Identity>>, Reason), TlsError> {
    Ok(ServerTls::new(tls, keyring, None)?.explain(name, local))
}

/// What is wrong with the files that TLS of a config needs.
#[derive(Clone, Debug, Default)]
pub struct FileFaults {
    /// Why LoadX would not start with the config, or not take the config over: each with the listener or the cluster.
    pub unusable: Vec<String>,
    /// Authorities without a list of revoked certificates, and lists whose time is over.
    pub lists: Vec<String>,
}

/// What is wrong with the files that TLS of this config needs.
pub fn faults_of_files(config: &Config) -> FileFaults {
    let keyring = Arc::<Keyring>::default();
    let mut faults = FileFaults::default();
    let listeners = config.listeners.iter().filter_map(|listener| Some((listener, listener.tls.as_ref()?)));
    for (listener, tls) in listeners {
        match ServerTls::new(tls, &keyring, None) {
            Ok(tls) => faults.lists.extend(tls.list_faults()),
            Err(error) => faults.unusable.push(format!("TLS of the listener {}: {error}", listener.name)),
        }
    }
    let clusters = config.clusters.iter().filter_map(|cluster| Some((cluster, cluster.transport.tls.as_ref()?)));
    faults.unusable.extend(clusters.filter_map(|(cluster, tls)| {
        let error = ClientTls::new(tls, cluster.transport.protocol).err()?;
        Some(format!("TLS to the backends of the cluster {}: {error}", cluster.name))
    }));
    if let Some(error) = config.acme.ca.as_ref().and_then(|ca| roots::of_file(ca).err()) {
        faults.unusable.push(format!("\"ca\" of \"acme\": {error}"));
    }
    faults
}

/// What a backend agreed on.
#[derive(Clone, Debug)]
pub struct BackendShown {
    /// The version of TLS.
    pub version: &'static str,
    /// The cipher suite.
    pub cipher: &'static str,
    /// The certificates that the backend shows, its own first.
    pub chain: Vec<Summary>,
}

/// Makes a handshake with a backend as LoadX would, within `limit`. `host` is the host of the backend in the config.
///
/// # Errors
/// Why LoadX would not send a request to this backend.
pub fn explain_backend(
    (tls, protocol): (&BackendTls, BackendProtocol),
    host: &str,
    address: SocketAddr,
    limit: Duration,
) -> Result<BackendShown, io::Error> {
    let tls = ClientTls::new(tls, protocol).map_err(io::Error::other)?;
    let name = tls.name_for(host).map_err(io::Error::other)?;
    let mut connection = ClientConnection::new(tls.rustls(), name).map_err(io::Error::other)?;
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    let facts = TlsFacts::new(&connection, None, None, None);
    if protocol == BackendProtocol::Http2 && !facts.is_h2 {
        return Err(io::Error::other("in the handshake it did not agree on HTTP/2 (\"protocol\" is h2)"));
    }
    let chain = connection.peer_certificates().unwrap_or_default().iter().map(Summary::of).collect();
    connection.send_close_notify();
    // The backend may be gone already.
    let _ = connection.complete_io(&mut stream);
    Ok(BackendShown { version: facts.version, cipher: facts.cipher, chain })
}
