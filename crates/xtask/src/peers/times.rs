//! Response times at half load, times to the last byte of large bodies, and bodies when the proxy is the bottleneck.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::PeersArguments;
use super::case::{self, Case};
use super::contender::Contender;
use super::floor::Means;
use super::lab::{LOAD_PROCESSOR, Lab, Stage};
use super::load::Manner;
use super::report::Spread;
use super::sections::{PEERS, every};
use super::wrk::Pattern;
use crate::Trouble;
use crate::processes::pin;

/// The part of the time of h2load in which connections are opened, in microseconds: not counted.
const OPENING_US: u64 = 500_000;

/// The programs that compete for the processor of the proxy in [`saturated`].
const RIVALS: usize = 3;

/// Measures response times at half of the rate that nginx reaches, the same for all contenders, under an open loop of
/// LoadX and under that of h2load.
pub(super) fn latency(lab: &Lab, arguments: &PeersArguments) -> Result<String, Trouble> {
    let small = case::small();
    let span = Duration::from_secs_f64(arguments.seconds);
    let rate = lab.turn(&small, &Contender::Nginx, &Stage::USUAL, span)?.per_second / 2.0;
    let paced = Case { manner: Manner::Rate(rate), ..small };
    let mut table = format!(
        "| {rate:.0} requests/s | own load: p50 µs | p99 | p99.9 | CPU µs/request | h2load: p50 µs | p99 | p99.9 |\n\
         |---|---|---|---|---|---|---|---|\n"
    );
    for contender in lab.contenders(&PEERS) {
        let turns = every(arguments.rounds, || lab.timed_turn(&paced, &contender, span))?;
        let cpu = Spread::of(turns.iter().map(|(sample, _)| sample.cpu_us())).median;
        let own: Vec<_> = turns.into_iter().map(|(_, times)| times).collect();
        let foreign = every(arguments.rounds, || {
            let running = lab.start(&contender, &Stage::USUAL, false)?;
            h2load(lab, running.address, paced.connections, rate, span)
        })?;
        let (own, foreign) = (quantiles(&own, &[0.5, 0.99, 0.999]), quantiles(&foreign, &[0.5, 0.99, 0.999]));
        let _ = writeln!(table, "| {} | {own} | {cpu:.1} | {foreign} |", contender.name());
    }
    Ok(table)
}

/// Measures the time from a request to the last byte of its response, for one client alone and for many at the same time.
pub(super) fn last_byte(lab: &Lab, arguments: &PeersArguments) -> Result<String, Trouble> {
    let peers = [
        Contender::Nginx,
        Contender::Haproxy(64),
        Contender::HaproxySplice,
        Contender::Floor(Means::Copy),
        Contender::Floor(Means::Splice),
    ];
    let contenders = lab.contenders(&peers);
    let mut table = "| to the last byte, p50 / p99 in ms |".to_owned();
    contenders.iter().for_each(|contender| table.push_str(&format!(" {} |", contender.name())));
    let _ = writeln!(table, "\n|---|{}", "---|".repeat(contenders.len()));
    for name in ["64k-1", "64k-64", "1m-1", "1m-64", "100m-1", "100m-8"] {
        let case = case::all().into_iter().find(|case| case.name == name).ok_or("there is no such case")?;
        let _ = write!(table, "| {} |", case.about);
        // Long enough for some responses of 100 MiB.
        let longer = if name.starts_with("100m") { 3.0 } else { 1.0 };
        let span = Duration::from_secs_f64(arguments.seconds * longer);
        for contender in &contenders {
            let times = every(arguments.rounds, || Ok(lab.timed_turn(&case, contender, span)?.1))?;
            let median = |q: f64| Spread::of(times.iter().map(|times| times.value_at_quantile(q) as f64)).median;
            let _ = write!(table, " {:.2} / {:.2} |", median(0.5) / 1_000.0, median(0.99) / 1_000.0);
        }
        table.push('\n');
    }
    Ok(table)
}

