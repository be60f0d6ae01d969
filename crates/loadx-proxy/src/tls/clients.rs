//! What a listener asks of clients, and how LoadX checks the certificates that they show.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use loadx_core::config::{ClientCertificates, ClientRule, TlsConfig, TlsProfile};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateRevocationListDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{CommonState, ServerConfig};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

use super::error::TlsError;
use super::identity::{Identity, provider, time};
use super::{files, roots};

/// The clients of a listener that LoadX checks by the same rule. Each group has keys of its own for tickets, so that a client
/// that was let in by one rule cannot resume the session under another rule.
#[derive(Debug)]
pub(super) struct Group {
    rule: ClientRule,
    /// Without a certificate: [`settings_with`](Self::settings_with) adds that of the client.
    rustls: ServerConfig,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    lists: Vec<List>,
    /// A hash of what the files have.
    content: u64,
}

/// A list of revoked certificates.
#[derive(Clone, Debug)]
struct List {
    file: PathBuf,
    /// When the authority promised the next list, if it promised one.
    until: Option<SystemTime>,
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

    /// What is wrong at `now` with the lists of revoked certificates: a list whose time is over refuses all clients.
    pub(super) fn old_lists(&self, now: SystemTime) -> impl Iterator<Item = String> {
        let over = self.lists.iter().filter(move |list| list.until.is_some_and(|until| until < now));
        over.map(|list| {
            let file = list.file.display();
            format!("{file}: the time of the list of revoked certificates is over, so that LoadX refuses all clients")
        })
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

/// How LoadX checks the certificates of clients.
#[derive(Default)]
struct Checked {
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    lists: Vec<List>,
    /// A hash of what the files have.
    content: u64,
}

fn checked(clients: &ClientCertificates) -> Result<Checked, TlsError> {
    let fault = |path: &Path, reason: String| TlsError::Authorities(Some(path.to_owned()), reason);
    let roots = roots::of_file(&clients.ca)?;
    let mut content = DefaultHasher::new();
    roots.roots.iter().for_each(|root| (&*root.subject, &*root.subject_public_key_info).hash(&mut content));
    let (mut lists, mut known) = (Vec::new(), Vec::new());
    for file in &clients.revoked {
        for list in lists_of(file)? {
            list.as_ref().hash(&mut content);
            let until = until(&list).map_err(|reason| fault(file, reason))?;
            known.push(List { file: file.clone(), until });
            lists.push(list);
        }
    }
    let verifier = verifier(clients, roots, lists)?;
    Ok(Checked { verifier: Some(verifier), lists: known, content: content.finish() })
}

/// The lists of revoked certificates in a file, in the PEM format or one in the DER format. A file without a list is a fault:
/// without any list, the library would take revoked certificates.
fn lists_of(file: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    const SEQUENCE: u8 = 0x30;
    let fault = |reason: String| TlsError::Authorities(Some(file.to_owned()), reason);
    let content = files::read(file)?;
    if content.first() == Some(&SEQUENCE) {
        return Ok(vec![content.into()]);
    }
    let lists = CertificateRevocationListDer::pem_slice_iter(&content);
    let lists: Vec<_> = lists.collect::<Result<_, _>>().map_err(|error| fault(files::pem_fault(&error)))?;
    match lists.is_empty() {
        true => Err(fault("there is no list of revoked certificates (-----BEGIN X509 CRL-----)".to_owned())),
        false => Ok(lists),
    }
}

/// When the authority promised the next list.
fn until(list: &CertificateRevocationListDer<'_>) -> Result<Option<SystemTime>, String> {
    let (_, parsed) = CertificateRevocationList::from_der(list.as_ref())
        .map_err(|error| format!("the list of revoked certificates cannot be read: {error}"))?;
    Ok(parsed.next_update().map(|until| time(until.timestamp())))
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
            fault(named, format!("the list of revoked certificates cannot be read: {error:?}"))
        }
        error => fault(&clients.ca, error.to_string()),
    })
}
