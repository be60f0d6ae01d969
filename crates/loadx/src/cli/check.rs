//! `loadx check`: is this config good?

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::config_file;
use super::trouble::{Trouble, print};

/// What can be typed after `loadx check`.
#[derive(Debug, Args)]
pub(super) struct CheckArguments {
    /// The config file
    #[arg(default_value = "config.json")]
    file: PathBuf,
}

pub(super) fn check(arguments: &CheckArguments) -> Result<ExitCode, Trouble> {
    let config = config_file::load_or_advise(&arguments.file, "name the config file: loadx check FILE")?;
    let backends = config.backends.len();
    let noun = if backends == 1 { "backend" } else { "backends" };
    print(&format!("ok: {}, {backends} {noun}, {}\n", arguments.file.display(), config.algorithm.as_str()))?;
    Ok(ExitCode::SUCCESS)
}
