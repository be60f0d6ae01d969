//! `loadx health`: checks the health of a server, for images without curl.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use loadx_load::{Plan, Target};

use crate::trouble::{Trouble, print};

/// The options of `loadx health`.
#[derive(Debug, Args)]
pub(super) struct HealthArguments {
    /// The URL to ask; status 200 means healthy (exit status 0), anything else or no answer means not healthy (exit
    /// status 1)
    #[arg(long, default_value = "http://127.0.0.1:8080/__health__", value_parser = Target::parse)]
    url: Target,
    /// The longest time to wait for the answer, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = super::bench::parse_seconds)]
    timeout: f64,
}

/// Sends one request. The exit status is 0 when the status of the response is 200, else 1.
pub(super) fn health(arguments: HealthArguments) -> Result<ExitCode, Trouble> {
    let timeout = Duration::from_secs_f64(arguments.timeout);
    let plan = Plan::new(arguments.url, 1, 1, timeout);
    let results = loadx_load::run(&plan, |_| {}, std::future::pending())
        .map_err(|error| Trouble::Failure(format!("cannot send the request: {error}")))?;
    let report = results.report(&plan);
    let answers = report.status_codes.keys().map(|status| format!("status {status}"));
    let answer = answers.chain(report.errors.into_keys()).next().unwrap_or_default();
    print(&format!("{}: {answer}\n", plan.url()))?;
    Ok(if answer == "status 200" { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
