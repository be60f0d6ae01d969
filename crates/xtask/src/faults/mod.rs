//! `cargo xtask faults`: what clients notice when backends fail, behind LoadX, nginx, HAProxy and Envoy.
//!
//! Three backends that take 5 ms for a response get a steady load of 200 GETs and 20 POSTs a second. After 3 seconds the second
//! backend, or all of them, are broken for 10 seconds; 25 seconds more show the return.

mod backend;
mod case;
mod contenders;
mod load;
mod manner;
mod names;
mod overload;
mod stage;
mod verdict;

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use clap::Args;
use rustix::process::Signal;

pub(crate) use backend::{BackendArguments, backend};
use case::{AFTER, BEFORE, Case, DURING, Fault};
use contenders::{Contender, Setup};
use load::Load;
use manner::Manner;
use names::Names;
pub(crate) use overload::{OverloadArguments, overload};
use stage::{Stage, since_epoch, wait_for};
use verdict::Verdict;

use crate::Trouble;
use crate::machine::{enter_own_network, machine};
use crate::processes::Process;

/// The options of `cargo xtask faults`.
#[derive(Debug, Args)]
pub(crate) struct FaultsArguments {
    /// Only these faults [default: all]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Measure LoadX alone
    #[arg(long)]
    alone: bool,
    /// Set when the run is in its own network namespace
    #[arg(long, hide = true)]
    inside: bool,
}

pub(crate) fn run(arguments: &FaultsArguments) -> Result<(), Trouble> {
    if let Some(unknown) = arguments.only.iter().find(|name| !case::ALL.iter().any(|case| case.name == **name)) {
        let names: Vec<&str> = case::ALL.iter().map(|case| case.name).collect();
        return Err(format!("--only \"{unknown}\" names no fault; there are {}", names.join(", ")).into());
    }
    if !arguments.inside {
        return enter_own_network();
    }
    println!("{}", machine());
    println!(
        "| fault of one backend of three | proxy | GETs failed of {} | POSTs failed of {} | POSTs that ran twice | \
         worst delay, ms | p99 delay, ms | clients notice until | last request there | back after |",
        (load::GETS * (BEFORE + DURING + AFTER).as_secs_f64()) as u64,
        (BEFORE + DURING + AFTER).as_millis() / 50,
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let contenders = Contender::ALL
        .into_iter()
        .filter(|contender| contender.is_installed() && (!arguments.alone || *contender == Contender::LoadX));
    let contenders: Vec<Contender> = contenders.collect();
    for case in case::ALL
        .iter()
        .filter(|case| arguments.only.is_empty() || arguments.only.iter().any(|only| *only == case.name))
    {
        for contender in &contenders {
            let verdict = measure(case, *contender)?;
            println!("| {}: {} | {} | {verdict} |", case.name, case.about, contender.name());
            io::stdout().flush()?;
        }
    }
    Ok(())
}

fn measure(case: &Case, contender: Contender) -> Result<Verdict, Trouble> {
    let folder = tempfile::tempdir()?;
    let mut stage = Stage::new(folder.path(), case.fault == Fault::BlackHole)?;
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 8_000));
    let names = (case.fault == Fault::Names).then(|| Names::start(folder.path())).transpose()?;
    let mut backends: Vec<String> = stage.addresses().iter().map(ToString::to_string).collect();
    if names.is_some() {
        backends[1] = names::NAME.to_owned() + ":8001";
    }
    let mut command = contender.command(listen, &backends, folder.path(), Setup::Faults)?;
    if let Some(names) = &names {
        command = names.within(&command);
    }
    let _process = Process::start(&command, "0")?;
    wait_for(listen)?;
    // Checks of health have to begin first.
    std::thread::sleep(Duration::from_secs(1));
    let (began, epoch) = (Instant::now(), since_epoch());
    let load = Load::start(listen, BEFORE + DURING + AFTER, began);
    std::thread::sleep(BEFORE);
    break_for_a_time(&mut stage, names.as_ref(), case.fault)?;
    let fates = load.finish()?;
    let arrivals = (0..3).map(|index| stage.arrivals(index)).collect::<io::Result<Vec<_>>>()?;
    Ok(Verdict::new(&fates, &arrivals, epoch))
}

/// Breaks the second backend, or all, for [`DURING`].
fn break_for_a_time(stage: &mut Stage, names: Option<&Names>, fault: Fault) -> io::Result<()> {
    let all = if fault == Fault::KillAll { 0..3 } else { 1..2 };
    match fault {
        Fault::Kill | Fault::KillAll => all.clone().try_for_each(|index| stage.kill(index))?,
        Fault::Stop => stage.signal(1, Signal::STOP)?,
        Fault::BlackHole => stage.set_vanishing(true)?,
        Fault::Names => names.iter().for_each(|names| names.set_gone(true)),
        Fault::Manner(manner) => stage.set(1, manner)?,
        Fault::Flap => {
            for _ in 0..DURING.as_secs() / 2 {
                stage.set(1, Manner::Refuses)?;
                std::thread::sleep(Duration::from_secs(1));
                stage.set(1, Manner::Good)?;
                std::thread::sleep(Duration::from_secs(1));
            }
            return Ok(());
        }
    }
    std::thread::sleep(DURING);
    match fault {
        Fault::Kill | Fault::KillAll => all.into_iter().try_for_each(|index| stage.start_again(index)),
        Fault::Stop => stage.signal(1, Signal::CONT),
        Fault::BlackHole => stage.set_vanishing(false),
        Fault::Names => {
            names.iter().for_each(|names| names.set_gone(false));
            Ok(())
        }
        Fault::Manner(_) => stage.set(1, Manner::Good),
        Fault::Flap => Ok(()),
    }
}
