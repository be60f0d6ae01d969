//! Traps: configs that are valid and still cannot work.
//!
//! The config reader in `loadx-core` does no I/O; this module makes the checks that depend on the machine.

mod certificates;
mod load;
mod redirects;
mod routes;
mod trap;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;

use loadx_core::config::{BackendProtocol, ClusterConfig, Config, HealthKeys, HostPort, ListenerConfig};
use loadx_core::route::Action;
use loadx_core::{BackendSpec, GrpcStatuses, Probe};

use crate::trouble::Trouble;
use crate::words::count;
pub(crate) use trap::Trap;

/// The warnings about `config`. `file` is the config file, if there is one.
///
/// # Errors
/// All fatal traps.
pub(crate) fn warnings(config: &Config, file: Option<&Path>) -> Result<Vec<Trap>, Trouble> {
    let (errors, warnings): (Vec<Trap>, Vec<Trap>) = find(config).into_iter().partition(Trap::is_fatal);
    if errors.is_empty() {
        return Ok(warnings);
    }
    let each: Vec<String> = errors.iter().map(Trap::text).collect();
    Err(Trouble::Input(match file {
        None => each.join("\n\n"),
        Some(file) => {
            let name = file.display();
            let each: Vec<String> = each.iter().map(|text| format!("{name}: {text}")).collect();
            format!("{name} has {}\n\n{}", count(errors.len(), "fault"), each.join("\n\n"))
        }
    }))
}

fn find(config: &Config) -> Vec<Trap> {
    let backends = config.backends().flat_map(|(_, backend)| {
        [half_an_address(&format!("backend {}", backend.name), &backend.host), loop_to_itself(config, backend)]
    });
    let listen = config.listeners.iter().map(|listener| half_an_address("the address to listen on", &listener.at.host));
    let told = config.listeners.iter().map(anybody_tells_addresses);
    let log = config.access_log.as_ref().and_then(|log| log.file.as_deref()).and_then(unwritable_log);
    let clusters = config.clusters.iter().flat_map(|cluster| {
        [slow_probes(config, cluster), all_drained(cluster), insecure(cluster), retries_of_no_calls(cluster)]
    });
    let found = listen.chain(told).chain([log]).chain(backends).chain(clusters).flatten();
    let found = found.chain(unused(config)).chain(routes::traps(config)).chain(redirects::traps(config));
    found.chain(certificates::traps(config)).chain(load::traps(config)).collect()
}

/// A cluster whose backends all get no requests.
fn all_drained(cluster: &ClusterConfig) -> Option<Trap> {
    cluster.backends.iter().all(|backend| backend.drain).then(|| {
        Trap::warning(
            format!("all backends of the cluster \"{}\" are drained: its requests get 503", cluster.name),
            "remove \"drain\" from one of them",
        )
    })
}

/// A listener that takes the address of the client from any peer.
fn anybody_tells_addresses(listener: &ListenerConfig) -> Option<Trap> {
    listener.proxy_protocol.iter().any(|peers| peers.prefix_len() == 0).then(|| {
        Trap::warning(
            format!(
                "\"proxy_protocol\" of the listener {} names all peers, so that any client may claim any address",
                listener.name
            ),
            "name the addresses of the load balancers before LoadX",
        )
    })
}

/// A cluster whose backends may show any certificate.
fn insecure(cluster: &ClusterConfig) -> Option<Trap> {
    cluster.transport.tls.as_ref().is_some_and(|tls| tls.insecure).then(|| {
        Trap::warning(
            format!(
                "\"insecure\" of the cluster \"{}\": LoadX takes any certificate, so that anybody on the way to the backends \
                 can read and change all content",
                cluster.name
            ),
            "name the authority of the backends' certificates with \"ca\", and remove \"insecure\"",
        )
    })
}

/// A cluster with retries of gRPC whose backends speak HTTP/1.1, over which there is no gRPC.
fn retries_of_no_calls(cluster: &ClusterConfig) -> Option<Trap> {
    let retries = cluster.attempt.retry_grpc != GrpcStatuses::default();
    (retries && cluster.transport.protocol == BackendProtocol::Http1).then(|| {
        Trap::warning(
            format!(
                "\"retry_grpc\" of the cluster \"{}\" has no effect: gRPC needs HTTP/2, and LoadX speaks HTTP/1.1 to its backends",
                cluster.name
            ),
            "add \"protocol\": \"h2\" to the cluster, or remove \"retry_grpc\"",
        )
    })
}