/// Measures bodies when the proxy is the bottleneck: threads that only compute compete for its processor, so that it has a share
/// of a quarter.
pub(super) fn saturated(lab: &Lab, arguments: &PeersArguments) -> Result<String, Trouble> {
    let mut table = format!(
        "| with {RIVALS} rivals for the processor | proxy | own load: requests/s | share of the processor | wrk: requests/s | share |\n\
         |---|---|---|---|---|---|\n"
    );
    let span = Duration::from_secs_f64(arguments.seconds);
    for name in ["64k-8", "1m-8", "upload-8", "chunked-16k-8"] {
        let case = case::all().into_iter().find(|case| case.name == name).ok_or("there is no such case")?;
        let pattern = Pattern::of(&case, lab)?.ok_or("wrk cannot play the case")?;
        for contender in lab.contenders(&case.peers) {
            let _rivals = Rivals::start(RIVALS, Stage::USUAL.processors.parse()?)?;
            let own = every(arguments.rounds, || lab.turn(&case, &contender, &Stage::USUAL, span))?;
            let by_wrk = every(arguments.rounds, || lab.turn_of_wrk(&case, &contender, &pattern, span))?;
            let _ = write!(table, "| {} | {} |", case.about, contender.name());
            for samples in [own, by_wrk] {
                let rate = Spread::of(samples.iter().map(|sample| sample.per_second)).median;
                let share = Spread::of(samples.iter().map(|sample| sample.per_second * sample.cpu_us() / 1e4)).median;
                let _ = write!(table, " {rate:.0} | {share:.0} % |");
            }
            table.push('\n');
        }
    }
    Ok(table)
}

/// The medians over the rounds of some quantiles, as cells of a table.
fn quantiles(rounds: &[Histogram<u64>], of: &[f64]) -> String {
    let median = |q: f64| Spread::of(rounds.iter().map(|times| times.value_at_quantile(q) as f64)).median;
    of.iter().map(|q| format!("{:.0}", median(*q))).collect::<Vec<_>>().join(" | ")
}

/// Runs h2load with HTTP/1.1 and this many requests per second. Returns the times of the responses, in microseconds.
fn h2load(
    lab: &Lab,
    address: SocketAddr,
    connections: usize,
    per_second: f64,
    span: Duration,
) -> Result<Histogram<u64>, Trouble> {
    let log = lab.file("h2load.log");
    // h2load adds to the file.
    std::fs::write(&log, "")?;
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &LOAD_PROCESSOR.to_string(), "h2load", "--h1", "-t1"]);
    command.args(["-c", &connections.to_string(), "--rps", &format!("{:.2}", per_second / connections as f64)]);
    let seconds = span + Duration::from_micros(OPENING_US);
    command.args(["-D", &format!("{}", seconds.as_secs_f64().ceil())]).arg("--log-file").arg(&log);
    let output = command.arg(format!("http://{address}/")).stdin(Stdio::null()).output()?;
    if !output.status.success() {
        return Err(format!("h2load said: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let text = std::fs::read_to_string(&log)?;
    let lines = text.lines().filter_map(|line| {
        let mut parts = line.split('\t').map(|part| part.parse::<u64>().ok());
        Some((parts.next()??, parts.next()??, parts.next()??))
    });
    let lines: Vec<_> = lines.collect();
    let first = lines.iter().map(|(began, ..)| *began).min();
    let first = first.ok_or_else(|| format!("h2load said: {}", String::from_utf8_lossy(&output.stdout)))?;
    let mut times = Histogram::new_with_bounds(1, 60_000_000, 3)?;
    for (began, status, took) in lines {
        if status != 200 {
            return Err(format!("h2load got a status of {status}").into());
        }
        if began >= first + OPENING_US {
            times.saturating_record(took);
        }
    }
    Ok(times)
}

/// Threads that only compute, on the processor of the proxy.
struct Rivals {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Rivals {
    /// Starts threads on this processor; on another one they would compete with the load.
    fn start(count: usize, processor: usize) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (pinned, all_pinned) = mpsc::channel();
        let thread = |_| {
            let (stop, pinned) = (Arc::clone(&stop), pinned.clone());
            std::thread::spawn(move || {
                // The receiver waits for each thread.
                let _ = pinned.send(pin(processor));
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        };
        let rivals = Rivals { threads: (0..count).map(thread).collect(), stop };
        drop(pinned);
        all_pinned.iter().collect::<std::io::Result<()>>()?;
        Ok(rivals)
    }
}

impl Drop for Rivals {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}
