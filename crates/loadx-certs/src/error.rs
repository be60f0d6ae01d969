//! Why a certificate cannot be obtained or kept.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a certificate cannot be obtained or kept.
#[derive(Debug)]
pub enum CertsError {
    /// A file or folder cannot be read or written.
    File(PathBuf, io::Error),
    /// A file has something else than expected; with the reason.
    Content(PathBuf, String),
    /// A certificate cannot be made; with the reason.
    Making(String),
    /// The authority did not give a certificate; with the reason.
    Authority(String),
    /// The authority refused the number of a request (badNonce) several times; with the reason. Another try may pass.
    Nonce(String),
    /// The program that sets records in DNS failed; with the reason.
    Hook(PathBuf, String),
}

impl CertsError {
    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> CertsError + use<'_> {
        |error| CertsError::File(path.to_owned(), error)
    }
}

impl fmt::Display for CertsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CertsError::File(path, error) => {
                write!(f, "{}: {error}\n  help: LoadX must be able to read and write this folder", path.display())
            }
            CertsError::Content(path, reason) => {
                write!(f, "{}: {reason}\n  help: remove the file, and LoadX makes a new one", path.display())
            }
            CertsError::Authority(reason) | CertsError::Nonce(reason) => f.write_str(reason),
            CertsError::Hook(program, reason) => write!(f, "{}: {reason}", program.display()),
            CertsError::Making(reason) => write!(f, "the certificate cannot be made: {reason}"),
        }
    }
}

impl std::error::Error for CertsError {}