/// A host of numbers and dots that is no IP address: no name in the DNS ends with a number.
fn half_an_address(whose: &str, host: &str) -> Option<Trap> {
    let looks_like_one = host.contains('.') && host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    (looks_like_one && host.parse::<Ipv4Addr>().is_err()).then(|| {
        Trap::error(
            format!("{whose}: \"{host}\" looks like an IP address, but is not one"),
            "an IPv4 address has four numbers from 0 to 255, such as 127.0.0.1",
        )
    })
}

/// A backend that is LoadX itself: LoadX would send each request to itself again and again, each time on another
/// connection.
fn loop_to_itself(config: &Config, backend: &BackendSpec) -> Option<Trap> {
    let listener = config.listeners.iter().map(|listener| &listener.at).find(|at| reaches(at, backend))?;
    Some({
        Trap::error(
            format!(
                "backend {} is LoadX itself, which listens on {listener}: LoadX would send each request to itself until \
                 the request fails",
                backend.name
            ),
            "remove this backend, or let LoadX listen on another port",
        )
    })
}

/// Whether a connection to the backend certainly reaches the listener. Looks up no names except localhost and the name
/// of this machine: DNS may answer differently on the machine where LoadX runs.
fn reaches(listen: &HostPort, backend: &BackendSpec) -> bool {
    if listen.port != backend.port {
        return false;
    }
    if listen.host.eq_ignore_ascii_case(&backend.host) {
        return true;
    }
    let listening = HostPort::known_addresses(&listen.host);
    let targets = HostPort::known_addresses(&backend.host);
    if targets.is_empty() && is_name_of_this_machine(&backend.host) {
        // Which of its addresses the machine has under this name is unknown.
        return listening.iter().any(IpAddr::is_unspecified);
    }
    targets.iter().any(|target| {
        // A connection to "all addresses" reaches this machine.
        let here = target.is_unspecified() || is_of_this_machine(*target);
        listening.iter().any(|own| match own {
            IpAddr::V4(ip) if ip.is_unspecified() => target.is_ipv4() && here,
            IpAddr::V6(ip) if ip.is_unspecified() => here,
            own => own == target || (target.is_unspecified() && own.is_loopback()),
        })
    })
}

/// Whether this is the host name of this machine.
fn is_name_of_this_machine(host: &str) -> bool {
    rustix::system::uname().nodename().to_str().is_ok_and(|name| name.eq_ignore_ascii_case(host))
}

/// Whether packets to this address stay on this machine: the system then uses the same address as their source. Sends
/// nothing. (A successful bind would not prove this: with `ip_nonlocal_bind` the system permits any address.)
fn is_of_this_machine(ip: IpAddr) -> bool {
    if ip.is_loopback() {
        return true;
    }
    let any: IpAddr = if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // The port does not matter; 9 is the port of the discard service.
    let source = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(SocketAddr::new(ip, 9))?;
        socket.local_addr()
    });
    source.is_ok_and(|source| source.ip() == ip)
}

/// A probe timeout longer than the interval: probes of one backend never overlap, so a slow probe extends the interval.
fn slow_probes(config: &Config, cluster: &ClusterConfig) -> Option<Trap> {
    let (timeout, interval) = (cluster.health.timeout, cluster.health.interval);
    if timeout <= interval || cluster.health.probe == Probe::Off {
        return None;
    }
    let (timeout, interval) = (timeout.as_secs_f64(), interval.as_secs_f64());
    let HealthKeys { own_interval, own_timeout } = cluster.health_keys;
    let key = |own: bool, word: &str| if own { format!("\"{word}\"") } else { format!("\"health_check_{word}\"") };
    let whose = match config.clusters.len() {
        1 if !own_interval && !own_timeout => String::new(),
        _ => format!("cluster \"{}\": ", cluster.name),
    };
    let help = match own_interval || own_timeout {
        true => format!("set \"timeout\" in \"health\" of the cluster to {interval} or less"),
        false => format!("set \"health_check_timeout\" to {interval} or less"),
    };
    let (timeout_key, interval_key) = (key(own_timeout, "timeout"), key(own_interval, "interval"));
    Some(Trap::warning(
        format!(
            "{whose}{timeout_key} ({timeout} s) is longer than {interval_key} ({interval} s): a backend that does not \
             answer is probed every {timeout} s only"
        ),
        help,
    ))
}

