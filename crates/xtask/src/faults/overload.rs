//! `cargo xtask overload`: what clients get when they send three times what the backends can serve.
//!
//! Each of three backends works on ten requests at a time, for 50 ms each: 600 requests a second. Clients send half of that for
//! ten seconds, then three times that for a minute, then half again for ten seconds, and never wait for responses before the
//! next request.

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::Args;

use super::backend::BUSY;
use super::contenders::{Contender, Setup};
use super::load::{Fate, gets};
use super::manner::Manner;
use super::stage::{Stage, wait_for};
use crate::Trouble;
use crate::machine::{enter_own_network, machine};
use crate::processes::Process;

/// The options of `cargo xtask overload`.
#[derive(Debug, Args)]
pub(crate) struct OverloadArguments {
    /// The time of the overload, in seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Measure LoadX alone
    #[arg(long)]
    alone: bool,
    /// Set when the run is in its own network namespace
    #[arg(long, hide = true)]
    inside: bool,
}

/// The time before and after the overload.
const QUIET: Duration = Duration::from_secs(10);

/// The first time of the overload, in which a limit may still be found.
const SETTLES: Duration = Duration::from_secs(15);

/// A response after this time, without overload, shows that the overload is not over.
const RECOVERED: Duration = Duration::from_millis(75);

pub(crate) fn overload(arguments: &OverloadArguments) -> Result<(), Trouble> {
    if !arguments.inside {
        return enter_own_network();
    }
    println!("{}", machine());
    println!(
        "| proxy | served, of the capacity | p50 of these, ms | p99 of these, ms | refused | p99 of refusals, ms | \
         neither | memory before, MiB | most, MiB | at the end, MiB | quick again after |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    let setups = [
        ("LoadX, limit 10", Contender::LoadX, Setup::Overload),
        ("LoadX, auto", Contender::LoadX, Setup::OverloadAuto),
    ];
    let others = [Contender::Nginx, Contender::Haproxy, Contender::Envoy].into_iter();
    let others = others.filter(|contender| contender.is_installed() && !arguments.alone);
    let all = setups.into_iter().chain(others.map(|contender| (contender.name(), contender, Setup::Overload)));
    for (name, contender, setup) in all {
        println!("| {name} | {} |", measure(contender, setup, Duration::from_secs(arguments.seconds))?);
        io::stdout().flush()?;
    }
    Ok(())
}

fn measure(contender: Contender, setup: Setup, lasts: Duration) -> Result<String, Trouble> {
    let folder = tempfile::tempdir()?;
    let mut stage = Stage::new(folder.path(), false)?;
    (0..3).try_for_each(|index| stage.set(index, Manner::Busy))?;
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 8_000));
    let backends: Vec<String> = stage.addresses().iter().map(ToString::to_string).collect();
    let process = Process::start(&contender.command(listen, &backends, folder.path(), setup)?, "0")?;
    wait_for(listen)?;
    std::thread::sleep(Duration::from_secs(1));
    let capacity = 3.0 * BUSY.0 as f64 / BUSY.1.as_secs_f64();
    gets(listen, capacity / 2.0, QUIET)?;
    let before = process.resident();
    let load = std::thread::spawn(move || gets(listen, capacity * 3.0, lasts).map_err(|trouble| trouble.to_string()));
    let mut most = 0;
    while !load.is_finished() {
        most = most.max(process.resident());
        std::thread::sleep(Duration::from_millis(500));
    }
    let during = load.join().map_err(|_| "the load panicked")??;
    let end = process.resident();
    let after = gets(listen, capacity / 2.0, QUIET)?;
    let steady: Vec<&Fate> = during.iter().filter(|fate| fate.at > SETTLES && fate.at < lasts).collect();
    let times = |is_wanted: &dyn Fn(u16) -> bool| -> Vec<Duration> {
        steady.iter().filter(|fate| is_wanted(fate.status)).map(|fate| fate.took).collect()
    };
    let (served, refused) = (times(&|status| status == 200), times(&|status| status != 200 && status != 0));
    let recovered = recovered(&after);
    let span = (lasts.saturating_sub(SETTLES)).as_secs_f64();
    let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
    let ms = |times: &[Duration], share: f64| quantile(times, share).as_secs_f64() * 1e3;
    Ok(format!(
        "{:.1} % | {:.0} | {:.0} | {} | {:.0} | {} | {:.1} | {:.1} | {:.1} | {:.1} s",
        served.len() as f64 / (span * capacity) * 100.0,
        ms(&served, 0.5),
        ms(&served, 0.99),
        refused.len(),
        ms(&refused, 0.99),
        steady.len() - served.len() - refused.len(),
        mib(before),
        mib(most),
        mib(end),
        recovered.as_secs_f64(),
    ))
}

/// The end of the last half second in which more than one request of twenty failed or was late.
fn recovered(after: &[Fate]) -> Duration {
    let half = Duration::from_millis(500);
    let is_bad = |fate: &Fate| fate.status != 200 || fate.took > RECOVERED;
    let spans = (0..(QUIET.as_millis() / half.as_millis()) as u32).rev();
    let last = spans.map(|span| half * span).find(|begin| {
        let there: Vec<&Fate> = after.iter().filter(|fate| fate.at >= *begin && fate.at < *begin + half).collect();
        there.iter().filter(|fate| is_bad(fate)).count() * 20 > there.len()
    });
    last.map_or(Duration::ZERO, |begin| begin + half)
}

fn quantile(times: &[Duration], share: f64) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}
