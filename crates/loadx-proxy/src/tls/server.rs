//! TLS of a listener: which certificate a client gets, and what LoadX asks of the client.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use loadx_core::config::{CertificateFiles, ClientCertificates, TlsConfig, TlsProfile};
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, VerifierBuilderError, WebPkiClientVerifier,
};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CommonState, ServerConfig, SupportedCipherSuite};

use super::error::TlsError;
use super::identities::{IdentityTable, Keyring};
use super::identity::{Identity, provider};
use super::roots;

/// TLS of one listener.
#[derive(Debug)]
pub(crate) struct ServerTls {
    config: TlsConfig,
    rustls: Arc<ServerConfig>,
    choice: Arc<Choice>,
    /// Checks the certificates of clients.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// Why the files of certificates could not be read again, if they could not.
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

impl ServerTls {
    /// Reads the files that `config` names, and sets TLS up. `former`: TLS of the listener so far, whose tickets stay valid
    /// if the same clients are let in.
    ///
    /// # Errors
    /// Any [`TlsError`].
    pub(crate) fn new(
        config: &TlsConfig,
        keyring: &Arc<Keyring>,
        former: Option<&ServerTls>,
    ) -> Result<ServerTls, TlsError> {
        let own = read_all(&config.certificates, former.map(|former| former.choice.own.load_full()).as_deref())?;
        let choice = Arc::new(Choice {
            own: ArcSwap::from_pointee(own),
            keyring: Arc::clone(keyring),
            auto: config.auto.clone(),
            auto_names: config.auto.iter().cloned().collect(),
            refuses_unknown: config.refuses_unknown,
        });
        let versions: &[&rustls::SupportedProtocolVersion] = match config.profile {
            TlsProfile::Modern => &[&rustls::version::TLS13],
            TlsProfile::Intermediate => &[&rustls::version::TLS13, &rustls::version::TLS12],
        };
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .map_err(TlsError::Settings)?;
        let verifier = config.clients.as_ref().map(verifier).transpose()?;
        let builder = match &verifier {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
        };
        let mut rustls = builder.with_cert_resolver(Arc::clone(&choice) as Arc<dyn ResolvesServerCert>);
        rustls.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Tickets only: a store of sessions would be shared by all workers and need memory for each client.
        rustls.session_storage = Arc::new(NoServerSessionStorage {});
        rustls.ticketer = match former.filter(|former| former.config.clients == config.clients) {
            Some(former) => Arc::clone(&former.rustls.ticketer),
            None => Ticketer::new().map_err(TlsError::Settings)?,
        };
        Ok(ServerTls { config: config.clone(), rustls: Arc::new(rustls), choice, verifier, problem: Mutex::default() })
    }

    pub(crate) fn config(&self) -> &TlsConfig {
        &self.config
    }

    /// Whether a client that resumes a session may still come in: since the session began, the certificate may have expired,
    /// and a reload may have brought other authorities or a list of revoked certificates. The library does not ask again.
    pub(super) fn lets_in(&self, common: &CommonState) -> Result<(), rustls::Error> {
        let (Some(verifier), Some([leaf, issuers @ ..])) = (&self.verifier, common.peer_certificates()) else {
            return Ok(());
        };
        verifier.verify_client_cert(leaf, issuers, UnixTime::now()).map(drop)
    }

