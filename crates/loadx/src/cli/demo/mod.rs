//! `loadx demo`: three test backends, LoadX in front of them, steady traffic, and a backend that stops and starts
//! again.

mod board;
mod traffic;

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use loadx_core::config::{Config, parse};

use crate::backend::{Behaviour, TestBackend};
use crate::logging;
use crate::signals::Signals;
use crate::trouble::{ListenOption, Trouble, other_port, print};
use board::Board;
use traffic::{Counts, Traffic};

/// The number of test backends.
const BACKENDS: u16 = 3;

/// The index of the backend that the demo kills.
const VICTIM: u16 = 1;

/// The response time of each backend: long enough that requests are under way when the demo kills a backend.
const LATENCY: Duration = Duration::from_millis(20);

/// The shortest time of each scene.
const SCENE: Duration = Duration::from_secs(3);

/// The longest time that the demo waits for the event of a scene.
const SCENE_MAX: Duration = Duration::from_secs(20);

/// The time between two lines.
const TICK: Duration = Duration::from_secs(1);

/// The options of `loadx demo`.
#[derive(Debug, Args)]
pub(super) struct DemoArguments {
    /// The TCP port of LoadX; 0 lets the system choose a free port
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// The TCP port of the first test backend; the other two take the next two ports
    #[arg(long, value_name = "PORT", default_value_t = 8001, value_parser = clap::value_parser!(u16).range(1..=65_533))]
    backend_port: u16,
    /// End after the failure and the return of a backend, with exit status 1 if a request failed [default: run until
    /// Ctrl-C]
    #[arg(long)]
    once: bool,
    /// End after this time, in seconds, with exit status 1 if a request failed [default: run until Ctrl-C]
    #[arg(long = "for", value_name = "SECONDS", conflicts_with = "once", value_parser = super::bench::parse_seconds)]
    seconds: Option<f64>,
}

pub(super) fn demo(arguments: &DemoArguments) -> Result<ExitCode, Trouble> {
    let _events = logging::start(false);
    let signals = Signals::catch().map_err(|error| Trouble::Failure(format!("cannot catch signals: {error}")))?;
    let backends = (0..BACKENDS).map(|index| start_backend(arguments.backend_port, index).map(Some));
    let backends = backends.collect::<Result<Vec<_>, _>>()?;
    let running = loadx_proxy::start(&config(arguments)?, loadx_proxy::Inherited::default(), &Arc::default())
        .map_err(|error| ListenOption::Port.explain(&error))?;
    let port = running.listening().first().map_or(arguments.port, |listening| listening.address.port());
    print(&opening(port, arguments.backend_port))?;

    let traffic = Traffic::start(port).map_err(|error| Trouble::Failure(format!("cannot send traffic: {error}")))?;
    let end = arguments.seconds.map(|seconds| Instant::now() + Duration::from_secs_f64(seconds));
    let mut stage = Stage { signals, traffic, board: Board::new(names()), backends, end };
    let ending = play(&mut stage, arguments, port)?;

    let Stage { signals, traffic, backends, mut board, .. } = stage;
    board.say("\nstopping\n")?;
    signals.second_ends_at_once();
    let counts = traffic.stop();
    running.stop();
    backends.into_iter().flatten().for_each(TestBackend::stop);
    print(&summary(&counts))?;
    print("LoadX and the test backends have stopped\n")?;
    let failed = counts.failed > 0 && ending == Ending::Planned;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Why the demo ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Ending {
    /// `--once` or `--for` ended the demo.
    Planned,
    /// A signal ended the demo.
    Signal,
}

/// The running parts of the demo.
struct Stage {
    signals: Signals,
    traffic: Traffic,
    board: Board,
    /// The backends; `None` for the killed backend.
    backends: Vec<Option<TestBackend>>,
    end: Option<Instant>,
}

/// Runs the scenes one after the other.
fn play(stage: &mut Stage, arguments: &DemoArguments, port: u16) -> Result<Ending, Trouble> {
    let victim = name(VICTIM);
    let scenes = |stage: &mut Stage| -> Result<ControlFlow<Ending>, Trouble> {
        let everyone = |counts: &Counts| names().iter().all(|name| counts.of(name) > 0);
        if let ControlFlow::Break(ending) = stage.watch(SCENE, Some(SCENE_MAX), everyone)? {
            return Ok(ControlFlow::Break(ending));
        }
        stage.board.say(&format!("\nThe demo kills {victim}. Its requests go to the other backends:\n\n"))?;
        if let Some(backend) = stage.backends[usize::from(VICTIM)].take() {
            backend.stop();
        }
        if let ControlFlow::Break(ending) = stage.watch(SCENE, Some(SCENE), |_| true)? {
            return Ok(ControlFlow::Break(ending));
        }
        stage.board.say(&format!("\nThe demo starts {victim} again. LoadX admits {victim} again:\n\n"))?;
        let before = stage.traffic.counts().of(&victim);
        stage.backends[usize::from(VICTIM)] = Some(start_backend(arguments.backend_port, VICTIM)?);
        stage.watch(SCENE, Some(SCENE_MAX), |counts| counts.of(&victim) > before)
    };
    if let ControlFlow::Break(ending) = scenes(stage)? {
        return Ok(ending);
    }
    let counts = stage.traffic.counts();
    stage.board.say(&format!("\n{victim} died and came back. {}", summary(&counts)))?;
    stage.board.say(&invitation(port, arguments.backend_port))?;
    if arguments.once {
        return Ok(Ending::Planned);
    }
    stage.board.say("Ctrl-C stops everything.\n\n")?;
    stage.board.repeat_in_place();
    loop {
        if let ControlFlow::Break(ending) = stage.watch(SCENE, None, |_| false)? {
            return Ok(ending);
        }
    }
}

impl Stage {
    /// Prints a line every [`TICK`], for at least `at_least` and until `done` returns true, but for at most `at_most`.
    fn watch(
        &mut self,
        at_least: Duration,
        at_most: Option<Duration>,
        done: impl Fn(&Counts) -> bool,
    ) -> Result<ControlFlow<Ending>, Trouble> {
        let began = Instant::now();
        loop {
            let left = self.end.map_or(TICK, |end| end.saturating_duration_since(Instant::now()).min(TICK));
            if self.signals.wait_for(left).is_some() {
                return Ok(ControlFlow::Break(Ending::Signal));
            }
            let counts = self.traffic.counts();
            if let Some(reason) = &counts.broken {
                return Err(Trouble::Failure(format!("cannot send traffic: {reason}")));
            }
            self.board.show(&counts)?;
            if self.end.is_some_and(|end| end <= Instant::now()) {
                return Ok(ControlFlow::Break(Ending::Planned));
            }
            let took = began.elapsed();
            if at_most.is_some_and(|most| took >= most) || (took >= at_least && done(&counts)) {
                return Ok(ControlFlow::Continue(()));
            }
        }
    }
}

fn name(index: u16) -> String {
    format!("backend-{}", index + 1)
}

fn names() -> Vec<String> {
    (0..BACKENDS).map(name).collect()
}

fn start_backend(first_port: u16, index: u16) -> Result<TestBackend, Trouble> {
    let behaviour = Behaviour { latency: LATENCY, fail_rate: 0.0, healthy: true };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, first_port + index));
    let other = format!("--backend-port {}", other_port(first_port));
    super::backend::start(&name(index), address, behaviour, &other)
}

