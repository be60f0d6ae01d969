//! `loadx backend`: a test backend at the command line.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::backend::{Behaviour, TestBackend};
use crate::logging;
use crate::signals::Signals;
use crate::trouble::{Trouble, other_port};

/// The options of `loadx backend`.
#[derive(Debug, Args)]
pub(super) struct BackendArguments {
    /// The TCP port to listen on; 0 lets the system choose a free port
    #[arg(long, short, default_value_t = 8001)]
    port: u16,
    /// The IP address to listen on; the default means all IPv4 addresses
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0")]
    host: std::net::IpAddr,
    /// The name of the backend in its answers and in its log [default: backend-PORT]
    #[arg(long)]
    name: Option<String>,
    /// The time to wait before each answer, in milliseconds
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 0)]
    latency: u64,
    /// The share of requests to answer with status 500, from 0 (none) to 1 (all)
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = parse_share)]
    fail_rate: f64,
    /// Answer /health with status 503 until a POST to /health/recover comes
    #[arg(long)]
    unhealthy: bool,
}

pub(super) fn backend(arguments: BackendArguments) -> Result<ExitCode, Trouble> {
    let _events = logging::start(false);
    let mut signals = Signals::catch().map_err(|error| Trouble::Failure(format!("cannot catch signals: {error}")))?;
    let address = SocketAddr::new(arguments.host, arguments.port);
    let name = arguments.name.unwrap_or_else(|| format!("backend-{}", arguments.port));
    let behaviour = Behaviour {
        latency: Duration::from_millis(arguments.latency),
        fail_rate: arguments.fail_rate,
        healthy: !arguments.unhealthy,
    };
    let other = format!("--port {}", other_port(arguments.port));
    let running = start(&name, address, behaviour, &other)?;
    tracing::info!("{name} listening on http://{}", running.address());
    signals.wait();
    running.stop();
    Ok(ExitCode::SUCCESS)
}

/// Starts a test backend, or reports why the start failed; the help names `other`, the option with another port.
pub(super) fn start(
    name: &str,
    address: SocketAddr,
    behaviour: Behaviour,
    other: &str,
) -> Result<TestBackend, Trouble> {
    TestBackend::start(name, address, behaviour).map_err(|error| {
        let port = address.port();
        let help = match error.kind() {
            ErrorKind::AddrInUse => {
                format!(
                    "port {port} is in use by another process (`lsof -i :{port}` names it); choose another: {other}"
                )
            }
            ErrorKind::PermissionDenied => {
                format!("ports below 1024 need privileges (CAP_NET_BIND_SERVICE); choose a higher port: {other}")
            }
            _ => "--host must be an address of this machine".to_owned(),
        };
        Trouble::Input(format!("{name} cannot listen on {address}: {error}\n  help: {help}"))
    })
}

fn parse_share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("write a number from 0 (never) to 1 (always)".to_owned()),
    }
}
