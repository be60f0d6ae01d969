//! The measurements other than the cases: memory, start time, the growth of the cost, and those of other modules.

use std::fmt::Write as _;
use std::time::Duration;

use super::PeersArguments;
use super::case::{self, Case};
use super::contender::Contender;
use super::lab::{Lab, Stage};
use super::report::{Sample, Spread};
use super::{certificates, h2, h2_raw, large, reloads, times, tls};
use crate::Trouble;

/// One table.
pub(super) struct Section {
    /// The name for `--only`.
    pub(super) name: &'static str,
    pub(super) run: fn(&Lab, &PeersArguments) -> Result<String, Trouble>,
}

/// Every table other than that of the cases.
pub(super) const ALL: [Section; 15] = [
    Section { name: "memory", run: memory },
    Section { name: "latency", run: times::latency },
    Section { name: "last-byte", run: times::last_byte },
    Section { name: "saturated", run: times::saturated },
    Section { name: "start-up", run: start_up },
    Section { name: "scale", run: scale },
    Section { name: "tls", run: tls::tls },
    Section { name: "h2", run: h2::h2 },
    Section { name: "h2c", run: h2::clear_h2 },
    Section { name: "h2-backends", run: h2::h2_backends },
    Section { name: "h2-memory", run: h2_raw::memory },
    Section { name: "h2-attacks", run: h2_raw::attacks },
    Section { name: "certificates", run: certificates::certificates },
    Section { name: "reloads", run: reloads::reloads },
    Section { name: "large", run: large::large },
];

/// The number of idle connections for the measurement of memory.
const HELD: usize = 8_000;

/// The number of starts of each program.
const STARTS: usize = 9;

pub(super) const PEERS: [Contender; 2] = [Contender::Nginx, Contender::Haproxy(16)];

fn memory(lab: &Lab, arguments: &PeersArguments) -> Result<String, Trouble> {
    let mut table = format!(
        "| resident memory, bytes | idle connection, of {HELD} | active connection, of 5,000 | LoadX's idle / the proxy's idle |\n|---|---|---|---|\n"
    );
    let small = case::small();
    let busy = Case { connections: 5_000, ..small.clone() };
    let mut ours = None;
    for contender in lab.contenders(&PEERS) {
        let idle = Spread::of(every(arguments.rounds, || lab.idle_turn(&small, &contender, HELD))?.into_iter());
        let one = Case { connections: 1, ..small.clone() };
        let base = lab.turn(&one, &contender, &Stage::USUAL, Duration::from_millis(200))?.resident;
        let full = lab.turn(&busy, &contender, &Stage::USUAL, Duration::from_secs(1))?.resident;
        let active = (full as f64 - base as f64) / 5_000.0;
        let ours = *ours.get_or_insert(idle.median);
        let _ =
            writeln!(table, "| {} | {:.0} | {active:.0} | {:.2} |", contender.name(), idle.median, ours / idle.median);
    }
    Ok(table)
}

fn start_up(lab: &Lab, _: &PeersArguments) -> Result<String, Trouble> {
    let mut table = "| exec to first request served | median ms | least | most |\n|---|---|---|---|\n".to_owned();
    for contender in lab.contenders(&PEERS) {
        let start = || Ok(lab.start(&contender, &Stage::USUAL, false)?.took.as_secs_f64() * 1_000.0);
        let Spread { median, least, most } = Spread::of(every(STARTS as u32, start)?.into_iter());
        let _ = writeln!(table, "| {} | {median:.1} | {least:.1} | {most:.1} |", contender.name());
    }
    Ok(table)
}

/// Measures how the cost of a small request grows with connections, backends and workers.
fn scale(lab: &Lab, arguments: &PeersArguments) -> Result<String, Trouble> {
    let usual = Stage::USUAL;
    let stage = |backends, workers, processors| Stage { backends, workers, processors };
    let rows = [
        ("16 connections", 16, usual.clone()),
        ("64 connections", 64, usual.clone()),
        ("512 connections", 512, usual.clone()),
        ("2,000 connections", 2_000, usual.clone()),
        ("9,000 connections", 9_000, usual),
        ("64 connections, 100 backends", 64, stage(100, 1, "0")),
        ("64 connections, 1,000 backends", 64, stage(1_000, 1, "0")),
        ("64 connections, 10,000 backends", 64, stage(10_000, 1, "0")),
        ("64 connections, 1 worker that may use both processors", 64, stage(3, 1, "0,1")),
        ("64 connections, 2 workers, both processors, which the load shares", 64, stage(3, 2, "0,1")),
    ];
    let mut table = "| LoadX | CPU µs/request | user | system | requests/s |\n|---|---|---|---|---|\n".to_owned();
    for (about, connections, stage) in rows {
        let case = Case { connections, ..case::small() };
        let span = Duration::from_secs_f64(arguments.seconds);
        let samples = every(arguments.rounds, || lab.turn(&case, &lab.loadx(), &stage, span))?;
        let median = |value: fn(&Sample) -> f64| Spread::of(samples.iter().map(value)).median;
        let _ = writeln!(
            table,
            "| {about} | {:.1} | {:.2} | {:.1} | {:.0} |",
            median(Sample::cpu_us),
            median(|sample| sample.user_us),
            median(|sample| sample.system_us),
            median(|sample| sample.per_second)
        );
    }
    Ok(table)
}

pub(super) fn every<T>(rounds: u32, measure: impl Fn() -> Result<T, Trouble>) -> Result<Vec<T>, Trouble> {
    (0..rounds).map(|_| measure()).collect()
}
