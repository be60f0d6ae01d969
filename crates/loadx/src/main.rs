//! The `loadx` command.

mod admin;
mod backend;
mod certificates;
mod cli;
mod config_file;
mod logging;
mod manager;
mod memory;
mod memory_use;
mod open_files;
mod signals;
mod spans;
mod systemd;
mod traps;
mod trouble;
mod upgrade;
mod words;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    match arguments.run() {
        Ok(code) => code,
        Err(trouble) => {
            eprintln!("error: {trouble}");
            trouble.exit_code()
        }
    }
}
