//! `loadx demo`: three test backends, LoadX in front of them, some traffic, and what to try next.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use loadx_bench::{Plan, Report, Target};
use loadx_core::config::{Config, parse};

use super::trouble::{ListenOption, Trouble, other_port, print};
use crate::backend::{Behaviour, TestBackend};
use crate::logging;
use crate::signals::Signals;

/// How many test backends the demo has.
const BACKENDS: u16 = 3;

/// The options of `loadx demo`.
#[derive(Debug, Args)]
pub(super) struct DemoArguments {
    /// The TCP port of LoadX; 0 lets the system choose a free port
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// The TCP port of the first test backend; the other two take the next two ports
    #[arg(long, value_name = "PORT", default_value_t = 8001, value_parser = clap::value_parser!(u16).range(1..=65_533))]
    backend_port: u16,
}

pub(super) fn demo(arguments: &DemoArguments) -> Result<ExitCode, Trouble> {
    let _events = logging::start(false);
    let mut signals = Signals::catch().map_err(|error| Trouble::Failure(format!("cannot catch signals: {error}")))?;
    let backends = start_backends(arguments.backend_port)?;
    let running = loadx_proxy::start(&config(arguments)?).map_err(|error| ListenOption::Port.explain(&error))?;
    let port = running.addresses().first().map_or(arguments.port, SocketAddr::port);
    print(&format!(
        "\n{BACKENDS} test backends run on ports {} to {}, LoadX in front of them on http://localhost:{port}\n",
        arguments.backend_port,
        arguments.backend_port + BACKENDS - 1,
    ))?;
    let report = some_traffic(port)?;
    print(&told(&report))?;
    print(&invitation(port, arguments.backend_port))?;
    signals.wait();
    print("\nstopping\n")?;
    signals.second_ends_at_once();
    running.stop();
    backends.into_iter().for_each(TestBackend::stop);
    print("LoadX and the test backends have stopped\n")?;
    Ok(ExitCode::SUCCESS)
}

fn start_backends(first_port: u16) -> Result<Vec<TestBackend>, Trouble> {
    let behaviour = Behaviour { latency: Duration::ZERO, fail_rate: 0.0, healthy: true };
    let start = |index: u16| {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, first_port + index));
        let other = format!("--backend-port {}", other_port(first_port));
        super::backend::start(&format!("backend-{}", index + 1), address, behaviour.clone(), &other)
    };
    (0..BACKENDS).map(start).collect()
}

/// Probes every two seconds, so that a change shows while one watches.
fn config(arguments: &DemoArguments) -> Result<Config, Trouble> {
    let backends: Vec<_> = (0..BACKENDS)
        .map(|index| {
            let port = arguments.backend_port + index;
            serde_json::json!({ "host": "localhost", "port": port, "name": format!("backend-{}", index + 1) })
        })
        .collect();
    let text = serde_json::json!({
        "proxy_host": "127.0.0.1",
        "proxy_port": arguments.port,
        "backend_servers": backends,
        "health_check_interval": 2,
        "shutdown_grace": 5,
    });
    parse(&text.to_string()).map_err(|faults| {
        let first = faults.iter().next().map(|fault| fault.message.clone()).unwrap_or_default();
        Trouble::Input(first)
    })
}

fn some_traffic(port: u16) -> Result<Report, Trouble> {
    let target = Target { host: "127.0.0.1".to_owned(), port, path: "/".to_owned() };
    let plan = Plan { target, requests: 12, concurrency: 2, timeout: Duration::from_secs(5) };
    loadx_bench::run(&plan, |_| {}).map_err(|error| Trouble::Failure(format!("cannot send traffic: {error}")))
}

fn told(report: &Report) -> String {
    let shares: Vec<String> = report.backends.iter().map(|(name, count)| format!("{name} answered {count}")).collect();
    format!("{} requests sent, {} failed: {}\n", report.requests, report.failed, shares.join(", "))
}

fn invitation(port: u16, backend_port: u16) -> String {
    format!(
        "
Try, in another terminal:
  curl http://localhost:{port}/                             who answers takes turns
  curl http://localhost:{port}/__status__                   LoadX and its backends
  curl http://localhost:{port}/__metrics__                  rates, response times, status codes
  curl -X POST http://localhost:{backend_port}/health/fail           backend-1 falls ill, LoadX takes it out
  curl -X POST http://localhost:{backend_port}/health/recover        and back in
  cargo run --release -- bench -n 1000 -c 20 --url http://localhost:{port}

Each request is logged below. Ctrl-C stops everything.

"
    )
}
