//! Listening sockets that another process gave to this one: the former LoadX in an upgrade, or systemd.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Mutex, MutexGuard, PoisonError};

use loadx_core::config::{HostPort, ListenerConfig};
use socket2::SockRef;

/// A listening socket that another process gave to this one.
#[derive(Debug)]
pub struct InheritedSocket {
    /// The listener that the socket is for.
    pub listener: InheritedFor,
    /// The socket.
    pub socket: TcpListener,
}

/// The listener that an inherited socket is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InheritedFor {
    /// The listener with this address in the config.
    Address(HostPort),
    /// The listener with this name, or the listener whose address is that of the socket.
    Name(String),
}

/// The inherited sockets that no listener has taken.
#[derive(Debug, Default)]
pub(super) struct Inherited(Mutex<Vec<InheritedSocket>>);

impl Inherited {
    pub(super) fn new(sockets: Vec<InheritedSocket>) -> Self {
        Inherited(Mutex::new(sockets))
    }

    fn sockets(&self) -> MutexGuard<'_, Vec<InheritedSocket>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the sockets of a listener.
    pub(super) fn take(&self, listener: &ListenerConfig) -> io::Result<Vec<TcpListener>> {
        let taken: Vec<TcpListener> =
            self.sockets().extract_if(.., |one| is_for(one, listener)).map(|one| one.socket).collect();
        taken.iter().try_for_each(prepare)?;
        Ok(taken)
    }

    /// The addresses of the sockets that no listener has taken. The sockets are closed.
    pub(super) fn close_rest(&self) -> Vec<SocketAddr> {
        let rest = std::mem::take(&mut *self.sockets());
        rest.iter().filter_map(|one| one.socket.local_addr().ok()).collect()
    }
}

fn is_for(inherited: &InheritedSocket, listener: &ListenerConfig) -> bool {
    match &inherited.listener {
        InheritedFor::Address(at) => *at == listener.at,
        InheritedFor::Name(name) if *name == *listener.name => true,
        InheritedFor::Name(_) => inherited.socket.local_addr().is_ok_and(|address| serves(address, &listener.at)),
    }
}

/// Whether a socket with this address is the one that a listener would open. `0.0.0.0` means all IPv4 addresses, and a
/// socket of systemd for all addresses has `::`.
fn serves(address: SocketAddr, at: &HostPort) -> bool {
    let known = HostPort::known_addresses(&at.host);
    let is_same = |ip: &std::net::IpAddr| *ip == address.ip() || (ip.is_unspecified() && address.ip().is_unspecified());
    address.port() == at.port && known.iter().any(is_same)
}

/// Sets what LoadX sets on its own sockets.
fn prepare(socket: &TcpListener) -> io::Result<()> {
    let options = SockRef::from(socket);
    options.set_nonblocking(true)?;
    options.set_tcp_nodelay(true)?;
    #[cfg(target_os = "linux")]
    options.set_tcp_notsent_lowat(crate::limits::UNSENT_BYTES_MAX)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_of_systemd_finds_its_listener_by_name_or_address() {
        let at = |text: &str, host: &str, port: u16| {
            serves(text.parse().unwrap(), &HostPort { host: host.to_owned(), port })
        };
        assert!(at("127.0.0.1:80", "127.0.0.1", 80) && at("[::]:80", "0.0.0.0", 80) && at("[::]:80", "::", 80));
        assert!(at("127.0.0.1:80", "localhost", 80));
        assert!(!at("127.0.0.1:80", "127.0.0.1", 81) && !at("127.0.0.1:80", "0.0.0.0", 80));
        assert!(!at("10.0.0.1:80", "app.internal", 80));
    }

    #[test]
    fn each_listener_takes_its_sockets_once() {
        let socket = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (first, second, third) = (socket(), socket(), socket());
        let address = second.local_addr().unwrap();
        let of = |host: &str, port: u16| HostPort { host: host.to_owned(), port };
        let rest = third.local_addr().unwrap();
        let inherited = Inherited::new(vec![
            InheritedSocket { listener: InheritedFor::Name("web".to_owned()), socket: first },
            InheritedSocket { listener: InheritedFor::Name("other".to_owned()), socket: second },
            InheritedSocket { listener: InheritedFor::Address(of("127.0.0.1", 0)), socket: third },
        ]);
        let listener = |name: &str, at: HostPort| ListenerConfig {
            proxy_protocol: Vec::new(),
            name: name.into(),
            at,
            endpoints: true,
            listed: true,
            tls: None,
            https_port: None,
            http2: true,
        };
        assert_eq!(inherited.take(&listener("web", of("127.0.0.1", 1))).unwrap().len(), 1);
        assert_eq!(inherited.take(&listener("web", of("127.0.0.1", 1))).unwrap().len(), 0);
        assert_eq!(inherited.take(&listener("api", of("127.0.0.1", address.port()))).unwrap().len(), 1);
        assert_eq!(inherited.close_rest(), [rest]);
    }
}
