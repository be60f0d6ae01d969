//! The certificates of authorities.

use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::error::TlsError;
use super::files;
use super::identity::IdentityError;

/// The certificates of authorities in a file.
pub(super) fn of_file(path: &Path) -> Result<RootCertStore, TlsError> {
    let fault = |reason: String| TlsError::Authorities(Some(path.to_owned()), reason);
    let pem = files::read(path)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        roots
            .add(certificate.map_err(|error| fault(files::pem_fault(&error)))?)
            .map_err(|error| fault(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(fault(IdentityError::NoCertificate.to_string()));
    }
    Ok(roots)
}

/// The certificates of the authorities that the system trusts.
pub(super) fn of_system() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let first = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(TlsError::Authorities(None, format!("the system has no certificates of authorities{first}")));
    }
    Ok(roots)
}
