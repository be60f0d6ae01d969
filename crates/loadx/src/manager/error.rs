//! Why a change was not made.

use std::fmt;

use loadx_certs::CertsError;
use loadx_core::config::ChangeError;
use loadx_proxy::ApplyError;

/// Why a change was not made. Nothing has changed then.
#[derive(Debug)]
pub(crate) enum ManagerError {
    /// The config is faulty, with its faults in words.
    Faulty(String),
    /// The proxy refuses the config.
    Refused(ApplyError),
    /// A certificate that the config needs cannot be had.
    Certificates(CertsError),
    /// The change of a backend is not possible.
    Change(ChangeError),
    /// The state does not allow the change; with the reason and what to do.
    Conflict(String),
    /// Others changed the config since the operator looked.
    Outdated {
        /// The plan that the operator knows.
        known: u64,
        /// The present plan.
        generation: u64,
        /// What changed since, the newest last.
        since: Vec<String>,
    },
}

impl From<ApplyError> for ManagerError {
    fn from(error: ApplyError) -> Self {
        ManagerError::Refused(error)
    }
}

impl From<CertsError> for ManagerError {
    fn from(error: CertsError) -> Self {
        ManagerError::Certificates(error)
    }
}

impl From<ChangeError> for ManagerError {
    fn from(error: ChangeError) -> Self {
        ManagerError::Change(error)
    }
}

impl fmt::Display for ManagerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ManagerError::Faulty(text) | ManagerError::Conflict(text) => f.write_str(text),
            ManagerError::Refused(error) => error.fmt(f),
            ManagerError::Certificates(error) => error.fmt(f),
            ManagerError::Change(error) => error.fmt(f),
            ManagerError::Outdated { known, generation, since } => {
                write!(f, "the config changed meanwhile: plan {generation} runs, not plan {known}")?;
                for change in since {
                    write!(f, "\n  {change}")?;
                }
                write!(f, "\n  help: look at what changed, and send the change again with generation {generation}")
            }
        }
    }
}

impl std::error::Error for ManagerError {}
