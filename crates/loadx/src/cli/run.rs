//! `loadx run`: balance, until told to stop.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use loadx_core::config::{self, Config, HostPort};

use super::config_file;
use super::open_files;
use super::trouble::Trouble;
use crate::logging;
use crate::signals::Signals;

/// What can be typed after `loadx run`.
#[derive(Debug, Args)]
pub(super) struct RunArguments {
    /// The config file [default: config.json]
    #[arg(long, short, value_name = "FILE", conflicts_with_all = ["to", "listen"])]
    config: Option<PathBuf>,
    /// Without a config file: a backend; may be given several times
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_host_port)]
    to: Vec<HostPort>,
    /// Without a config file: where to listen [default: 0.0.0.0:8080]
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_host_port, requires = "to")]
    listen: Option<HostPort>,
    /// Tell every step: probes, retries, connections
    #[arg(long, short)]
    verbose: bool,
}

pub(super) fn run(arguments: &RunArguments) -> Result<ExitCode, Trouble> {
    let config = arguments.config()?;
    let _events = logging::start(arguments.verbose);
    // A client connection takes two files, its own and the backend's.
    open_files::allow(2 * config.max_connections as u64 + 100, "\"max_connections\"");
    // Caught before the start: a signal that comes early must not be lost.
    let mut signals = Signals::catch().map_err(|error| Trouble::Failure(format!("cannot catch signals: {error}")))?;
    let running = loadx_proxy::start(&config)?;
    for address in running.addresses() {
        tracing::info!("listening on http://{address}");
    }
    tracing::info!(
        "{} over {} backends, {} workers",
        config.algorithm.as_str(),
        config.backends.len(),
        running.workers()
    );
    let signal = signals.wait();
    let grace = config.timeouts.shutdown_grace.as_secs_f64();
    tracing::info!("{signal}: accepting no more; what runs has {grace} s to finish (a second signal ends it at once)");
    signals.second_ends_at_once();
    running.stop();
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

impl RunArguments {
    fn config(&self) -> Result<Config, Trouble> {
        if self.to.is_empty() {
            return config_file::load(&self.config.clone().unwrap_or_else(|| "config.json".into()));
        }
        let listen = self.listen.clone().unwrap_or(HostPort { host: "0.0.0.0".into(), port: 8080 });
        config::from_arguments(&listen, &self.to)
            .map_err(|faults| Trouble::Input(config_file::describe(&faults, "the config that --listen and --to make")))
    }
}

/// Reads `host:port`; an IPv6 address stands in brackets.
fn parse_host_port(text: &str) -> Result<HostPort, String> {
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err("the port is missing; write HOST:PORT, such as localhost:8001".to_owned());
    };
    let port = match port.parse() {
        Ok(port @ 1..) => port,
        _ => return Err(format!("\"{port}\" is not a port; it is a number from 1 to 65535")),
    };
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match bare {
        Some(address) => Ok(HostPort { host: address.to_owned(), port }),
        None if host.contains(':') => Err(format!("an IPv6 address stands in brackets: [{host}]:{port}")),
        None if host.is_empty() => Err("the host is missing; write HOST:PORT, such as localhost:8001".to_owned()),
        None => Ok(HostPort { host: host.to_owned(), port }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_or_explained() {
        let at = |host: &str, port| HostPort { host: host.into(), port };
        assert_eq!(parse_host_port("localhost:8001"), Ok(at("localhost", 8001)));
        assert_eq!(parse_host_port("[::1]:80"), Ok(at("::1", 80)));
        assert!(parse_host_port("localhost").unwrap_err().contains("port is missing"));
        assert!(parse_host_port("localhost:0").unwrap_err().contains("1 to 65535"));
        assert!(parse_host_port("::1:80").unwrap_err().contains("[::1]:80"));
        assert!(parse_host_port(":80").unwrap_err().contains("host is missing"));
    }
}
