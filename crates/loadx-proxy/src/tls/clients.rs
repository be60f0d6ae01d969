//! What a listener asks of clients, and how LoadX checks the certificates that they show.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use loadx_core::config::{ClientCertificates, ClientRule, TlsConfig, TlsProfile};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::{CertificateRevocationListDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{CommonState, ServerConfig};

use super::error::TlsError;
use super::facts::ALPN_H2;
use super::identity::{Identity, provider};
use super::revoked::{ListFaults, Lists};
use super::roots;

/// The clients of a listener that LoadX checks by the same rule. Each group has keys of its own for tickets, so that a client
/// that was let in by one rule cannot resume the session under another rule.
#[derive(Debug)]
pub(super) struct Group {
    rule: ClientRule,
    /// Without a certificate: [`settings_with`](Self::settings_with) adds that of the client.
    rustls: ServerConfig,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    lists: ListFaults,
    /// A hash of what the files have.
    content: u64,
}

impl Group {
    /// Reads the files of the rule. `former`: the group of the same rule so far, whose tickets stay valid while the files have
    /// the same.
    ///
    /// # Errors
    /// [`TlsError::Authorities`] and [`TlsError::Settings`].
    pub(super) fn new(config: &TlsConfig, rule: &ClientRule, former: Option<&Group>) -> Result<Group, TlsError> {
        let versions: &[&rustls::SupportedProtocolVersion] = match config.profile {
            TlsProfile::Modern => &[&rustls::version::TLS13],
            TlsProfile::Intermediate => &[&rustls::version::TLS13, &rustls::version::TLS12],
        };
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .map_err(TlsError::Settings)?;
        let Checked { verifier, lists, content } = rule.as_deref().map(checked).transpose()?.unwrap_or_default();
        let builder = match &verifier {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
        };
        let mut rustls = builder.with_cert_resolver(Arc::new(NoCertificate));
        rustls.alpn_protocols = vec![b"http/1.1".to_vec()];
        if config.http2 {
            rustls.alpn_protocols.insert(0, ALPN_H2.to_vec());
        }
        // Tickets only: a store of sessions would be shared by all workers and need memory for each client.
        rustls.session_storage = Arc::new(NoServerSessionStorage {});
        let tickets = former.filter(|former| former.content == content).map(|former| &former.rustls.ticketer);
        rustls.ticketer = match tickets {
            Some(tickets) => Arc::clone(tickets),
            None => Ticketer::new().map_err(TlsError::Settings)?,
        };
        Ok(Group { rule: rule.clone(), rustls, verifier, lists, content })
    }

    pub(super) fn rule(&self) -> &ClientRule {
        &self.rule
    }

    /// What is wrong at `now` with the lists of revoked certificates.
    pub(super) fn list_faults(&self, now: SystemTime) -> impl Iterator<Item = &str> {
        self.lists.at(now)
    }

    /// The settings for a client that gets this certificate.
    pub(super) fn settings_with(&self, identity: &Identity) -> Arc<ServerConfig> {
        let mut settings = self.rustls.clone();
        settings.cert_resolver = Arc::new(SingleCertAndKey::from(Arc::clone(identity.certified())));
        Arc::new(settings)
    }

    /// Whether a client that resumes a session may still come in: since the session began, the certificate may have expired,
    /// and the files may have brought other authorities or a list of revoked certificates. The library does not ask again.
    pub(super) fn lets_in(&self, common: &CommonState) -> Result<(), rustls::Error> {
        match (&self.verifier, common.peer_certificates()) {
            (Some(verifier), Some([leaf, issuers @ ..])) => {
                verifier.verify_client_cert(leaf, issuers, UnixTime::now()).map(drop)
            }
            (Some(verifier), _) if verifier.client_auth_mandatory() => Err(rustls::Error::NoCertificatesPresented),
            _ => Ok(()),
        }
    }
}

/// The settings of a group never reach a connection without a certificate.
#[derive(Debug)]
struct NoCertificate;

impl rustls::server::ResolvesServerCert for NoCertificate {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }
}

/// The files that a rule names.
pub(super) fn files(rule: &ClientRule) -> impl Iterator<Item = &Path> {
    rule.iter().flat_map(|clients| std::iter::once(&clients.ca).chain(&clients.revoked)).map(AsRef::as_ref)
}

/// How LoadX checks the certificates of clients.
#[derive(Default)]
struct Checked {
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    lists: ListFaults,
    content: u64,
}

fn checked(clients: &ClientCertificates) -> Result<Checked, TlsError> {
    let roots = roots::of_file(&clients.ca)?;
    let lists = Lists::read(&clients.revoked)?;
    let mut content = DefaultHasher::new();
    roots.roots.iter().for_each(|root| (&*root.subject, &*root.subject_public_key_info).hash(&mut content));
    lists.hash(&mut content);
    let faults = lists.faults(&clients.ca, &roots.subjects());
    let verifier = verifier(clients, roots, lists.into_content())?;
    Ok(Checked { verifier: Some(verifier), lists: faults, content: content.finish() })
}

fn verifier(
    clients: &ClientCertificates,
    roots: RootCertStore,
    lists: Vec<CertificateRevocationListDer<'static>>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    // An expired list lacks the certificates that were revoked after the list was made.
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .with_crls(lists)
        .enforce_revocation_expiration();
    let builder = if clients.required { builder } else { builder.allow_unauthenticated() };
    let named = clients.revoked.first().unwrap_or(&clients.ca);
    let fault = |path: &Path, reason: String| TlsError::Authorities(Some(path.to_owned()), reason);
    builder.build().map_err(|error| match error {
        VerifierBuilderError::InvalidCrl(error) => {
            fault(named, format!("LoadX cannot use a list of revoked certificates: {error:?}"))
        }
        error => fault(&clients.ca, error.to_string()),
    })
}
