//! The errors that end a command, and their exit statuses.

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

use loadx_certs::CertsError;
use loadx_proxy::StartError;

/// Why a command cannot continue: wrong input (exit status 2) or a failure (exit status 1).
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The user can correct the input: a file, an argument, a port.
    Input(String),
    /// The system lacks a resource, or an operation failed.
    Failure(String),
}

impl Trouble {
    fn new(error: &StartError) -> Self {
        match error {
            StartError::System(_) => Trouble::Failure(error.to_string()),
            error => Trouble::Input(error.to_string()),
        }
    }

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

impl From<CertsError> for Trouble {
    fn from(error: CertsError) -> Self {
        Trouble::Input(error.to_string())
    }
}

impl From<StartError> for Trouble {
    fn from(error: StartError) -> Self {
        Trouble::new(&error)
    }
}

/// The option with the address to listen on; the help names this option, and not a key of a config file.
#[derive(Copy, Clone, Debug)]
pub(crate) enum ListenOption {
    /// `--listen` of `loadx run`.
    Listen,
    /// `--port` of `loadx demo`.
    Port,
}

impl ListenOption {
    /// Why LoadX could not start, with help for this option.
    pub(crate) fn explain(self, error: &StartError) -> Trouble {
        let help = match error {
            StartError::Listen { address, error, .. } => self.help(address.port(), error.kind()),
            StartError::ListenName { at, .. } => self.help(at.port, io::ErrorKind::AddrNotAvailable),
            _ => return Trouble::new(error),
        };
        let told = error.to_string();
        let what = told.split("\n  help: ").next().unwrap_or_default();
        Trouble::Input(format!("{what}\n  help: {help}"))
    }

    fn help(self, port: u16, kind: io::ErrorKind) -> String {
        let option = match self {
            ListenOption::Listen => "--listen",
            ListenOption::Port => "--port",
        };
        match kind {
            io::ErrorKind::AddrInUse => format!(
                "stop that process (`lsof -i :{port}` names it), or choose another port: {}",
                self.example(other_port(port))
            ),
            io::ErrorKind::PermissionDenied => format!(
                "ports below 1024 need privileges (CAP_NET_BIND_SERVICE); grant them, or choose a higher port: {}",
                self.example(8080)
            ),
            _ => format!(
                "the host of {option} must be an address of this machine; to listen on all addresses: {}",
                self.example(port)
            ),
        }
    }

    fn example(self, port: u16) -> String {
        match self {
            ListenOption::Listen => format!("--listen :{port}"),
            ListenOption::Port => format!("--port {port}"),
        }
    }
}

/// A port to propose instead of a port that is in use.
pub(crate) fn other_port(taken: u16) -> u16 {
    taken.checked_add(100).unwrap_or_else(|| taken - 100)
}

/// Prints to standard output. A reader that has closed the pipe (`loadx schema | head`) is no failure.
pub(crate) fn print(text: &str) -> Result<(), Trouble> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Trouble::Failure(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}
