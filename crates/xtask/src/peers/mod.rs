//! `cargo xtask peers`: LoadX, nginx, HAProxy and bare relays, in turn, under the same load in one run.
//!
//! The measured program has one processor to itself; the load and the backends share another. Everything runs in a
//! separate network namespace, without the packet filter of the machine.

mod case;
mod certificates;
mod contender;
mod floor;
mod h2;
mod h2_raw;
mod lab;
mod large;
mod load;
mod origin;
mod reloads;
mod report;
mod sections;
mod times;
mod tls;
mod wrk;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::Trouble;
use crate::machine::{enter_own_network, machine};
use case::Case;
pub(crate) use floor::{FloorArguments, run as floor};
use lab::{Lab, Stage};
use report::{Column, Comparison};
use sections::Section;
use wrk::Pattern;

/// The options of `cargo xtask peers`.
#[derive(Debug, Args)]
pub(crate) struct PeersArguments {
    /// Only these cases and tables [default: all cases and tables]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// The number of rounds; each contender has one turn per round
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// The time of each measurement, in seconds
    #[arg(long, default_value_t = 2.0, value_parser = parse_seconds)]
    seconds: f64,
    /// Another build of LoadX to measure beside this one
    #[arg(long, value_name = "BINARY")]
    before: Option<PathBuf>,
    /// Also count the system calls of a request; needs strace, and takes longer
    #[arg(long)]
    calls: bool,
    /// Measure LoadX alone
    #[arg(long)]
    alone: bool,
    /// Set when the run is in its own network namespace
    #[arg(long, hide = true)]
    inside: bool,
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=600.0).contains(&seconds) => Ok(seconds),
        _ => Err("write a number of seconds from 0.1 to 600".to_owned()),
    }
}

pub(crate) fn run(arguments: &PeersArguments) -> Result<(), Trouble> {
    // `1m` also stands for all cases that begin with `1m-`.
    let is_of =
        |name: &str, only: &str| name == only || name.strip_prefix(only).is_some_and(|rest| rest.starts_with('-'));
    let wanted = |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| is_of(name, only));
    let cases: Vec<Case> = case::all().into_iter().filter(|case| wanted(&case.name)).collect();
    let sections: Vec<&Section> = sections::ALL.iter().filter(|section| wanted(section.name)).collect();
    if let Some(unknown) = arguments.only.iter().find(|only| !names().iter().any(|name| is_of(name, only))) {
        return Err(format!("--only \"{unknown}\" names nothing; there are {}", names().join(", ")).into());
    }
    if let Some(binary) = arguments.before.as_ref().filter(|binary| !binary.is_file()) {
        return Err(format!("--before {}: there is no such file", binary.display()).into());
    }
    if !arguments.inside {
        return enter_own_network();
    }
    let lab = Lab::prepare(arguments.before.clone(), arguments.alone)?;
    println!("{}", machine());
    if !cases.is_empty() {
        print!("{}", report::HEADER);
    }
    let mut calls = String::new();
    for case in &cases {
        let comparison = compare(&lab, case, arguments)?;
        print!("{}", comparison.rows());
        io::stdout().flush()?;
        calls.push_str(&comparison.calls());
    }
    print!("{calls}");
    for section in sections {
        print!("\n{}", (section.run)(&lab, arguments)?);
        io::stdout().flush()?;
    }
    Ok(())
}

fn names() -> Vec<String> {
    let cases = case::all().into_iter().map(|case| case.name);
    cases.chain(sections::ALL.iter().map(|section| section.name.to_owned())).collect()
}

fn compare(lab: &Lab, case: &Case, arguments: &PeersArguments) -> Result<Comparison, Trouble> {
    let contenders = lab.contenders(&case.peers);
    let mut columns: Vec<Column> = contenders.iter().map(|contender| Column::new(contender.name())).collect();
    let pattern = Pattern::of(case, lab)?;
    let span = Duration::from_secs_f64(arguments.seconds);
    for _ in 0..arguments.rounds {
        for (contender, column) in contenders.iter().zip(&mut columns) {
            column.samples.push(lab.turn(case, contender, &Stage::USUAL, span)?);
            if let Some(pattern) = &pattern {
                column.by_wrk.push(lab.turn_of_wrk(case, contender, pattern, span)?);
            }
        }
    }
    if arguments.calls {
        for (contender, column) in contenders.iter().zip(&mut columns) {
            column.calls = lab.traced_turn(case, contender)?;
        }
    }
    let (case, about, budget) = (case.name.clone(), case.about.clone(), case.budget.clone());
    Ok(Comparison { case, about, columns, budget })
}
