//! Lists of revoked certificates (CRL, RFC 5280, section 5).

use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustls::DistinguishedName;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, X509Name};

use super::error::TlsError;
use super::files;
use super::identity::time;

/// The lists of one rule, the newest first: the library looks only at the first list that covers a certificate.
pub(super) struct Lists(Vec<List>);

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

/// What is wrong with lists, or will be.
#[derive(Debug, Default)]
pub(super) struct ListFaults {
    /// Authorities without a list.
    gaps: Vec<String>,
    /// For the newest list of each authority: the end of its time, and what to tell then.
    ends: Vec<(SystemTime, String)>,
}

impl ListFaults {
    /// What is wrong at `now`.
    pub(super) fn at(&self, now: SystemTime) -> impl Iterator<Item = &str> {
        let over = self.ends.iter().filter(move |(until, _)| *until < now).map(|(_, text)| text.as_str());
        self.gaps.iter().map(String::as_str).chain(over)
    }
}

impl Lists {
    /// Reads files with lists.
    ///
    /// # Errors
    /// [`TlsError::Authorities`], also for a file without a list.
    pub(super) fn read(paths: &[PathBuf]) -> Result<Self, TlsError> {
        let mut lists = Vec::new();
        for path in paths {
            lists.extend(of_file(path)?);
        }
        lists.sort_by_key(|list| std::cmp::Reverse(list.made));
        Ok(Lists(lists))
    }

    /// What is wrong: an authority without a list, or with a list whose time is over, lets no client in. `subjects`: the
    /// authorities of the file `ca`. Without any list, LoadX does not check for revocation.
    pub(super) fn faults(&self, ca: &Path, subjects: &[DistinguishedName]) -> ListFaults {
        if self.0.is_empty() {
            return ListFaults::default();
        }
        const SO: &str = "so that LoadX refuses all clients of this authority";
        let mut newest: Vec<&List> = Vec::new();
        for list in &self.0 {
            if !newest.iter().any(|known| known.issuer == list.issuer) {
                newest.push(list);
            }
        }
        let ends = newest.iter().filter_map(|list| {
            let (file, issuer) = (list.file.display(), &list.issuer_name);
            let text = format!("{file}: the time of the list of revoked certificates of {issuer} is over, {SO}");
            Some((list.until?, text))
        });
        let has_list = |subject: &DistinguishedName| newest.iter().any(|list| list.issuer == subject.as_ref());
        let gaps = subjects.iter().filter(|subject| !has_list(subject)).map(|subject| {
            let name = X509Name::from_der(subject.as_ref());
            let name = name.map_or_else(|_| "an authority".to_owned(), |(_, name)| name.to_string());
            format!("{}: \"revoked\" has no list of {name}, {SO}", ca.display())
        });
        ListFaults { gaps: gaps.collect(), ends: ends.collect() }
    }

    /// The lists, for the library.
    pub(super) fn into_content(self) -> Vec<CertificateRevocationListDer<'static>> {
        self.0.into_iter().map(|list| list.content).collect()
    }
}

impl Hash for Lists {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.iter().for_each(|list| list.content.as_ref().hash(state));
    }
}

/// The lists of a file in the PEM format, or the one list of a file in the DER format. A file without a list is a fault: without
/// any list, the library would take revoked certificates.
fn of_file(path: &Path) -> Result<Vec<List>, TlsError> {
    const NONE: &str =
        "there is no list of revoked certificates in the PEM format (-----BEGIN X509 CRL-----) or the DER format";
    let fault = |reason: String| TlsError::Authorities(Some(path.to_owned()), reason);
    let content = files::read(path)?;
    let lists = CertificateRevocationListDer::pem_slice_iter(&content).collect::<Result<Vec<_>, _>>();
    let lists = lists.map_err(|error| fault(files::pem_fault(&error)))?;
    if lists.is_empty() {
        return Ok(vec![list(path, content.into()).ok_or_else(|| fault(NONE.to_owned()))?]);
    }
    let damaged = || fault("a list of revoked certificates is damaged".to_owned());
    lists.into_iter().map(|content| list(path, content).ok_or_else(damaged)).collect()
}

/// A list in the DER format; `None` if this is no list, or more than a list.
fn list(path: &Path, content: CertificateRevocationListDer<'static>) -> Option<List> {
    let (rest, parsed) = CertificateRevocationList::from_der(content.as_ref()).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let (issuer, issuer_name) = (parsed.issuer().as_raw().to_vec(), parsed.issuer().to_string());
    let made = time(parsed.last_update().timestamp());
    let until = parsed.next_update().map(|until| time(until.timestamp()));
    Some(List { file: path.to_owned(), issuer, issuer_name, made, until, content })
}
