//! Chooses the certificate of a client.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::SupportedCipherSuite;
use rustls::server::ClientHello;

use super::identities::{IdentityTable, Keyring};
use super::identity::{Identity, provider};

/// The certificates of one listener.
#[derive(Debug)]
pub(super) struct Choice {
    /// The certificates of files.
    pub(super) own: ArcSwap<IdentityTable>,
    pub(super) keyring: Arc<Keyring>,
    /// The names whose certificates LoadX obtains, in the order of the config, and for look-ups.
    pub(super) auto: Vec<Arc<str>>,
    pub(super) auto_names: HashSet<Arc<str>>,
    pub(super) refuses_unknown: bool,
}

/// Why a client gets a certificate, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A file has a certificate for the name.
    File,
    /// LoadX got a certificate for the name itself.
    Automatic,
    /// LoadX gets a certificate for the name itself and has none yet.
    Missing,
    /// There is none for the name, so that the client gets the first certificate.
    First,
    /// There is none for the name, and the listener refuses other names.
    Refused,
}

/// Why a client gets no certificate.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum NoIdentity {
    /// There is no certificate for the name.
    UnknownName,
    /// The client supports no key of the certificates for the name.
    NoCommonKey,
}

impl Choice {
    /// The certificate for a client. `local`: the address to which the client connected.
    ///
    /// # Errors
    /// [`NoIdentity`].
    pub(super) fn of(&self, hello: &ClientHello<'_>, local: Option<IpAddr>) -> Result<Arc<Identity>, NoIdentity> {
        match self.first(hello.server_name(), local, &|identity| suits(identity, hello)) {
            (Some(identity), _) => Ok(identity),
            (None, _) => Err(match self.first(hello.server_name(), local, &|_| true) {
                (Some(_), _) => NoIdentity::NoCommonKey,
                (None, _) => NoIdentity::UnknownName,
            }),
        }
    }

    /// The first certificate that is usable, and the reason. Without a certificate, the reason tells why there is none.
    pub(super) fn first(
        &self,
        name: Option<&str>,
        local: Option<IpAddr>,
        usable: &dyn Fn(&Identity) -> bool,
    ) -> (Option<Arc<Identity>>, Reason) {
        let fits = |identity: &&Arc<Identity>| usable(identity);
        // A client that connects to an IP address asks for no name (RFC 6066, section 3).
        let host = match name {
            Some(name) => Some(name.to_ascii_lowercase()),
            None => local.map(|ip| ip.to_canonical().to_string()),
        };
        let own = self.own.load();
        if let Some(host) = &host {
            if let Some(found) = own.find(host).find(fits) {
                return (Some(Arc::clone(found)), Reason::File);
            }
            if self.is_auto(host) {
                let found = self.keyring.table().find(host).find(fits).cloned();
                if found.is_some() {
                    return (found, Reason::Automatic);
                }
                if name.is_some() {
                    return (None, Reason::Missing);
                }
            }
        }
        if name.is_some() && self.refuses_unknown {
            return (None, Reason::Refused);
        }
        let first = own.all().iter().find(fits).cloned();
        let automatic = || self.auto.iter().find_map(|name| self.keyring.table().find(name).find(fits).cloned());
        (first.or_else(automatic), Reason::First)
    }

    fn is_auto(&self, name: &str) -> bool {
        let is_below = |(_, parent)| self.auto_names.contains(format!("*.{parent}").as_str());
        self.auto_names.contains(name) || name.split_once('.').is_some_and(is_below)
    }
}

/// Whether the client can check signatures with the key of a certificate. In TLS 1.2 the cipher suites of the client restrict
/// the kinds of keys further (RFC 8422, section 2).
fn suits(identity: &Identity, hello: &ClientHello<'_>) -> bool {
    let key = &identity.certified().key;
    let known = &provider().cipher_suites;
    let offered = known.iter().filter(|suite| hello.cipher_suites().contains(&suite.suite()));
    let of_suite = |suite: &SupportedCipherSuite| match suite {
        SupportedCipherSuite::Tls13(_) => true,
        SupportedCipherSuite::Tls12(suite) => key.choose_scheme(suite.sign).is_some(),
    };
    key.choose_scheme(hello.signature_schemes()).is_some() && offered.into_iter().any(of_suite)
}
