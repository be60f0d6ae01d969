//! TLS of a listener.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use loadx_core::config::{CertificateFiles, TlsConfig};
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::ClientHello;
use rustls::sign::SingleCertAndKey;

use super::choice::{Choice, NoIdentity, Reason};
use super::clients::{self, Group};
use super::error::TlsError;
use super::identities::{IdentityTable, Keyring};
use super::identity::{Identity, provider};

/// TLS of one listener.
#[derive(Debug)]
pub(crate) struct ServerTls {
    config: TlsConfig,
    choice: Choice,
    /// One for each different rule for the certificates of clients.
    groups: ArcSwap<Vec<Arc<Group>>>,
    /// Why the files could not be read again, if they could not.
    problem: Mutex<Option<String>>,
}

/// A name whose certificate LoadX gets.
#[derive(Debug)]
pub(crate) struct Automatic {
    pub(crate) name: Arc<str>,
    pub(crate) identity: Option<Arc<Identity>>,
    /// Why there is no certificate, or no new one.
    pub(crate) problem: Option<String>,
}

/// What a client gets.
pub(super) struct Chosen {
    pub(super) settings: Arc<ServerConfig>,
    pub(super) identity: Arc<Identity>,
    /// The group of the client; none for an authority that asks for a proof.
    pub(super) group: Option<Arc<Group>>,
}

impl ServerTls {
    /// Reads the files that `config` names, and sets TLS up. `former`: TLS of the listener so far, whose tickets stay valid
    /// where the same rule lets clients in.
    ///
    /// # Errors
    /// Any [`TlsError`].
    pub(crate) fn new(
        config: &TlsConfig,
        keyring: &Arc<Keyring>,
        former: Option<&ServerTls>,
    ) -> Result<ServerTls, TlsError> {
        let own = read_all(&config.certificates, former.map(|former| former.choice.own.load_full()).as_deref())?;
        let choice = Choice {
            own: ArcSwap::from_pointee(own),
            keyring: Arc::clone(keyring),
            auto: config.auto.clone(),
            auto_names: config.auto.iter().cloned().collect(),
            refuses_unknown: config.refuses_unknown,
        };
        let groups = groups(config, &former.map(|former| former.groups.load_full()).unwrap_or_default())?;
        Ok(ServerTls {
            config: config.clone(),
            choice,
            groups: ArcSwap::from_pointee(groups),
            problem: Mutex::default(),
        })
    }

    /// Why the files could not be read again.
    pub(crate) fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes whether the files could be read again.
    pub(crate) fn note_problem(&self, problem: Option<String>) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    /// Reads the files again. Returns the certificates that are new.
    ///
    /// # Errors
    /// The errors of [`new`](Self::new); what was read before stays in use then.
    pub(crate) fn read_again(&self) -> Result<Vec<Arc<Identity>>, TlsError> {
        let former = self.choice.own.load_full();
        let own = read_all(&self.config.certificates, Some(&former))?;
        let groups = groups(&self.config, &self.groups.load())?;
        let known: HashSet<&[CertificateDer<'static>]> = former.all().iter().map(|identity| identity.chain()).collect();
        let is_known = |identity: &Arc<Identity>| known.contains(identity.chain());
        let new: Vec<Arc<Identity>> = own.all().iter().filter(|identity| !is_known(identity)).cloned().collect();
        self.choice.own.store(Arc::new(own));
        self.groups.store(Arc::new(groups));
        Ok(new)
    }

    /// The files of certificates and keys, and those by which LoadX checks the certificates of clients.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        let own = self.config.certificates.iter().flat_map(|files| [&*files.certificate, &*files.key]);
        own.chain(self.config.clients.distinct().into_iter().flat_map(clients::files))
    }

    /// The certificates of files, and of each name whose certificate LoadX gets the certificate, if there is one, and the
    /// last problem.
    pub(crate) fn identities(&self) -> (Vec<Arc<Identity>>, Vec<Automatic>) {
        let keyring = &self.choice.keyring;
        let table = keyring.table();
        let automatic = self.config.auto.iter().map(|name| Automatic {
            name: Arc::clone(name),
            identity: table.named(name).cloned(),
            problem: keyring.problem(name),
        });
        (self.choice.own.load().all().to_vec(), automatic.collect())
    }

