//! Resolves names by /etc/hosts and by DNS with the servers of /etc/resolv.conf.
//!
//! The resolver of the C library returns no time to live and is incomplete in a static binary.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;

/// The addresses of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The addresses, in the order to try.
    pub addresses: Vec<SocketAddr>,
    /// The time to live of the answer; zero if there are no addresses.
    pub valid_for: Duration,
}

/// The resolver of the system's configuration.
#[derive(Clone, Debug)]
pub(super) struct Names {
    resolver: TokioResolver,
}

impl Names {
    /// Reads /etc/resolv.conf and /etc/hosts. If /etc/resolv.conf cannot be read, names in /etc/hosts still resolve.
    pub(super) fn from_system() -> io::Result<Self> {
        let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|error| {
            tracing::warn!("cannot read /etc/resolv.conf, so only names in /etc/hosts resolve: {error}");
            TokioResolver::builder_with_config(ResolverConfig::default(), TokioRuntimeProvider::default())
        });
        let options = builder.options_mut();
        options.use_hosts_file = ResolveHosts::Always;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        // Control decides when to look a name up again; a cache would return the old answer.
        options.cache_size = 0;
        Ok(Names { resolver: builder.build().map_err(io::Error::other)? })
    }

    pub(super) async fn resolve(&self, host: &str, port: u16) -> io::Result<Resolved> {
        match self.resolver.lookup_ip(host).await {
            Ok(lookup) => {
                let addresses = lookup.iter().map(|ip| SocketAddr::new(ip, port)).collect();
                Ok(Resolved { addresses, valid_for: lookup.valid_until().saturating_duration_since(Instant::now()) })
            }
            Err(error) if error.is_nx_domain() || error.is_no_records_found() => {
                Ok(Resolved { addresses: Vec::new(), valid_for: Duration::ZERO })
            }
            Err(error) => Err(io::Error::other(error.to_string())),
        }
    }
}
