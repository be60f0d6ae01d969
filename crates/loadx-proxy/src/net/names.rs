//! Names to addresses: /etc/hosts and DNS as the system is configured to ask it.
//!
//! Not the C library's resolver: that does not tell how long an answer holds, and in a static binary
//! it is not all there.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts};

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
    /// Reads how the system is configured (/etc/resolv.conf, /etc/hosts).
    pub(super) fn from_system() -> io::Result<Self> {
        let mut builder = TokioResolver::builder_tokio().map_err(io::Error::other)?;
        let options = builder.options_mut();
        options.use_hosts_file = ResolveHosts::Always;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        // Control decides when to ask again; an answer from a cache would be none.
        options.cache_size = 0;
        Ok(Names { resolver: builder.build().map_err(io::Error::other)? })
    }

    pub(super) async fn resolve(&self, host: &str, port: u16) -> io::Result<Resolved> {
        let lookup = self.resolver.lookup_ip(host).await.map_err(|error| {
            let reason = if error.is_nx_domain() {
                "the name does not exist".to_owned()
            } else if error.is_no_records_found() {
                "the name has no address".to_owned()
            } else {
                error.to_string()
            };
            io::Error::other(reason)
        })?;
        let addresses = lookup.iter().map(|ip| SocketAddr::new(ip, port)).collect();
        Ok(Resolved { addresses, valid_for: lookup.valid_until().saturating_duration_since(Instant::now()) })
    }
}
