//! The files of TLS: what tells a replaced file from its predecessor, and how LoadX reads files that are checked by peers.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::SystemTime;

use super::error::TlsError;

/// What tells a file that was replaced from its predecessor: the number of the file, its size, and its time. `None` for a file
/// that is not there.
pub(crate) type Stamp = Option<(u64, u64, SystemTime)>;

pub(super) fn stamp(path: &Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.len(), metadata.modified().ok()?))
}

/// Reads a file with certificates of authorities or with lists of revoked certificates.
///
/// # Errors
/// [`TlsError::Authorities`], also for what is no regular file: reading a pipe could take for ever.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let fault = |reason: String| TlsError::Authorities(Some(path.to_owned()), reason);
    match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => Err(fault("this is not a regular file".to_owned())),
        _ => std::fs::read(path).map_err(|error| fault(format!("cannot be read: {error}"))),
    }
}

/// Why a text in the PEM format cannot be read, for people.
pub(super) fn pem_fault(error: &rustls::pki_types::pem::Error) -> String {
    use rustls::pki_types::pem::Error;
    match error {
        Error::MissingSectionEnd { end_marker } => {
            format!("the text ends before the line -----END {}-----", String::from_utf8_lossy(end_marker))
        }
        Error::IllegalSectionStart { line } => {
            format!("this line begins no section: {}", String::from_utf8_lossy(line).trim())
        }
        error => error.to_string(),
    }
}
