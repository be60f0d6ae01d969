//! `loadx bench`: the load tester at the command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use loadx_load::{Comparison, Plan, Report, Target};

use super::open_files;
use super::trouble::{Trouble, print};

/// What can be typed after `loadx bench`.
#[derive(Debug, Args)]
pub(super) struct BenchArguments {
    /// Requests to send
    #[arg(long, short = 'n', default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    requests: u64,
    /// Requests under way at the same time
    #[arg(long, short, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    concurrency: u32,
    /// Where to send them
    #[arg(long, default_value = "http://localhost:8080", value_parser = Target::parse)]
    url: Target,
    /// The path to ask for, instead of that of the URL
    #[arg(long)]
    path: Option<String>,
    /// Seconds that a request may take
    #[arg(long, default_value_t = 30.0, value_parser = parse_seconds)]
    timeout: f64,
    /// Write the results to a file, as JSON
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Tell what changed since the results in this file
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
}

/// Runs the load. The exit status is 1 when a request failed.
pub(super) fn bench(arguments: BenchArguments) -> Result<ExitCode, Trouble> {
    let target = match &arguments.path {
        None => arguments.url,
        Some(path) if path.starts_with('/') && path.bytes().all(|byte| byte > b' ' && byte != 0x7f) => {
            Target { path: path.clone(), ..arguments.url }
        }
        Some(path) => return Err(Trouble::Input(format!("--path \"{path}\" must begin with / and hold no spaces"))),
    };
    let before = arguments.compare.as_deref().map(read_results).transpose()?;
    // Opened first: a file that cannot be written must not cost a whole run.
    let output = arguments.output.map(|path| (std::fs::File::create(&path), path));
    if let Some((Err(error), path)) = &output {
        return Err(Trouble::Input(format!("cannot write {}: {error}", path.display())));
    }
    let timeout = Duration::from_secs_f64(arguments.timeout);
    let plan = Plan::new(target, arguments.requests, arguments.concurrency as usize, timeout);
    open_files::allow(u64::from(arguments.concurrency) + 100, "--concurrency");
    let report = run(&plan)?;
    print(&report.to_string())?;
    if let Some(before) = &before {
        print(&Comparison::new(before, &report).to_string())?;
    }
    if let Some((Ok(file), path)) = output {
        let written = serde_json::to_writer_pretty(&file, &report);
        written.map_err(|error| Trouble::Failure(format!("cannot write {}: {error}", path.display())))?;
        print(&format!("results are in {}\n", path.display()))?;
    }
    Ok(if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The results that an earlier run wrote.
fn read_results(path: &Path) -> Result<Report, Trouble> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        Trouble::Input(format!("cannot read {shown}: {error}\n  help: --compare takes a file that --output wrote"))
    })?;
    serde_json::from_str(&text).map_err(|error| {
        Trouble::Input(format!("{shown} holds no results: {error}\n  help: --compare takes a file that --output wrote"))
    })
}

fn run(plan: &Plan) -> Result<Report, Trouble> {
    // Draws on standard error, and only where that is a terminal.
    let bar = ProgressBar::new(plan.requests.unwrap_or_default());
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} requests, {per_sec}, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let shown = bar.clone();
    let report = loadx_load::run(plan, move |done| shown.set_position(done), std::future::pending());
    bar.finish_and_clear();
    report.map_err(|error| Trouble::Failure(format!("cannot begin: {error}")))
}

pub(super) fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.001..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("write a number of seconds from 0.001 to 86400".to_owned()),
    }
}
