//! The commands of `loadx`.

mod address;
mod backend;
mod bench;
mod ca;
mod certs;
mod check;
mod ctl;
mod demo;
mod explain_tls;
mod health;
mod manual;
mod plan;
mod route;
mod run;
mod sim;
mod top;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::trouble::{self, Trouble};

const EXAMPLES: &str = "\
Examples:
  loadx demo                                           see LoadX at work
  loadx run --to localhost:8001 --to localhost:8002    balance port 8080 over two backends
  loadx run --https localhost --to localhost:3000      the same with HTTPS, in front of one server
  loadx check config.json                              check a config file
  loadx plan new.json                                  see what another config would change
  loadx run --config config.json                       balance as the config file says
  loadx ctl drain 10.0.0.7:80                          give a backend of a running LoadX no new requests

Exit status: 0 success, 1 failure, 2 a wrong option, config file or address.
`loadx COMMAND --help` lists the options of a command.";

/// A load balancer: one binary in front of your servers.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Balance HTTP requests over backends until SIGTERM or Ctrl-C
    Run(run::RunArguments),
    /// Check a config file: print "ok" and exit 0, or print every fault and exit 2
    Check(check::CheckArguments),
    /// Show what another config would change: listeners, routes, clusters, backends and settings, with the effects
    ///
    /// The exit status is that of diff: 0 without differences, 1 with differences, 2 for a faulty file.
    Plan(plan::PlanArguments),
    /// Look at a running LoadX and change it: drain a backend, apply a config on trial, follow the events
    Ctl(ctl::CtlArguments),
    /// Show a running LoadX live in the terminal: figures, every backend, events; drain with a key
    Top(top::TopArguments),
    /// Show where the config sends a request, what the backend would get, and why other routes do not match
    Route(route::RouteArguments),
    /// Show, export or install the certificate of the local authority, which signs for localhost and *.internal
    Ca(ca::CaArguments),
    /// List, renew, import and export the certificates that LoadX gets itself
    Certs(certs::CertsArguments),
    /// Show which certificate a client would get, why, and until when; or what the backends show
    ExplainTls(explain_tls::ExplainTlsArguments),
    /// Print the JSON Schema of the config file
    Schema,
    /// Show LoadX at work: three test backends, steady traffic and a failure, in one terminal
    Demo(demo::DemoArguments),
    /// Run a test backend: a small HTTP server that answers, delays and fails on request
    Backend(backend::BackendArguments),
    /// Send requests to a server and report the results
    ///
    /// The exit status is 0 when every request succeeded, 1 when a request failed (no complete response, or a status
    /// of 500 and above), and 2 when an argument is wrong. Ctrl-C ends the run, prints the results so far, and gives
    /// the exit status 130.
    Bench(Box<bench::BenchArguments>),
    /// Check the health of a LoadX or a backend and exit 0 or 1
    Health(health::HealthArguments),
    /// Print the completions of commands and options for a shell
    Completions(manual::CompletionsArguments),
    /// Print the manual page of LoadX or of one of its commands, or write all of them
    Man(manual::ManArguments),
    /// Simulate the backends of a config file under load, in virtual time
    Sim(sim::SimArguments),
}

impl Arguments {
    /// Runs the command.
    pub(crate) fn run(self) -> Result<ExitCode, Trouble> {
        match self.command {
            Command::Run(arguments) => run::run(&arguments),
            Command::Check(arguments) => check::check(&arguments),
            Command::Plan(arguments) => plan::plan(&arguments),
            Command::Ctl(arguments) => ctl::ctl(&arguments),
            Command::Top(arguments) => top::top(&arguments),
            Command::Route(arguments) => route::route(&arguments),
            Command::Ca(arguments) => ca::ca(&arguments),
            Command::Certs(arguments) => certs::certs(&arguments),
            Command::ExplainTls(arguments) => explain_tls::explain_tls(&arguments),
            Command::Schema => {
                trouble::print(&format!("{:#}\n", loadx_core::config::schema()))?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Demo(arguments) => demo::demo(&arguments),
            Command::Backend(arguments) => backend::backend(arguments),
            Command::Bench(arguments) => bench::bench(&arguments),
            Command::Health(arguments) => health::health(arguments),
            Command::Completions(arguments) => manual::completions(&arguments),
            Command::Man(arguments) => manual::man(&arguments),
            Command::Sim(arguments) => sim::sim(&arguments),
        }
    }
}
