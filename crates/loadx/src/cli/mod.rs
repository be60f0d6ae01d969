//! What can be typed after `loadx`.

mod address;
mod backend;
mod bench;
mod check;
mod config_file;
mod demo;
mod health;
mod open_files;
mod run;
mod sim;
mod trouble;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use trouble::Trouble;

/// A load balancer: one binary in front of your servers.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Balance requests over backends
    Run(run::RunArguments),
    /// Say whether a config file is good, or all that is wrong with it
    Check(check::CheckArguments),
    /// Print the JSON Schema of the config file
    Schema,
    /// Start three test backends with LoadX in front of them, and some traffic
    Demo(demo::DemoArguments),
    /// Run a test backend
    Backend(backend::BackendArguments),
    /// Send many requests and report what came of them
    Bench(bench::BenchArguments),
    /// Ask a LoadX or a backend whether it is well
    Health(health::HealthArguments),
    /// Simulate the config's cluster under load, in virtual time
    Sim(sim::SimArguments),
}

impl Arguments {
    /// Does what was asked for.
    pub(crate) fn run(self) -> Result<ExitCode, Trouble> {
        match self.command {
            Command::Run(arguments) => run::run(&arguments),
            Command::Check(arguments) => check::check(&arguments),
            Command::Schema => {
                trouble::print(&format!("{:#}\n", loadx_core::config::schema()))?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Demo(arguments) => demo::demo(&arguments),
            Command::Backend(arguments) => backend::backend(arguments),
            Command::Bench(arguments) => bench::bench(arguments),
            Command::Health(arguments) => health::health(arguments),
            Command::Sim(arguments) => sim::sim(&arguments),
        }
    }
}
