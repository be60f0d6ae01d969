//! `loadx bench`: runs the load generator from the command line.

mod progress;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use loadx_load::{Comparison, Plan, Report, Target};
use tokio::signal::unix::{SignalKind, signal};

use crate::open_files;
use crate::signals::Signals;
use crate::trouble::{Trouble, print};
use progress::Progress;

/// The exit status of a run that Ctrl-C has stopped: 128 plus the number of SIGINT, as shells expect.
const INTERRUPTED: u8 = 130;

/// The requests of a run that sets no limit.
const REQUESTS_DEFAULT: u64 = 1_000;

/// The options of `loadx bench`.
#[derive(Debug, Args)]
pub(super) struct BenchArguments {
    /// Number of requests to send [default: 1000, or no limit with --duration]
    #[arg(long, short = 'n', value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,
    /// Number of seconds to send requests
    ///
    /// The run then waits for the responses to the requests that are under way. With --requests too, the run ends at
    /// the limit that comes first.
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    duration: Option<f64>,
    /// Number of requests under way at the same time, each on a connection of its own
    ///
    /// With --rate this is the most: a request waits when all connections are busy.
    #[arg(long, short, value_name = "COUNT", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=50_000))]
    concurrency: u32,
    /// Number of requests to send per second, on a fixed schedule
    ///
    /// Each response time counts from the moment that the schedule gives, and so includes the time that the request
    /// waited for a free connection. Without --rate each connection sends its next request as soon as the response to
    /// its last request is complete. A server that stalls then gets fewer requests, and the response times show little
    /// of the stall.
    #[arg(long, value_name = "PER_SECOND", value_parser = parse_rate)]
    rate: Option<f64>,
    /// URL to send the requests to
    #[arg(long, default_value = "http://localhost:8080", value_parser = Target::parse)]
    url: Target,
    /// Path to request instead of the path of the URL
    #[arg(long)]
    path: Option<String>,
    /// Number of seconds after which a request without a complete response fails
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0, value_parser = parse_seconds)]
    timeout: f64,
    /// Write the results to this file, as JSON
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Compare the results with the results in this file, which an earlier run wrote with --output
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
}

/// Runs the load. The exit status is 1 when a request failed, and 130 when Ctrl-C stopped the run.
pub(super) fn bench(arguments: BenchArguments) -> Result<ExitCode, Trouble> {
    let before = arguments.compare.as_deref().map(read_results).transpose()?;
    let plan = plan(&arguments)?;
    // Opens the file first, so that a file that cannot be written does not cost a whole run.
    let output = arguments.output.map(Output::open).transpose()?;
    open_files::allow(u64::from(arguments.concurrency) + 100, "--concurrency");
    let report = run(&plan)?;
    print(&report.to_string())?;
    if let Some(before) = &before {
        print(&Comparison::new(before, &report).to_string())?;
    }
    if let Some(output) = output {
        output.write(&report)?;
    }
    Ok(match report.failed {
        _ if report.interrupted => ExitCode::from(INTERRUPTED),
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn plan(arguments: &BenchArguments) -> Result<Plan, Trouble> {
    let url = arguments.url.clone();
    let target = match &arguments.path {
        None => url,
        Some(path) if path.starts_with('/') && path.bytes().all(|byte| byte > b' ' && byte != 0x7f) => {
            Target { path: path.clone(), ..url }
        }
        Some(path) => return Err(Trouble::Input(format!("--path \"{path}\" must begin with / and contain no spaces"))),
    };
    let duration = arguments.duration.map(Duration::from_secs_f64);
    let timeout = Duration::from_secs_f64(arguments.timeout);
    Ok(Plan {
        requests: arguments.requests.or(duration.is_none().then_some(REQUESTS_DEFAULT)),
        duration,
        rate: arguments.rate,
        ..Plan::new(target, REQUESTS_DEFAULT, arguments.concurrency as usize, timeout)
    })
}

/// The results that an earlier run wrote.
fn read_results(path: &Path) -> Result<Report, Trouble> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        Trouble::Input(format!("cannot read {shown}: {error}\n  help: --compare takes a file that --output wrote"))
    })?;
    serde_json::from_str(&text).map_err(|error| {
        Trouble::Input(format!(
            "{shown} contains no results: {error}\n  help: --compare takes a file that --output wrote"
        ))
    })
}

/// The file for the results.
struct Output {
    file: File,
    path: PathBuf,
}

impl Output {
    fn open(path: PathBuf) -> Result<Self, Trouble> {
        match File::create(&path) {
            Ok(file) => Ok(Output { file, path }),
            Err(error) => Err(Trouble::Input(format!("cannot write {}: {error}", path.display()))),
        }
    }

    fn write(&self, report: &Report) -> Result<(), Trouble> {
        let written = serde_json::to_writer_pretty(&self.file, report);
        let shown = self.path.display();
        written.map_err(|error| Trouble::Failure(format!("cannot write {shown}: {error}")))?;
        print(&format!("results are in {shown}\n"))
    }
}

fn run(plan: &Plan) -> Result<Report, Trouble> {
    let progress = Progress::start(plan);
    let shown = progress.clone();
    let report = loadx_load::run(plan, move |done| shown.show(done), interrupt());
    progress.end();
    // The first Ctrl-C ends only the run. A further Ctrl-C ends the process, even if no program reads the results.
    match Signals::catch() {
        Ok(signals) => signals.second_ends_at_once(),
        Err(error) => tracing::warn!("LoadX cannot catch a further signal: {error}"),
    }
    report.map_err(|error| Trouble::Failure(format!("cannot run the load: {error}")))
}

/// Waits for Ctrl-C.
async fn interrupt() {
    match signal(SignalKind::interrupt()) {
        Ok(mut interrupts) => drop(interrupts.recv().await),
        // Ctrl-C then ends the process and loses the results. The run itself can still take place.
        Err(error) => {
            tracing::warn!("Ctrl-C will end the run without results: {error}");
            std::future::pending::<()>().await;
        }
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.001..=1_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("write a number of requests per second from 0.001 to 1000000".to_owned()),
    }
}

pub(super) fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.001..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("write a number of seconds from 0.001 to 86400".to_owned()),
    }
}
