//! `loadx bench`: runs the load generator from the command line.

mod limits;
mod options;
mod output;
mod progress;
mod requests;
mod tls;

use std::process::ExitCode;

use loadx_load::{Comparison, Plan, Report, Results, Search};
use tokio::signal::unix::{SignalKind, signal};

use crate::open_files;
use crate::signals::Signals;
use crate::trouble::{Trouble, print};
pub(super) use options::{BenchArguments, parse_seconds};
use output::{Output, read_results};
use progress::Progress;

/// The exit status of a run that Ctrl-C has stopped: 128 plus the number of SIGINT, as shells expect.
const INTERRUPTED: u8 = 130;

/// Runs the load. The exit status is 1 when a request failed or a figure became worse than allowed, and 130 when Ctrl-C
/// stopped the run.
pub(super) fn bench(arguments: &BenchArguments) -> Result<ExitCode, Trouble> {
    let before = arguments.compare.as_deref().map(read_results).transpose()?;
    let plan = arguments.plan()?;
    // Opens the files first, so that a file that cannot be written does not cost a whole run.
    let output = arguments.output.clone().map(Output::open).transpose()?;
    let page = arguments.html.clone().map(Output::open).transpose()?;
    open_files::allow(plan.concurrency as u64 + 100, "--concurrency");
    if let Some(goal) = &arguments.find_max {
        return find_max(&plan, arguments, goal, output);
    }
    let report = repeat(&plan, arguments.runs)?;
    print(&report.to_string())?;
    let comparison = before.as_ref().map(|before| Comparison::new(before, &report));
    if let Some(comparison) = &comparison {
        print(&comparison.to_string())?;
    }
    if let Some(output) = output {
        output.write_results(&report)?;
    }
    if let Some(page) = page {
        page.write(&report.to_html(&format!("loadx bench: {}", report.url)), "the report")?;
    }
    let worse = match (&comparison, arguments.fail_if_worse) {
        (Some(comparison), Some(percent)) => comparison.worse_by(percent),
        _ => Vec::new(),
    };
    if !worse.is_empty() {
        let percent = arguments.fail_if_worse.unwrap_or_default();
        print(&format!("worse than {percent} % allow: {}\n", worse.join(", ")))?;
    }
    Ok(match report.failed {
        _ if report.interrupted => ExitCode::from(INTERRUPTED),
        0 if worse.is_empty() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// Runs the plan so many times, or until Ctrl-C.
fn repeat(plan: &Plan, runs: u32) -> Result<Report, Trouble> {
    let mut all = Vec::new();
    for _ in 0..runs {
        let results = run(plan)?;
        let is_interrupted = results.report(plan).interrupted;
        all.push(results);
        if is_interrupted {
            break;
        }
    }
    Ok(match &all[..] {
        [only] => only.report(plan),
        several => Results::join(several, plan),
    })
}

/// Searches the highest rate that meets the goal.
fn find_max(
    plan: &Plan,
    arguments: &BenchArguments,
    goal: &loadx_load::Goal,
    output: Option<Output>,
) -> Result<ExitCode, Trouble> {
    print(&format!("the highest rate with {goal}, each tried for {} s:\n", arguments.step().as_secs_f64()))?;
    let mut search = Search::new(arguments.rate.unwrap_or(limits::FIRST_RATE));
    let mut best: Option<Report> = None;
    while let Some(rate) = search.next() {
        let plan =
            Plan { rate: Some(rate), requests: None, duration: Some(arguments.step() + plan.warm_up), ..plan.clone() };
        let report = run(&plan)?.report(&plan);
        if report.interrupted {
            let so_far = search.found().map_or_else(|| "none".to_owned(), |rate| format!("{rate:.0} requests/s"));
            print(&format!("interrupted; the highest rate so far: {so_far}\n"))?;
            return Ok(ExitCode::from(INTERRUPTED));
        }
        let miss = goal.miss(&report);
        let times = report.response_times;
        let verdict = miss.as_deref().map_or_else(|| "met".to_owned(), |reason| format!("missed: {reason}"));
        print(&format!("  {rate:>10.0} requests/s  p50 {:.3} ms, p99 {:.3}  {verdict}\n", times.p50, times.p99))?;
        search.tell(miss.is_none());
        if miss.is_none() {
            best = Some(report);
        }
    }
    match (search.found(), best) {
        (Some(rate), Some(report)) => {
            print(&format!("highest rate   {rate:.0} requests/s\n"))?;
            if let Some(output) = output {
                output.write_results(&report)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        _ => {
            print("no rate meets the condition\n")?;
            Ok(ExitCode::FAILURE)
        }
    }
}

fn run(plan: &Plan) -> Result<Results, Trouble> {
    let progress = Progress::start(plan);
    let results = loadx_load::run(plan, |live| progress.show(live), interrupt());
    progress.end();
    // The first Ctrl-C ends only the run. A further Ctrl-C ends the process, even if no program reads the results.
    match Signals::catch() {
        Ok(signals) => signals.second_ends_at_once(),
        Err(error) => tracing::warn!("LoadX cannot catch a further signal: {error}"),
    }
    results.map_err(|error| Trouble::Failure(format!("cannot run the load: {error}")))
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
