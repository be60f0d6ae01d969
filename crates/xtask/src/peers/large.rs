//! What a reload of a large config costs: ten thousand backends and a thousand routes, of which one changes or all change.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::PeersArguments;
use super::case::{self, Case};
use super::lab::{LOAD_PROCESSOR, Lab, Stage, work};
use super::load::{Load, Manner, Work};
use super::reloads::Fast;
use super::report::Spread;
use crate::Trouble;

const BACKENDS: usize = 10_000;
const CLUSTERS: usize = 10;
const ROUTES: usize = 1_000;

/// The reloads of a row, and those after which the memory is measured.
const RELOADS: u32 = 20;
const MANY: u32 = 1_000;

/// The requests per second meanwhile.
const RATE: f64 = 500.0;

/// The time between two reloads.
const PAUSE: Duration = Duration::from_millis(50);

/// What a reload changes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Part {
    Nothing,
    OneBackend,
    Everything,
}

/// Measures reloads of a large config.
pub(super) fn large(lab: &Lab, _: &PeersArguments) -> Result<String, Trouble> {
    let mut table = format!(
        "| {BACKENDS} backends, {ROUTES} routes, {RATE:.0} requests/s | reloads | failed requests | command to effect, ms (median, most) | longest pause of a connection, ms | memory before, MiB | after, MiB |\n|---|---|---|---|---|---|---|\n"
    );
    let rows = [
        ("no reload", Part::Nothing, RELOADS),
        ("one weight changes", Part::OneBackend, RELOADS),
        ("all weights and routes change", Part::Everything, RELOADS),
        ("all change", Part::Everything, MANY),
    ];
    for (about, part, count) in rows {
        let row = measure(lab, part, count)?;
        let _ = writeln!(table, "| {about} | {count} | {row} |");
    }
    Ok(table)
}

fn measure(lab: &Lab, part: Part, count: u32) -> Result<String, Trouble> {
    let config = |number: u32, listen: SocketAddr| write(lab, part, number, listen);
    // Two processors: the worker and control share one otherwise, as no machine with ten thousand backends would have it.
    let running = lab.start_with(&config, &Stage { processors: "0,1", ..Stage::USUAL })?;
    let small = Case { connections: 16, ..case::small() };
    let load = Load::start(Work { manner: Manner::Rate(RATE), ..work(&small, running.address)? }, LOAD_PROCESSOR)?;
    // Each backend is probed once.
    std::thread::sleep(Duration::from_secs(5));
    let before = running.process.resident();
    let fast = Fast::start(running.address)?;
    let mut times = Vec::new();
    for number in 1..=count {
        config(number, running.address)?;
        let began = Instant::now();
        if part != Part::Nothing {
            lab.ctl(&["reload"])?;
        }
        times.push(began.elapsed().as_secs_f64() * 1_000.0);
        std::thread::sleep(PAUSE);
    }
    let pause = fast.stop();
    let counted = load.counted();
    // Former plans are freed when the last exchange has left them.
    std::thread::sleep(Duration::from_secs(3));
    let after = running.process.resident();
    load.stop()?;
    let Spread { median, most, .. } = Spread::of(times.into_iter());
    Ok(format!(
        "{} of {} | {median:.0}, {most:.0} | {:.1} | {:.1} | {:.1}",
        counted.errors(),
        counted.done() + counted.errors(),
        pause.as_secs_f64() * 1_000.0,
        before as f64 / 1_048_576.0,
        after as f64 / 1_048_576.0,
    ))
}

/// Writes the config with this number.
fn write(lab: &Lab, part: Part, number: u32, listen: SocketAddr) -> Result<(), Trouble> {
    let mut text =
        format!("{{\"listeners\": [{{\"address\": \"{listen}\"}}], \"workers\": 1, \"enable_logging\": false,\n");
    text.push_str("\"clusters\": {\n");
    for cluster in 0..CLUSTERS {
        let of_cluster = (0..BACKENDS / CLUSTERS).map(|index| {
            let position = cluster * (BACKENDS / CLUSTERS) + index;
            let at = lab.backend(position);
            let changes = part == Part::Everything || position == 0;
            let weight = if changes { 1 + number % 7 } else { 1 };
            format!("{{\"host\": \"{}\", \"port\": {}, \"weight\": {weight}}}", at.ip(), at.port())
        });
        let all: Vec<String> = of_cluster.collect();
        let end = if cluster + 1 == CLUSTERS { "" } else { "," };
        let _ = writeln!(text, "\"c{cluster}\": {{\"backends\": [{}]}}{end}", all.join(",\n"));
    }
    text.push_str("},\n\"routes\": [\n");
    for route in 0..ROUTES - 1 {
        let prefix = if part == Part::Everything { number } else { 0 };
        let cluster = route % CLUSTERS;
        let _ = writeln!(
            text,
            "{{\"hosts\": [\"host-{route}.example.com\"], \"path_prefix\": \"/v{prefix}\", \"cluster\": \"c{cluster}\"}},"
        );
    }
    text.push_str("{\"cluster\": \"c0\"}]}\n");
    Ok(fs::write(lab.config_file(), text)?)
}
