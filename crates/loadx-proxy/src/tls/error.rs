//! Why TLS cannot be set up.

use std::fmt;
use std::path::PathBuf;

use super::identity::IdentityError;

/// Why TLS of a listener or of a cluster cannot be set up.
#[derive(Debug)]
pub enum TlsError {
    /// A certificate or its key cannot be used: the file of the certificate.
    Identity(PathBuf, IdentityError),
    /// Clients would not accept a new certificate: its file, and the reason.
    Validity(PathBuf, String),
    /// The certificates by which peers are checked cannot be used: the file, or `None` for those of the system, and the
    /// reason.
    Authorities(Option<PathBuf>, String),
    /// The library refuses the settings.
    Settings(rustls::Error),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::Identity(_, error @ IdentityError::File(..)) => error.fmt(f),
            TlsError::Identity(path, error) => write!(f, "{}: {error}", path.display()),
            TlsError::Validity(path, reason) | TlsError::Authorities(Some(path), reason) => {
                write!(f, "{}: {reason}", path.display())
            }
            TlsError::Authorities(None, reason) => f.write_str(reason),
            TlsError::Settings(error) => write!(f, "the settings of TLS cannot be used: {error}"),
        }
    }
}

impl std::error::Error for TlsError {}
