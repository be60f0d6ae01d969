//! Measurements of LoadX: `cargo xtask COMMAND`.

mod counts;
mod faults;
mod lines;
mod machine;
mod peers;
mod processes;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Measurements of LoadX")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure LoadX beside nginx, HAProxy and bare relays, in turn, in one run
    Peers(peers::PeersArguments),
    /// Break backends in a dozen ways behind LoadX, nginx, HAProxy and Envoy, and tell what clients notice
    Faults(faults::FaultsArguments),
    /// Send three times what the backends can serve through LoadX, nginx, HAProxy and Envoy, and tell what clients get
    Overload(faults::OverloadArguments),
    /// Count the instructions of the hot path, and report changes
    Counts(counts::CountsArguments),
    /// Measure what a cache line costs that two cores write, and compute the cost for many workers
    Lines,
    /// Run one operation, for `counts`
    #[command(hide = true)]
    CountCase(counts::CaseArguments),
    /// Run a backend that can be broken, for `faults`
    #[command(hide = true)]
    FaultBackend(faults::BackendArguments),
    /// Run a bare relay, for `peers`
    #[command(hide = true)]
    Floor(peers::FloorArguments),
}

/// What stops a measurement.
type Trouble = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Peers(arguments) => peers::run(&arguments),
        Command::Counts(arguments) => counts::run(&arguments),
        Command::Lines => lines::run(),
        Command::CountCase(arguments) => counts::run_case(&arguments),
        Command::Faults(arguments) => faults::run(&arguments),
        Command::Overload(arguments) => faults::overload(&arguments),
        Command::FaultBackend(arguments) => faults::backend(&arguments).map_err(Into::into),
        Command::Floor(arguments) => peers::floor(&arguments).map_err(Into::into),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            eprintln!("error: {trouble}");
            ExitCode::from(2)
        }
    }
}
