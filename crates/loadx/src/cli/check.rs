//! `loadx check`: checks a config file.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::config_file;
use super::trouble::{Trouble, print};
use super::words::count;

/// The options of `loadx check`.
#[derive(Debug, Args)]
pub(super) struct CheckArguments {
    /// The config file to check
    #[arg(default_value = "config.json")]
    file: PathBuf,
}

pub(super) fn check(arguments: &CheckArguments) -> Result<ExitCode, Trouble> {
    let config = config_file::load_or_advise(&arguments.file, "name the config file: loadx check FILE")?;
    let backends = count(config.backends.len(), "backend");
    print(&format!("ok: {}, {backends}, {}\n", arguments.file.display(), config.algorithm.as_str()))?;
    Ok(ExitCode::SUCCESS)
}
