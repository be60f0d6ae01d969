//! Names to addresses: /etc/hosts and DNS as the system is configured to ask it.
//!
//! Not the C library's resolver: that does not tell how long an answer holds, and in a static binary
//! it is not all there.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;

/// What a name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// In the order to try.
    pub addresses: Vec<SocketAddr>,
    /// For how long that is true, as far as DNS says.
    pub valid_for: Duration,
}

/// Asks what names lead to.
#[derive(Clone, Debug)]
pub(super) struct Names {
    resolver: TokioResolver,
}

impl Names {
    /// Reads how the system is configured (/etc/resolv.conf, /etc/hosts). Where that cannot be read, names
    /// in /etc/hosts still resolve.
    pub(super) fn from_system() -> io::Result<Self> {
        let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|error| {
            tracing::warn!("only names in /etc/hosts will resolve: /etc/resolv.conf: {error}");
            TokioResolver::builder_with_config(ResolverConfig::default(), TokioRuntimeProvider::default())
        });
        let options = builder.options_mut();
        options.use_hosts_file = ResolveHosts::Always;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        // Control decides when to ask again; an answer from a cache would be none.
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
