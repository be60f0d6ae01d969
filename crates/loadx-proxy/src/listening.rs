//! Taking the addresses that clients connect to.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};

use loadx_core::config::ListenerConfig;

use crate::error::StartError;
use crate::net::Network;

/// An address that clients connect to, as a URL.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// The address; port 0 of the config has become a real port.
    pub address: SocketAddr,
    /// Whether clients connect with TLS.
    pub tls: bool,
}

impl fmt::Display for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.address)
    }
}

/// A listener whose addresses were taken and that no worker uses yet.
pub(crate) struct Opened<S> {
    /// The addresses, each with the port that the system chose where the config has port 0.
    pub(crate) addresses: Vec<SocketAddr>,
    /// The sockets of each worker, one for each address.
    pub(crate) by_worker: Vec<Vec<S>>,
}

/// Takes every address that the name to listen on has.
///
/// # Errors
/// When the name has no address, or an address cannot be taken; nothing is taken then.
pub(crate) fn open<N: Network>(
    net: &N,
    listener: &ListenerConfig,
    workers: usize,
) -> Result<Opened<N::Socket>, StartError> {
    let inherited = net.inherited(listener).map_err(StartError::System)?;
    if !inherited.is_empty() {
        return share_out(net, inherited, workers).map_err(StartError::System);
    }
    let (at, listed) = (&listener.at, listener.listed);
    let mut addresses: Vec<SocketAddr> = (at.host.as_str(), at.port)
        .to_socket_addrs()
        .map_err(|error| StartError::ListenName { at: at.clone(), listed, error })?
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    let mut opened = Opened { addresses: Vec::new(), by_worker: (0..workers).map(|_| Vec::new()).collect() };
    for address in &addresses {
        let group = match net.listen(*address, workers) {
            // A name such as localhost has an IPv6 address also where the system has no IPv6.
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable && addresses.len() > 1 => continue,
            group => group.map_err(|error| StartError::Listen { address: *address, listed, error })?,
        };
        let first = group.first().expect("there is at least one worker");
        opened.addresses.push(net.address(first).map_err(StartError::System)?);
        for (worker, socket) in opened.by_worker.iter_mut().zip(group) {
            worker.push(socket);
        }
    }
    match (opened.addresses.is_empty(), addresses.first()) {
        (true, Some(address)) => {
            let error = io::ErrorKind::AddrNotAvailable.into();
            Err(StartError::Listen { address: *address, listed, error })
        }
        _ => Ok(opened),
    }
}

/// Gives each worker sockets of each address. Every socket must have a worker, because clients may wait in its queue; workers
/// for which there is no socket of their own share one.
fn share_out<N: Network>(net: &N, sockets: Vec<N::Socket>, workers: usize) -> io::Result<Opened<N::Socket>> {
    let mut by_address: BTreeMap<SocketAddr, Vec<N::Socket>> = BTreeMap::new();
    for socket in sockets {
        by_address.entry(net.address(&socket)?).or_default().push(socket);
    }
    let mut opened = Opened { addresses: Vec::new(), by_worker: (0..workers).map(|_| Vec::new()).collect() };
    for (address, mut group) in by_address {
        for worker in group.len()..workers {
            group.push(net.share(&group[worker % group.len()])?);
        }
        opened.addresses.push(address);
        for (position, socket) in group.into_iter().enumerate() {
            opened.by_worker[position % workers].push(socket);
        }
    }
    Ok(opened)
}
