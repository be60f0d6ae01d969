//! What a listener asks of clients, and how LoadX checks the certificates that they show.

use std::path::Path;
use std::sync::Arc;

use loadx_core::config::{ClientCertificates, ClientRule, TlsConfig, TlsProfile};
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateRevocationListDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets, VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{CommonState, ServerConfig};

use super::error::TlsError;
use super::identity::{Identity, provider};
use super::roots;

/// The clients of a listener that LoadX checks by the same rule. Each group has keys of its own for tickets, so that a client
/// that was let in by one rule cannot resume the session under another rule.
#[derive(Debug)]
pub(super) struct Group {
    rule: ClientRule,
    /// Without a certificate: [`settings_with`](Self::settings_with) adds that of the client.
    rustls: ServerConfig,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

impl Group {
    /// Reads the files of the rule. `tickets`: the keys for tickets of the same rule so far.
    ///
    /// # Errors
    /// [`TlsError::Authorities`] and [`TlsError::Settings`].
    pub(super) fn new(
        config: &TlsConfig,
        rule: &ClientRule,
        tickets: Option<Arc<dyn ProducesTickets>>,
    ) -> Result<Group, TlsError> {
        let versions: &[&rustls::SupportedProtocolVersion] = match config.profile {
            TlsProfile::Modern => &[&rustls::version::TLS13],
            TlsProfile::Intermediate => &[&rustls::version::TLS13, &rustls::version::TLS12],
        };
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .map_err(TlsError::Settings)?;
        let verifier = rule.as_deref().map(verifier).transpose()?;
        let builder = match &verifier {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
        };
        let mut rustls = builder.with_cert_resolver(Arc::new(NoCertificate));
        rustls.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Tickets only: a store of sessions would be shared by all workers and need memory for each client.
        rustls.session_storage = Arc::new(NoServerSessionStorage {});
        rustls.ticketer = match tickets {
            Some(tickets) => tickets,
            None => Ticketer::new().map_err(TlsError::Settings)?,
        };
        Ok(Group { rule: rule.clone(), rustls, verifier })
    }

    pub(super) fn rule(&self) -> &ClientRule {
        &self.rule
    }

    pub(super) fn tickets(&self) -> &Arc<dyn ProducesTickets> {
        &self.rustls.ticketer
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
        let (Some(verifier), Some([leaf, issuers @ ..])) = (&self.verifier, common.peer_certificates()) else {
            return Ok(());
        };
        verifier.verify_client_cert(leaf, issuers, UnixTime::now()).map(drop)
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
