//! `loadx check`: checks a config file.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::config_file;
use crate::traps;
use crate::trouble::{Trouble, print};
use crate::words::{count, summary};

/// The options of `loadx check`.
#[derive(Debug, Args)]
pub(super) struct CheckArguments {
    /// The config file to check
    #[arg(default_value = "config.json")]
    file: PathBuf,
}

pub(super) fn check(arguments: &CheckArguments) -> Result<ExitCode, Trouble> {
    let config = config_file::load_or_advise(&arguments.file, "name the config file: loadx check FILE")?;
    let name = arguments.file.display();
    let warnings = traps::warnings(&config, Some(&arguments.file))?;
    for warning in &warnings {
        eprintln!("warning: {name}: {}", warning.text());
    }
    let warned = match warnings.len() {
        0 => String::new(),
        number => format!(", {}", count(number, "warning")),
    };
    print(&format!("ok: {name}, {}{warned}\n", summary(&config)))?;
    Ok(ExitCode::SUCCESS)
}