/// The config of the demo. LoadX probes every two seconds, so that the demo shows changes soon, and logs no requests,
/// because hundreds of lines per second would hide the other output.
fn config(arguments: &DemoArguments) -> Result<Config, Trouble> {
    let backend = |index: u16| serde_json::json!({ "host": "127.0.0.1", "port": arguments.backend_port + index, "name": name(index) });
    let text = serde_json::json!({
        "proxy_host": "127.0.0.1",
        "proxy_port": arguments.port,
        "backend_servers": (0..BACKENDS).map(backend).collect::<Vec<_>>(),
        "health_check_interval": 2,
        "health_check_timeout": 1,
        "shutdown_grace": 5,
        "enable_logging": false,
    });
    parse(&text.to_string()).map_err(|faults| {
        let first = faults.iter().next().map(|fault| fault.message.clone()).unwrap_or_default();
        Trouble::Input(first)
    })
}

fn opening(port: u16, backend_port: u16) -> String {
    format!(
        "\n{BACKENDS} test backends run on ports {backend_port} to {}. LoadX in front of them listens on http://localhost:{port}\n\
         The demo sends requests to LoadX all the time. Each line shows the last second, and all failures so far:\n\n",
        backend_port + BACKENDS - 1
    )
}

fn summary(counts: &Counts) -> String {
    let shares: Vec<String> = names().iter().map(|name| format!("{name} answered {}", counts.of(name))).collect();
    format!("{} requests sent, {} failed: {}\n", counts.requests, counts.failed, shares.join(", "))
}

fn invitation(port: u16, backend_port: u16) -> String {
    let loadx = std::env::args().next().unwrap_or_else(|| "loadx".to_owned());
    let front = format!("curl http://localhost:{port}");
    let back = format!("curl -X POST http://localhost:{backend_port}");
    let mut text = "\nTry, in another terminal:\n".to_owned();
    for (command, effect) in [
        (format!("{front}/"), "the backends answer in turns"),
        (format!("{front}/__status__"), "LoadX and its backends"),
        (format!("{front}/__metrics__"), "rates, response times, status codes"),
        (format!("{back}/health/fail"), "backend-1 reports bad health, LoadX ejects backend-1"),
        (format!("{back}/health/recover"), "backend-1 reports good health, LoadX admits backend-1"),
    ] {
        text.push_str(&format!("  {command:<56} {effect}\n"));
    }
    text + &format!("  {loadx} bench -n 1000 -c 20 --url http://localhost:{port}\n\n")
}