/// Clusters that no route names.
fn unused(config: &Config) -> Vec<Trap> {
    let mut used = vec![false; config.clusters.len()];
    for route in &config.routes {
        if let Action::Forward(forward) = &route.action {
            let named = forward.split.iter().map(|share| share.cluster).chain(forward.mirror);
            named.for_each(|cluster| used[cluster] = true);
        }
    }
    let unused = config.clusters.iter().zip(used).filter(|(_, used)| !used);
    let trap = |(cluster, _): (&ClusterConfig, bool)| {
        let message = format!("no route uses the cluster \"{}\"", cluster.name);
        Trap::warning(message, "name the cluster in a route, or remove the cluster")
    };
    unused.map(trap).collect()
}

/// A log file whose folder does not exist.
fn unwritable_log(file: &Path) -> Option<Trap> {
    let shown = file.display();
    let trap =
        |why: String, help: String| Some(Trap::error(format!("cannot open the access log \"{shown}\": {why}"), help));
    if file.is_dir() {
        return trap(format!("{shown} is a folder"), "set \"log_file\" to a file in that folder".to_owned());
    }
    // A relative path without a folder has the parent "", which means the working directory.
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty())?;
    let named = folder.display();
    if !folder.exists() {
        let place = match std::env::current_dir() {
            Ok(here) if folder.is_relative() => format!(" in {}", here.display()),
            _ => String::new(),
        };
        return trap(
            format!("the folder {named} does not exist{place}"),
            format!("create the folder (mkdir -p {named}), or set \"log_file\" to a file in another folder"),
        );
    }
    match folder.is_dir() {
        true => None,
        false => trap(format!("{named} is not a folder"), "set \"log_file\" to a file in a folder".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listens(listen: (&str, u16), backend: (&str, u16)) -> bool {
        let listen = HostPort { host: listen.0.to_owned(), port: listen.1 };
        reaches(&listen, &BackendSpec::new(backend.0, backend.1))
    }

    #[test]
    fn loadx_itself_is_recognised_as_a_backend() {
        for (listen, backend) in [
            ("0.0.0.0", "localhost"),
            ("0.0.0.0", "LOCALHOST"),
            ("0.0.0.0", "127.0.0.1"),
            ("0.0.0.0", "127.3.2.1"),
            ("0.0.0.0", "0.0.0.0"),
            ("::", "127.0.0.1"),
            ("::", "::1"),
            ("127.0.0.1", "127.0.0.1"),
            ("127.0.0.1", "localhost"),
            ("localhost", "::1"),
            ("127.0.0.1", "0.0.0.0"),
            ("lb.internal", "LB.internal"),
        ] {
            assert!(listens((listen, 80), (backend, 80)), "{listen} {backend}");
            assert!(!listens((listen, 80), (backend, 81)), "{listen} {backend}");
        }
    }

    #[test]
    fn other_servers_are_not_taken_for_loadx() {
        for (listen, backend) in [
            ("0.0.0.0", "::1"),
            ("0.0.0.0", "192.0.2.1"),
            ("0.0.0.0", "backend-1"),
            ("127.0.0.1", "127.0.0.2"),
            ("127.0.0.1", "::1"),
            ("192.0.2.1", "127.0.0.1"),
        ] {
            assert!(!listens((listen, 80), (backend, 80)), "{listen} {backend}");
        }
    }

    #[test]
    fn the_name_of_this_machine_is_loadx_itself() {
        let name = rustix::system::uname().nodename().to_str().unwrap().to_owned();
        assert!(listens(("0.0.0.0", 80), (&name, 80)) && listens(("::", 80), (&name.to_uppercase(), 80)));
        assert!(!listens(("0.0.0.0", 80), (&name, 81)) && !listens(("192.0.2.1", 80), (&name, 80)));
    }

    #[test]
    fn hosts_that_only_look_like_addresses_are_found() {
        for host in ["127.0.0.1.5", "127.0.1", "300.1.1.1", "10.0.0.07", "10.0.0.1."] {
            assert!(half_an_address("x", host).is_some(), "{host}");
        }
        for host in ["127.0.0.1", "1password.example", "7", "a.7", "::1"] {
            assert_eq!(half_an_address("x", host), None, "{host}");
        }
    }
}
