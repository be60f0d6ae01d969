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
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, X509Name};

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
    /// What is wrong with the lists of revoked certificates at every time.
    gaps: Vec<String>,
    /// For each list: the end of its time, and what to tell then.
    ends: Vec<(SystemTime, String)>,
    /// A hash of what the files have.
    content: u64,
}

/// A list of revoked certificates.
#[derive(Clone, Debug)]
struct List {
    file: PathBuf,
    /// The name of the authority that made the list, in the DER format.
    issuer: Vec<u8>,
    /// The same name for people.
    issuer_name: String,
    made: SystemTime,
    /// When the authority promised the next list, if the authority promised one.
    until: Option<SystemTime>,
    content: CertificateRevocationListDer<'static>,
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
        let Checked { verifier, gaps, ends, content } = rule.as_deref().map(checked).transpose()?.unwrap_or_default();
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
        Ok(Group { rule: rule.clone(), rustls, verifier, gaps, ends, content })
    }

    pub(super) fn rule(&self) -> &ClientRule {
        &self.rule
    }

    /// What is wrong at `now` with the lists of revoked certificates: an authority without a list, or with a list whose time is
    /// over, lets no client in.
    pub(super) fn list_faults(&self, now: SystemTime) -> impl Iterator<Item = &str> {
        let over = self.ends.iter().filter(move |(until, _)| *until < now).map(|(_, text)| text.as_str());
        self.gaps.iter().map(String::as_str).chain(over)
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
    gaps: Vec<String>,
    ends: Vec<(SystemTime, String)>,
    content: u64,
}

fn checked(clients: &ClientCertificates) -> Result<Checked, TlsError> {
    let roots = roots::of_file(&clients.ca)?;
    let mut lists = Vec::new();
    for file in &clients.revoked {
        lists.extend(lists_of(file)?);
    }
    // The library looks only at the first list that covers a certificate, so that a newer list comes before an older one.
    lists.sort_by_key(|list| std::cmp::Reverse(list.made));
    let mut content = DefaultHasher::new();
    roots.roots.iter().for_each(|root| (&*root.subject, &*root.subject_public_key_info).hash(&mut content));
    lists.iter().for_each(|list| list.content.as_ref().hash(&mut content));
    let mut newest: Vec<&List> = Vec::new();
    for list in &lists {
        if !newest.iter().any(|known| known.issuer == list.issuer) {
            newest.push(list);
        }
    }
    let ends = newest.iter().filter_map(|list| {
        let (file, issuer) = (list.file.display(), &list.issuer_name);
        let text = format!("{file}: the time of the list of revoked certificates of {issuer} is over");
        Some((list.until?, format!("{text}, so that LoadX refuses all clients of this authority")))
    });
    let ends = ends.collect();
    let subjects = roots.subjects();
    let without = subjects
        .iter()
        .filter(|subject| !clients.revoked.is_empty() && !newest.iter().any(|list| list.issuer == subject.as_ref()));
    let gaps = without.map(|subject| {
        let (ca, name) = (clients.ca.display(), distinguished(subject.as_ref()));
        format!("{ca}: \"revoked\" has no list of {name}, so that LoadX refuses all clients of this authority")
    });
    let gaps = gaps.collect();
    let lists = lists.into_iter().map(|list| list.content).collect();
    Ok(Checked { verifier: Some(verifier(clients, roots, lists)?), gaps, ends, content: content.finish() })
}

/// The name of an authority for people.
fn distinguished(der: &[u8]) -> String {
    X509Name::from_der(der).map_or_else(|_| "an authority".to_owned(), |(_, name)| name.to_string())
}

/// The lists of revoked certificates in a file, in the PEM format or one in the DER format. A file without a list is a fault:
/// without any list, the library would take revoked certificates.
fn lists_of(file: &Path) -> Result<Vec<List>, TlsError> {
    const NONE: &str = "there is no list of revoked certificates (-----BEGIN X509 CRL-----)";
    let fault = |reason: String| TlsError::Authorities(Some(file.to_owned()), reason);
    let content = files::read(file)?;
    let lists = CertificateRevocationListDer::pem_slice_iter(&content);
    let mut lists: Vec<_> = lists.collect::<Result<_, _>>().map_err(|error| fault(files::pem_fault(&error)))?;
    if lists.is_empty() {
        // What has no list in the PEM format is one list in the DER format, or none.
        let is_list = CertificateRevocationList::from_der(&content).is_ok();
        lists.extend(is_list.then(|| CertificateRevocationListDer::from(content)));
    }
    let lists = lists.iter().map(|content| read_list(file, content).map_err(|reason| fault(reason.to_owned())));
    let lists: Vec<List> = lists.collect::<Result<_, _>>()?;
    if lists.is_empty() { Err(fault(NONE.to_owned())) } else { Ok(lists) }
}

fn read_list(file: &Path, content: &CertificateRevocationListDer<'static>) -> Result<List, &'static str> {
    const BROKEN: &str = "the list of revoked certificates is damaged";
    let (rest, parsed) = CertificateRevocationList::from_der(content.as_ref()).map_err(|_| BROKEN)?;
    if !rest.is_empty() {
        return Err("there are bytes behind the list of revoked certificates");
    }
    Ok(List {
        file: file.to_owned(),
        issuer: parsed.issuer().as_raw().to_vec(),
        issuer_name: parsed.issuer().to_string(),
        made: time(parsed.last_update().timestamp()),
        until: parsed.next_update().map(|until| time(until.timestamp())),
        content: content.clone(),
    })
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
