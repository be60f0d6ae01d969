//! `cargo xtask counts`: counts the instructions of the parts of the hot path, and compares the counts with
//! `counts.txt`.
//!
//! Each operation runs n times and 2 n times under callgrind; the difference is the cost of n operations, without the
//! cost of start and end. Unlike a time, this difference is the same on a busy machine.

mod cases;
mod exchange;
mod h2;
mod memory;
mod routes;
mod tls;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::Args;

use crate::Trouble;
use cases::Case;

/// The most that a count may be above the expected count, in percent.
const RISE_PERCENT_MAX: f64 = 5.0;

/// The options of `cargo xtask counts`.
#[derive(Debug, Args)]
pub(crate) struct CountsArguments {
    /// Only these operations [default: all operations]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Record the counts as the expected counts
    #[arg(long)]
    accept: bool,
}

/// The options of `cargo xtask count-case`.
#[derive(Debug, Args)]
pub(crate) struct CaseArguments {
    name: String,
    times: u32,
}

/// Runs one operation, for counting by another process.
pub(crate) fn run_case(arguments: &CaseArguments) -> Result<(), Trouble> {
    let case = cases::ALL.iter().find(|case| case.name == arguments.name).ok_or("there is no such operation")?;
    (case.run)(arguments.times);
    Ok(())
}

pub(crate) fn run(arguments: &CountsArguments) -> Result<(), Trouble> {
    let wanted = |case: &&Case| arguments.only.is_empty() || arguments.only.iter().any(|name| name == case.name);
    if let Some(unknown) = arguments.only.iter().find(|name| cases::ALL.iter().all(|case| case.name != **name)) {
        let names: Vec<_> = cases::ALL.iter().map(|case| case.name).collect();
        return Err(format!("--only \"{unknown}\" names no operation; the operations are {}", names.join(", ")).into());
    }
    let expected = Expected::read()?;
    let compiler = compiler()?;
    let comparable = expected.compiler == compiler;
    if !comparable {
        println!("counted with {compiler}, expected counts from {}: a difference is no fault\n", expected.compiler);
    }
    let mut counts = expected.counts.clone();
    let mut risen = Vec::new();
    println!("| operation | instructions | before | change |\n|---|---|---|---|");
    for case in cases::ALL.iter().filter(wanted) {
        let count = count(case)?;
        let (before, change) = match expected.counts.get(case.name) {
            Some(before) => {
                let change = (count as f64 / *before as f64 - 1.0) * 100.0;
                if change > RISE_PERCENT_MAX {
                    risen.push(case.name);
                }
                (before.to_string(), format!("{change:+.1} %"))
            }
            None => ("–".to_owned(), "new".to_owned()),
        };
        println!("| {}: {} | {count} | {before} | {change} |", case.name, case.about);
        counts.insert(case.name.to_owned(), count);
    }
    if arguments.accept {
        return Expected { compiler, counts }.write();
    }
    if comparable && !risen.is_empty() {
        let names = risen.join(", ");
        return Err(format!(
            "more than {RISE_PERCENT_MAX} % above the expected count: {names}\n  help: find the reason; if the change is \
             worth the cost, `cargo xtask counts --accept` records the new counts, and the commit gives the reason"
        )
        .into());
    }
    Ok(())
}

/// The instructions of one operation.
fn count(case: &Case) -> Result<u64, Trouble> {
    let (once, twice) = (callgrind(case, case.times)?, callgrind(case, 2 * case.times)?);
    Ok(twice.saturating_sub(once) / u64::from(case.times))
}

fn callgrind(case: &Case, times: u32) -> Result<u64, Trouble> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["count-case", case.name, &times.to_string()])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot start valgrind: {error}; install the Debian package valgrind"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{} failed under valgrind:\n{text}", case.name).into());
    }
    let collected = text.lines().find_map(|line| line.split_once("Collected : "));
    let count = collected.and_then(|(_, count)| count.trim().parse().ok());
    Ok(count.ok_or_else(|| format!("valgrind printed no count:\n{text}"))?)
}

fn compiler() -> Result<String, Trouble> {
    let output =
        Command::new(std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned())).arg("--version").output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The expected counts.
struct Expected {
    compiler: String,
    counts: BTreeMap<String, u64>,
}

impl Expected {
    fn path() -> PathBuf {
        concat!(env!("CARGO_MANIFEST_DIR"), "/counts.txt").into()
    }

    fn read() -> Result<Expected, Trouble> {
        let text = fs::read_to_string(Self::path()).unwrap_or_default();
        let mut lines = text.lines();
        let compiler = lines.next().unwrap_or("no compiler").to_owned();
        let mut counts = BTreeMap::new();
        for line in lines {
            let (name, count) = line.split_once(' ').ok_or_else(|| format!("counts.txt: \"{line}\" is no count"))?;
            counts.insert(name.to_owned(), count.trim().parse()?);
        }
        Ok(Expected { compiler, counts })
    }

    fn write(&self) -> Result<(), Trouble> {
        let mut text = format!("{}\n", self.compiler);
        for (name, count) in &self.counts {
            let _ = writeln!(text, "{name} {count}");
        }
        Ok(fs::write(Self::path(), text)?)
    }
}
