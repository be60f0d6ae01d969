//! Why a proxy cannot start, or cannot take over another config.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use loadx_core::config::HostPort;

use crate::tls::TlsError;

/// Why a proxy could not be started.
#[derive(Debug)]
pub enum StartError {
    /// The name to listen on has no address.
    ListenName {
        /// The name and the port.
        at: HostPort,
        /// Whether `listeners` of the config has the name; otherwise `proxy_host` has the name.
        listed: bool,
        /// Why the look-up failed.
        error: io::Error,
    },
    /// The address to listen on cannot be taken.
    Listen {
        /// The address.
        address: SocketAddr,
        /// Whether `listeners` of the config has the address; otherwise `proxy_host` and `proxy_port` have the address.
        listed: bool,
        /// Why the system refuses the address.
        error: io::Error,
    },
    /// How the system resolves names cannot be read.
    Names(io::Error),
    /// TLS of a listener cannot be set up: the name of the listener, and the reason.
    Tls(Arc<str>, TlsError),
    /// TLS to the backends of a cluster cannot be set up: the name of the cluster, and the reason.
    ClusterTls(Arc<str>, TlsError),
    /// The access log's file cannot be opened.
    LogFile(PathBuf, io::Error),
    /// The system refused what every program needs: threads, descriptors.
    System(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::ListenName { at, listed, error } => {
                let key = host_key(*listed);
                write!(
                    f,
                    "cannot listen on \"{}\": {error}\n  help: set {key} to an address of this machine, or to \"0.0.0.0\" for all of them",
                    at.host
                )
            }
            StartError::Listen { address, listed, error } => {
                let (port, key) = (address.port(), port_key(*listed));
                match error.kind() {
                    io::ErrorKind::AddrInUse => write!(
                        f,
                        "cannot listen on {address}: port {port} is in use by another process\n  help: stop that process (`lsof -i :{port}` names it), or choose another {key}"
                    ),
                    io::ErrorKind::PermissionDenied => write!(
                        f,
                        "cannot listen on {address}: permission denied\n  help: ports below 1024 need privileges (CAP_NET_BIND_SERVICE); choose another {key}, or grant them"
                    ),
                    _ => write!(
                        f,
                        "cannot listen on {address}: {error}\n  help: {} must be an address of this machine",
                        host_key(*listed)
                    ),
                }
            }
            StartError::Names(error) => {
                write!(
                    f,
                    "cannot resolve names: {error}\n  help: /etc/resolv.conf must be readable and name a DNS server"
                )
            }
            StartError::Tls(listener, error) => {
                let help = match error {
                    TlsError::Authorities(..) => {
                        "\"ca\" and \"revoked\" of \"client_certificates\" name files that LoadX can read: certificates of \
                         authorities, and lists of revoked certificates"
                    }
                    _ => "\"certificate\" and \"key\" name files in the PEM format that LoadX can read",
                };
                write!(f, "TLS of the listener {listener} cannot be set up: {error}\n  help: {help}")
            }
            StartError::ClusterTls(cluster, error) => {
                let help = match error {
                    TlsError::Authorities(None, _) => {
                        "install the package ca-certificates, or name a file with \"ca\" in \"tls\" of the cluster"
                    }
                    _ => "\"ca\", \"certificate\" and \"key\" name files in the PEM format that LoadX can read",
                };
                write!(f, "TLS to the backends of the cluster {cluster} cannot be set up: {error}\n  help: {help}")
            }
            StartError::LogFile(path, error) => {
                write!(
                    f,
                    "cannot open the access log \"{}\": {error}\n  help: its directory must exist and be writable; \"log_file\" names it",
                    path.display()
                )
            }
            StartError::System(error) => {
                write!(
                    f,
                    "cannot start: {error}\n  help: the system lacks threads or file descriptors; see `ulimit -a`"
                )
            }
        }
    }
}

/// The key of the config with the port of a listener.
fn port_key(listed: bool) -> &'static str {
    if listed { "port in the \"address\" of the listener" } else { "\"proxy_port\"" }
}

/// The key of the config with the host of a listener.
fn host_key(listed: bool) -> &'static str {
    if listed { "the host in the \"address\" of the listener" } else { "\"proxy_host\"" }
}

impl std::error::Error for StartError {}

/// Why a running proxy could not take over another config. The proxy goes on with the config that it has.
#[derive(Debug)]
pub enum ApplyError {
    /// A listener or the access log of the config cannot be opened.
    Open(StartError),
    /// A new listener needs a port that LoadX itself holds by a listener of the present config: the two addresses.
    Overlap(SocketAddr, SocketAddr),
    /// The proxy is stopping, or too many commands wait.
    Stopping,
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ApplyError::Open(error) => error.fmt(f),
            ApplyError::Overlap(new, old) => write!(
                f,
                "cannot listen on {new}: LoadX listens on {old}\n  help: apply a config without the listener {old} first, and then the config with {new}"
            ),
            ApplyError::Stopping => f.write_str("LoadX is stopping"),
        }
    }
}

impl std::error::Error for ApplyError {}
