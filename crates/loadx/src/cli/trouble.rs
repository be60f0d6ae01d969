//! What ends a command early, and with which exit status.

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// Why a command cannot go on. What the user gave was wrong (exit status 2), or something failed (1).
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The user can mend it: a file, an argument, a port.
    Input(String),
    /// The system failed.
    Failure(String),
}

impl Trouble {
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Trouble::Input(_) => ExitCode::from(2),
            Trouble::Failure(_) => ExitCode::FAILURE,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Input(message) | Trouble::Failure(message) => f.write_str(message),
        }
    }
}

impl From<loadx_proxy::StartError> for Trouble {
    fn from(error: loadx_proxy::StartError) -> Self {
        match error {
            loadx_proxy::StartError::System(_) => Trouble::Failure(error.to_string()),
            error => Trouble::Input(error.to_string()),
        }
    }
}

/// Prints to standard output. That its reader has gone (`loadx schema | head`) is no failure.
pub(crate) fn print(text: &str) -> Result<(), Trouble> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Trouble::Failure(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}
