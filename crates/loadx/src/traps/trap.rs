//! One trap in a config, and the messages about the trap.

/// One trap in a config.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Trap {
    message: String,
    help: String,
    /// Whether LoadX can never work with the config; otherwise the trap is a warning.
    fatal: bool,
}

impl Trap {
    pub(super) fn error(message: String, help: impl Into<String>) -> Self {
        Trap { message, help: help.into(), fatal: true }
    }

    pub(super) fn warning(message: String, help: impl Into<String>) -> Self {
        Trap { message, help: help.into(), fatal: false }
    }

    /// Whether LoadX can never work with the config.
    pub(super) fn is_fatal(&self) -> bool {
        self.fatal
    }

    /// The trap as a line of the log.
    pub(crate) fn line(&self) -> String {
        format!("{}; {}", self.message, self.help)
    }

    /// The trap as a message of a command, with the help on a separate line.
    pub(crate) fn text(&self) -> String {
        format!("{}\n  help: {}", self.message, self.help)
    }
}