    /// Why the files of certificates could not be read again.
    pub(crate) fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes whether the files of certificates could be read again.
    pub(crate) fn note_problem(&self, problem: Option<String>) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    /// Reads the files of the certificates again. Returns the certificates that are new.
    ///
    /// # Errors
    /// The errors of [`new`](Self::new); the former certificates stay then.
    pub(crate) fn read_again(&self) -> Result<Vec<Arc<Identity>>, TlsError> {
        let former = self.choice.own.load_full();
        let own = read_all(&self.config.certificates, Some(&former))?;
        let known: HashSet<&[CertificateDer<'static>]> = former.all().iter().map(|identity| identity.chain()).collect();
        let is_known = |identity: &Arc<Identity>| known.contains(identity.chain());
        let new: Vec<Arc<Identity>> = own.all().iter().filter(|identity| !is_known(identity)).cloned().collect();
        self.choice.own.store(Arc::new(own));
        Ok(new)
    }

    /// Whether some certificates come from files.
    pub(crate) fn has_files(&self) -> bool {
        !self.config.certificates.is_empty()
    }

    /// The certificates of files, and of each name whose certificate LoadX gets the certificate, if there is one, and the
    /// last problem.
    pub(crate) fn identities(&self) -> (Vec<Arc<Identity>>, Vec<Automatic>) {
        let table = self.choice.keyring.table();
        let automatic = self.config.auto.iter().map(|name| Automatic {
            name: Arc::clone(name),
            identity: table.named(name).cloned(),
            problem: self.choice.keyring.problem(name),
        });
        (self.choice.own.load().all().to_vec(), automatic.collect())
    }

    /// The settings for this client and the certificate that the client gets. `local`: the address to which the client
    /// connected.
    ///
    /// # Errors
    /// [`NoIdentity`].
    pub(super) fn choose(
        &self,
        hello: &ClientHello<'_>,
        local: Option<IpAddr>,
    ) -> Result<(Arc<ServerConfig>, Arc<Identity>), NoIdentity> {
        let usable = |identity: &Identity| suits(identity, hello);
        let (Some(identity), _) = self.choice.choose(hello.server_name(), local, &usable) else {
            return Err(match self.choice.choose(hello.server_name(), local, &|_| true) {
                (Some(_), _) => NoIdentity::NoCommonKey,
                (None, _) => NoIdentity::UnknownName,
            });
        };
        if hello.server_name().is_some() {
            return Ok((Arc::clone(&self.rustls), identity));
        }
        // The library does not tell the resolver the address, by which a client without a name gets its certificate.
        let mut config = ServerConfig::clone(&self.rustls);
        config.cert_resolver = Arc::new(SingleCertAndKey::from(Arc::clone(identity.certified())));
        Ok((Arc::new(config), identity))
    }

    /// The certificate that a client with all kinds of keys gets that asks for this name, or connects to this address without
    /// a name; and why.
    pub(super) fn explain(&self, name: Option<&str>, local: Option<IpAddr>) -> (Option<Arc<Identity>>, Reason) {
        self.choice.choose(name, local, &|_| true)
    }

    /// The proof for an authority that asks over TLS for this name.
    ///
    /// # Errors
    /// [`NoIdentity::UnknownName`].
    pub(super) async fn prove(&self, name: Option<&str>) -> Result<(Arc<ServerConfig>, Arc<Identity>), NoIdentity> {
        let name = name.ok_or(NoIdentity::UnknownName)?;
        let identity = self.choice.keyring.tls_answer(name).await.ok_or(NoIdentity::UnknownName)?;
        let config = challenge_config(&identity).ok_or(NoIdentity::UnknownName)?;
        Ok((config, identity))
    }
}

/// Whether the client is an authority that asks for a proof.
pub(super) fn asks_for_proof(hello: &ClientHello<'_>) -> bool {
    hello.alpn().is_some_and(|mut protocols| protocols.any(|protocol| protocol == ACME_PROTOCOL))
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

/// The protocol by which an authority asks over TLS (RFC 8737, section 4).
const ACME_PROTOCOL: &[u8] = b"acme-tls/1";

/// The settings for an authority that asks over TLS. Made anew for each question: questions are rare.
fn challenge_config(identity: &Identity) -> Option<Arc<ServerConfig>> {
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().ok()?;
    let answer = SingleCertAndKey::from(Arc::clone(identity.certified()));
    let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(answer));
    config.alpn_protocols = vec![ACME_PROTOCOL.to_vec()];
    Some(Arc::new(config))
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

fn verifier(clients: &ClientCertificates) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let fault = |path: &Path, reason: String| TlsError::Authorities(Some(path.to_owned()), reason);
    let read = |path: &Path| std::fs::read(path).map_err(|error| fault(path, format!("cannot be read: {error}")));
    let roots = roots::of_file(&clients.ca)?;
    let mut lists = Vec::new();
    for path in &clients.revoked {
        for list in CertificateRevocationListDer::pem_slice_iter(&read(path)?) {
            lists.push(list.map_err(|error| fault(path, error.to_string()))?);
        }
    }
    // An expired list lacks the certificates that were revoked after the list was made.
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .with_crls(lists)
        .enforce_revocation_expiration();
    let builder = if clients.required { builder } else { builder.allow_unauthenticated() };
    let named = clients.revoked.first().unwrap_or(&clients.ca);
    builder.build().map_err(|error| match error {
        VerifierBuilderError::InvalidCrl(error) => {
            fault(named, format!("the list of revoked certificates cannot be read: {error:?}"))
        }
        error => fault(&clients.ca, error.to_string()),
    })
}

/// Chooses the certificate of a client.
#[derive(Debug)]
struct Choice {
    /// The certificates of files.
    own: ArcSwap<IdentityTable>,
    keyring: Arc<Keyring>,
    /// The names whose certificates LoadX obtains, in the order of the config, and for look-ups.
    auto: Vec<Arc<str>>,
    auto_names: HashSet<Arc<str>>,
    refuses_unknown: bool,
}

impl Choice {
    /// The first certificate that is usable, and the reason. Without a certificate, the reason tells why there is none.
    fn choose(
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

impl ResolvesServerCert for Choice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let (identity, _) = self.choose(hello.server_name(), None, &|identity| suits(identity, &hello));
        identity.map(|identity| Arc::clone(identity.certified()))
    }
}