    /// What this client gets. `local`: the address to which the client connected.
    ///
    /// # Errors
    /// [`NoIdentity`].
    pub(super) fn choose(&self, hello: &ClientHello<'_>, local: Option<IpAddr>) -> Result<Chosen, NoIdentity> {
        let identity = self.choice.of(hello, local)?;
        let rules = &self.config.clients;
        let rule = match hello.server_name() {
            Some(name) => rules.of(&name.to_ascii_lowercase()),
            None => &rules.others,
        };
        let groups = self.groups.load();
        let group = groups.iter().find(|group| group.rule() == rule).ok_or(NoIdentity::UnknownName)?;
        let settings = group.settings_with(&identity);
        Ok(Chosen { settings, identity, group: Some(Arc::clone(group)) })
    }

    /// The certificate that a client with all kinds of keys gets that asks for this name, or connects to this address without
    /// a name; and why.
    pub(super) fn explain(&self, name: Option<&str>, local: Option<IpAddr>) -> (Option<Arc<Identity>>, Reason) {
        self.choice.first(name, local, &|_| true)
    }

    /// The proof for an authority that asks over TLS for this name.
    ///
    /// # Errors
    /// [`NoIdentity::UnknownName`].
    pub(super) async fn prove(&self, name: Option<&str>) -> Result<Chosen, NoIdentity> {
        let name = name.ok_or(NoIdentity::UnknownName)?;
        let identity = self.choice.keyring.tls_answer(name).await.ok_or(NoIdentity::UnknownName)?;
        let settings = challenge_settings(&identity).ok_or(NoIdentity::UnknownName)?;
        Ok(Chosen { settings, identity, group: None })
    }
}

/// A group for each different rule. `former`: the groups so far, whose tickets stay valid.
fn groups(config: &TlsConfig, former: &[Arc<Group>]) -> Result<Vec<Arc<Group>>, TlsError> {
    let group = |rule| {
        let former = former.iter().find(|group| group.rule() == rule);
        Group::new(config, rule, former.map(|group| Arc::clone(group.tickets()))).map(Arc::new)
    };
    config.clients.distinct().into_iter().map(group).collect()
}

/// Whether the client is an authority that asks for a proof.
pub(super) fn asks_for_proof(hello: &ClientHello<'_>) -> bool {
    hello.alpn().is_some_and(|mut protocols| protocols.any(|protocol| protocol == ACME_PROTOCOL))
}

/// The protocol by which an authority asks over TLS (RFC 8737, section 4).
const ACME_PROTOCOL: &[u8] = b"acme-tls/1";

/// The settings for an authority that asks over TLS. Made anew for each question: questions are rare.
fn challenge_settings(identity: &Identity) -> Option<Arc<ServerConfig>> {
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().ok()?;
    let answer = SingleCertAndKey::from(Arc::clone(identity.certified()));
    let mut settings = builder.with_no_client_auth().with_cert_resolver(Arc::new(answer));
    settings.alpn_protocols = vec![ACME_PROTOCOL.to_vec()];
    Some(Arc::new(settings))
}

/// Reads certificates. A certificate that clients would not accept is an error only if LoadX does not serve it already: a
/// listener with an expired certificate must not keep LoadX from starting or from applying other changes.
fn read_all(files: &[CertificateFiles], former: Option<&IdentityTable>) -> Result<IdentityTable, TlsError> {
    let now = SystemTime::now();
    let read = |files: &CertificateFiles| {
        let identity = Identity::read(&files.certificate, &files.key)
            .map_err(|error| TlsError::Identity(files.certificate.clone(), error))?;
        let is_new = |former: &IdentityTable| !former.all().iter().any(|known| known.chain() == identity.chain());
        if let Some(reason) = identity.fault_at(now).filter(|_| former.is_some_and(is_new)) {
            return Err(TlsError::Validity(files.certificate.clone(), reason));
        }
        Ok(Arc::new(identity))
    };
    files.iter().map(read).collect::<Result<_, _>>().map(IdentityTable::new)
}
