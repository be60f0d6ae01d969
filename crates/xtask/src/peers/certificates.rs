//! LoadX with one certificate and with ten thousand: start, memory, handshakes, and the replacement of all.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::PeersArguments;
use super::lab::{Lab, Stage};
use super::report::Spread;
use super::tls::{Authority, Identity, handshakes};
use crate::Trouble;

/// The number of certificates.
const MANY: usize = 10_000;

/// The longest time until LoadX uses a replaced certificate.
const REPLACED_LIMIT: Duration = Duration::from_secs(60);

pub(super) fn certificates(lab: &Lab, arguments: &PeersArguments) -> Result<String, Trouble> {
    let authority = Authority::new()?;
    let identity = Identity::new(lab, &authority)?;
    let folder = lab.file("certificates");
    std::fs::create_dir_all(&folder)?;
    let files: Vec<PathBuf> = (0..MANY).map(|number| folder.join(format!("{number}.pem"))).collect();
    issue(&authority, &files)?;
    let mut table = "| certificates | start ms | resident MiB | CPU µs per full handshake | all replaced, s until in use | CPU s for that |\n\
                     |---|---|---|---|---|---|\n"
        .to_owned();
    for count in [1, MANY] {
        let write = |_: u32, address: SocketAddr| {
            Ok(std::fs::write(lab.config_file(), config(lab, &identity, &files[..count], address))?)
        };
        let (mut starts, mut costs) = (Vec::new(), Vec::new());
        let (mut resident, mut replaced, mut used) = (0, 0.0, 0.0);
        for _ in 0..arguments.rounds.min(3) {
            let running = lab.start_tls_with(&write, &Stage::USUAL, &identity)?;
            starts.push(running.took.as_secs_f64() * 1_000.0);
            handshakes(running.address, Duration::from_millis(500))?;
            let before = running.process.used();
            let done = handshakes(running.address, Duration::from_secs_f64(arguments.seconds))?;
            let cost = running.process.used().since(before);
            costs.push((cost.user + cost.system) * 1e6 / done as f64);
            resident = running.process.resident();
            let name = format!("{}.many.test", count - 1);
            let former = identity.shown(running.address, &name)?;
            let (before, began) = (running.process.used(), Instant::now());
            issue(&authority, &files[..count])?;
            let written = began.elapsed();
            while identity.shown(running.address, &name)? == former {
                if began.elapsed() > REPLACED_LIMIT {
                    return Err("LoadX does not use the replaced certificates".into());
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            replaced = (began.elapsed() - written).as_secs_f64();
            let after = running.process.used().since(before);
            used = after.user + after.system;
        }
        let median = |values: Vec<f64>| Spread::of(values.into_iter()).median;
        let _ = writeln!(
            table,
            "| {count} | {:.1} | {:.1} | {:.1} | {replaced:.1} | {used:.2} |",
            median(starts),
            resident as f64 / (1024.0 * 1024.0),
            median(costs),
        );
    }
    Ok(table)
}

/// Replaces each of the files by a new certificate.
fn issue(authority: &Authority, files: &[PathBuf]) -> Result<(), Trouble> {
    for (number, path) in files.iter().enumerate() {
        let beside = path.with_extension("new");
        std::fs::write(&beside, authority.issue(&format!("{number}.many.test"))?)?;
        std::fs::rename(&beside, path)?;
    }
    Ok(())
}

fn config(lab: &Lab, identity: &Identity, files: &[PathBuf], address: SocketAddr) -> String {
    let entry = |path: &Path| format!("{{\"certificate\":\"{}\"}}", path.display());
    let entries: Vec<String> = files.iter().map(|path| entry(path)).collect();
    format!(
        "{{\"listeners\":[{{\"address\":\"{address}\",\"tls\":{{\"certificate\":\"{}\",\"certificates\":[{}]}}}}],\
         \"workers\":1,\"enable_logging\":false,\"clusters\":{{\"web\":{{\"backends\":[\"{}\"]}}}}}}",
        identity.pem.display(),
        entries.join(",\n"),
        lab.first_backend(),
    )
}
