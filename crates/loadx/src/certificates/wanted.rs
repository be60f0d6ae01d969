//! What a config wants of the keeper.

use std::collections::BTreeSet;
use std::path::PathBuf;

use loadx_certs::{Acme, AcmeSettings, CustomerKey, LocalAuthority, Proof};
use loadx_core::config::{AcmeChallenge, Config, is_local_name};

use crate::manager;

/// The ports on which authorities ask over HTTP and TLS (RFC 8555, section 8.3, and RFC 8737, section 3).
const HTTP_PORT: u16 = 80;
const TLS_PORT: u16 = 443;

/// What a config wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The names for the local authority.
    pub(super) local: BTreeSet<String>,
    /// The names for a public authority.
    pub(super) public: BTreeSet<String>,
    pub(super) acme: AcmeSettings,
    pub(super) folder: PathBuf,
    challenge: AcmeChallenge,
    ports: BTreeSet<(u16, bool)>,
}

impl Wanted {
    /// None if LoadX gets no certificate for this config.
    pub(super) fn of(config: &Config) -> Option<Self> {
        let tls = config.listeners.iter().filter_map(|listener| listener.tls.as_ref());
        let (local, public) =
            tls.flat_map(|tls| &tls.auto).map(ToString::to_string).partition(|name| is_local_name(name));
        let (local, public): (BTreeSet<String>, BTreeSet<String>) = (local, public);
        if local.is_empty() && public.is_empty() {
            return None;
        }
        let place = Place::of(Some(config))?;
        Some(Wanted {
            local,
            public,
            challenge: config.acme.challenge,
            ports: config.listeners.iter().map(|listener| (listener.at.port, listener.tls.is_some())).collect(),
            folder: place.folder,
            acme: place.acme,
        })
    }

    /// How to prove that a name is LoadX's own, after so many failures in a row: each kind of proof that the listeners allow
    /// in turns, because a firewall or another proxy may stop one of them.
    pub(super) fn proof(&self, name: &str, failures: u32) -> Proof {
        match self.challenge {
            _ if name.starts_with("*.") => Proof::Dns,
            AcmeChallenge::Http => Proof::Http,
            AcmeChallenge::Tls => Proof::Tls,
            AcmeChallenge::Dns => Proof::Dns,
            AcmeChallenge::Auto => {
                let (tls, http) = (self.ports.contains(&(TLS_PORT, true)), self.ports.contains(&(HTTP_PORT, false)));
                match (tls, http) {
                    (false, true) => Proof::Http,
                    (true, false) => Proof::Tls,
                    (true, true) | (false, false) if failures.is_multiple_of(2) => Proof::Tls,
                    (true, true) | (false, false) => Proof::Http,
                }
            }
        }
    }
}

/// Where LoadX keeps certificates, and the authority that LoadX asks.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) folder: PathBuf,
    pub(crate) acme: AcmeSettings,
}

impl Place {
    /// The folder of the store with the certificate for a name.
    pub(crate) fn kind_of(&self, name: &str) -> String {
        if is_local_name(name) { LocalAuthority::KIND.to_owned() } else { Acme::kind(&self.acme) }
    }

    /// The place of a config, or of LoadX without a config file. None without a state directory, if the config names no
    /// folder.
    pub(crate) fn of(config: Option<&Config>) -> Option<Self> {
        let folder = config.and_then(|config| config.certificate_folder.clone());
        let acme = config.map(|config| config.acme.clone()).unwrap_or_default();
        Some(Place {
            folder: folder.or_else(|| Some(manager::state_directory()?.join("certs")))?,
            acme: AcmeSettings {
                directory: acme.directory,
                email: acme.email,
                ca: acme.ca,
                profile: acme.profile,
                dns_hook: acme.dns_hook,
                customer_key: acme.customer_key.map(|(id, file)| CustomerKey { id, file }),
            },
        })
    }
}
