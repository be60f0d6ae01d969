//! `loadx run`: balance, until a signal stops LoadX.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use loadx_core::config::{self, Config, Faults, HostPort};
use loadx_core::{Algorithm, HttpProbe, Probe};
use loadx_proxy::Running;

use super::address::{self, BackendAddress};
use super::watch::{self, Watch};
use crate::admin::Admin;
use crate::certificates::Keeper;
use crate::logging;
use crate::manager::{Base, Followed, Manager, Origin, Start, Successor};
use crate::memory::UnusedMemory;
use crate::memory_use::{self, MemoryUse};
use crate::signals::{Signals, Wish, Woken};
use crate::systemd::Systemd;
use crate::traps::Trap;
use crate::trouble::{ListenOption, Trouble};
use crate::upgrade::Former;
use crate::words::{count, summary};
use crate::{admin, config_file, manager, open_files, systemd, traps};

/// The options of `loadx run`.
#[derive(Debug, Args)]
pub(super) struct RunArguments {
    /// The config file (see docs/config.md or `loadx schema`) [default: config.json]
    #[arg(long, short, value_name = "FILE", conflicts_with_all = ["to", "listen", "algorithm", "health_path"])]
    config: Option<PathBuf>,
    /// The address of a backend, HOST:PORT or http://HOST:PORT, or https://HOST for a backend with TLS, in place of a
    /// config file; repeat the option for more backends
    #[arg(long, value_name = "HOST:PORT", value_parser = address::parse_backend)]
    to: Vec<BackendAddress>,
    /// The name for which LoadX gets a certificate and serves HTTPS, together with --to; repeat the option for more names.
    /// LoadX then listens on port 443, and redirects from port 80; with --listen only there
    #[arg(long, value_name = "NAME", value_parser = address::parse_name, requires = "to")]
    https: Vec<String>,
    /// The address to listen on, together with --to; :PORT means all IPv4 addresses [default: 0.0.0.0:8080]
    #[arg(long, value_name = "HOST:PORT", value_parser = address::parse_listen, requires = "to")]
    listen: Option<HostPort>,
    /// How LoadX chooses a backend, together with --to [default: round_robin]
    #[arg(long, value_parser = algorithms(), requires = "to")]
    algorithm: Option<Algorithm>,
    /// The path that health probes ask for, together with --to; a status of 200 to 399 is then healthy [default:
    /// /health, and any status below 500 is healthy]
    #[arg(long, value_name = "PATH", value_parser = address::parse_path, requires = "to")]
    health_path: Option<String>,
    /// Apply the config file whenever the file changes, as after SIGHUP
    #[arg(long, conflicts_with = "to")]
    watch: bool,
    /// The Unix socket of the admin API, which `loadx ctl` uses, or "off" [default: a socket in the runtime directory,
    /// which `loadx ctl` finds]
    #[arg(long, value_name = "PATH")]
    admin: Option<PathBuf>,
    /// The file with what operators asked LoadX to keep across restarts [default: a file in the state directory]
    #[arg(long, value_name = "FILE", conflicts_with = "to")]
    state: Option<PathBuf>,
    /// Log every health probe and every retry as well as the changes of backends
    #[arg(long, short)]
    verbose: bool,
}

pub(super) fn run(arguments: &RunArguments) -> Result<ExitCode, Trouble> {
    let mut former = Former::from_environment()?;
    let outcome = serve(arguments, &mut former);
    if let (Err(trouble), Some(former)) = (&outcome, former) {
        former.fail(trouble);
    }
    outcome
}

/// Serves until a signal stops LoadX or another process takes over. `former`: the LoadX whose work this one takes over; none
/// once this one has.
fn serve(arguments: &RunArguments, former: &mut Option<Former>) -> Result<ExitCode, Trouble> {
    // Before the file is read: a change that comes while LoadX starts must not be missed.
    let mut watch = arguments.file().filter(|_| arguments.watch).map(Watch::new);
    let start = match former {
        Some(former) => arguments.start_after(former)?,
        None => arguments.start()?,
    };
    let warnings = traps::warnings(&start.base.config, arguments.file())?;
    let _events = logging::start(arguments.verbose);
    let warnings = warnings.iter().map(Trap::line);
    warnings.chain(start.note.clone()).chain(start.warnings.clone()).for_each(|warning| tracing::warn!("{warning}"));
    let config = start.changes.applied_to(&start.base.config);
    open_files::allow_for(&config);
    // Catches signals before the start, so that no early signal is lost.
    let mut signals = Signals::catch().map_err(|error| Trouble::Failure(format!("cannot catch signals: {error}")))?;
    let admin_sockets = former.as_mut().map(Former::admin_sockets);
    let opened = admin::open(&config.admin, arguments.admin.as_deref(), admin_sockets)?;
    let inherited = match former {
        Some(former) => former.inherited(),
        None => systemd::inherited(),
    };
    let keeper = Keeper::new();
    keeper.prepare(&config)?;
    let running =
        loadx_proxy::start(&config, inherited, keeper.keyring()).map_err(|error| match arguments.to.is_empty() {
            true => error.into(),
            false => ListenOption::Listen.explain(&error),
        })?;
    for listening in running.listening() {
        tracing::info!("listening on {listening}");
    }
    tracing::info!("{}, {}", over(&config), count(running.workers(), "worker"));
    if former.is_some() && start.is_behind_file() {
        // The former LoadX has not read the file since the file changed.
        watch.iter_mut().for_each(Watch::note_unread);
    }
    keeper.adopt(&config);
    keeper.start().map_err(|error| Trouble::Failure(format!("cannot start the thread for certificates: {error}")))?;
    let manager = Manager::new(start, running.generation(), running.handle().clone(), keeper);
    let mut admin = match former.take() {
        None => admin::start(opened, &manager)?,
        Some(former) => {
            tracing::info!("taking over from LoadX {}", former.offer.version);
            let (admin, link) = former.take_over(|| admin::start(opened, &manager))?;
            if let Some(link) = link {
                admin.runtime().block_on(manager.note_former(link));
            }
            admin
        }
    };
    let systemd = Systemd::from_environment();
    systemd.ready();
    systemd.sign_of_life(manager.proxy());
    let end = Serving { manager: &manager, admin: &admin, systemd: &systemd }.until_end(&mut signals, watch);
    let grace = admin.runtime().block_on(manager.stop()).as_secs_f64();
    match end {
        End::Signal(signal) => {
            tracing::info!(
                "{signal}: accepting no more clients; running requests have {grace} s to finish (a signal after more than \
                 a second ends LoadX at once)"
            );
            systemd.stopping();
        }
        End::Successor(successor) => {
            admin.leave();
            Retiring { running: &running, manager: &manager, admin: &admin }.until_deserted(&successor, &mut signals);
        }
    }
    signals.second_ends_at_once();
    running.stop();
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// The interval in which a LoadX that retires looks whether its last client has left.
const RETIRED_LOOK: Duration = Duration::from_millis(200);

/// The interval in which a LoadX that retires tells its successor what still runs.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// A LoadX whose clients another process accepts.
struct Retiring<'r> {
    running: &'r Running,
    manager: &'r Manager,
    admin: &'r Admin,
}

impl Retiring<'_> {
    /// Lets running requests and tunnels finish: until the last client has left, here and in the processes before, until the
    /// limit is over, or until a signal stops LoadX.
    fn until_deserted(&self, successor: &Successor, signals: &mut Signals) {
        let runtime = self.admin.runtime();
        self.running.retire();
        let limit = runtime.block_on(self.manager.drain_limit());
        tracing::info!(
            "process {} accepts the clients; running requests and WebSockets of process {} have {} s to finish",
            successor.pid,
            std::process::id(),
            limit.as_secs_f64()
        );
        let mut link = runtime.block_on(self.manager.take_successor_link());
        let (manager, handle) = (self.manager.clone(), runtime.clone());
        let followed =
            link.as_ref().map(|link| link.on_update(move |update| handle.block_on(manager.update_backends(&update))));
        if let Some(Err(error)) = followed {
            tracing::warn!("changes of backends do not reach the clients of this process: {error}");
        }
        let began = Instant::now();
        let mut report_at = began;
        while !self.running.has_ended() || runtime.block_on(self.manager.has_formers()) {
            if let Some(signal) = signals.wait_for(RETIRED_LOOK) {
                tracing::info!("{signal}: process {} ends what still runs", std::process::id());
                return;
            }
            let left = limit.saturating_sub(began.elapsed());
            if left.is_zero() {
                tracing::warn!(
                    "the drain after the upgrade is over; process {} ends what still runs",
                    std::process::id()
                );
                return self.running.cut();
            }
            if report_at <= Instant::now() {
                report_at = Instant::now() + REPORT_INTERVAL;
                link.iter_mut().for_each(|link| link.report(&runtime.block_on(self.manager.report(left))));
            }
        }
    }
}

/// Why LoadX stops.
enum End {
    /// A signal, by name.
    Signal(&'static str),
    /// This process has taken over.
    Successor(Successor),
}

/// A LoadX that runs.
struct Serving<'s> {
    manager: &'s Manager,
    admin: &'s Admin,
    systemd: &'s Systemd,
}

impl Serving<'_> {
    /// Obeys signals, and changes of the config file if there is a `watch`, until a signal stops LoadX or another process
    /// takes over.
    fn until_end(&mut self, signals: &mut Signals, mut watch: Option<Watch>) -> End {
        let intervals = watch.as_ref().map(|_| watch::INTERVAL).into_iter().chain(self.systemd.interval());
        let interval = intervals.fold(memory_use::LOOK_INTERVAL, Duration::min);
        let (mut memory, mut memory_use) = (UnusedMemory::new(), MemoryUse::new());
        let mut look_at = Instant::now() + interval;
        loop {
            let limit = look_at.saturating_duration_since(Instant::now());
            match signals.next_or(limit, self.manager.successor()) {
                Woken::Signal(name, Wish::Reload) => {
                    watch.iter_mut().for_each(Watch::note_read);
                    self.reload(name);
                }
                Woken::Signal(name, Wish::ReopenLog) => {
                    match self.admin.runtime().block_on(self.manager.proxy().reopen_log()) {
                        Ok(()) => tracing::info!("{name}: the access log is open again"),
                        Err(error) => tracing::error!("{name}: {error}"),
                    }
                }
                Woken::Signal(name, Wish::Upgrade) => {
                    let manager = self.manager.clone();
                    // Signs of life and other signals go on meanwhile. The manager logs the outcome.
                    self.admin.runtime().spawn(async move { drop(manager.upgrade(None, name).await) });
                }
                Woken::Signal(name, Wish::Stop) => return End::Signal(name),
                Woken::Other(successor) => return End::Successor(successor),
                Woken::Timeout => {}
            }
            // Also when signals come without a pause.
            if look_at <= Instant::now() {
                look_at = Instant::now() + interval;
                memory.look();
                memory_use.look(self.manager.proxy());
                if let Some(watch) = watch.as_mut()
                    && watch.is_due()
                {
                    self.follow(watch);
                }
                self.systemd.sign_of_life(self.manager.proxy());
            }
        }
    }

    /// Takes over the watched file, which has changed.
    fn follow(&self, watch: &mut Watch) {
        self.systemd.reloading();
        if self.admin.runtime().block_on(self.manager.follow_file()) == Followed::Later {
            watch.note_unread();
        }
        self.systemd.ready();
    }

    /// Takes over the config file as the file is now. The manager logs the outcome.
    fn reload(&mut self, cause: &str) {
        self.systemd.reloading();
        let _ = self.admin.runtime().block_on(self.manager.reload(None, cause));
        self.systemd.ready();
    }
}

impl RunArguments {
    /// The config file; `None` when options replace the file.
    fn file(&self) -> Option<&Path> {
        self.to.is_empty().then(|| self.config.as_deref().unwrap_or(Path::new("config.json")))
    }

    /// The config to start with, and what operators asked LoadX to keep.
    fn start(&self) -> Result<Start, Trouble> {
        let Some(file) = self.file() else {
            let base = Base { config: self.config_of_options()?, text: None, origin: Origin::Options };
            return Ok(Start::new(None, base));
        };
        let help = "name the file with --config, or do without one: loadx run --to localhost:8001 --to localhost:8002";
        let text = config_file::read(file, help)?;
        let config = config_file::parse(&text, &file.display().to_string())?;
        let base = Base { config, text: Some(text.into()), origin: Origin::File };
        match self.state.clone().or_else(|| manager::default_path(file)) {
            Some(state) => Ok(manager::start(file.to_owned(), base, state)),
            None => Ok(Start::new(Some(file.to_owned()), base)),
        }
    }

    /// The config that the former LoadX runs. The config file may have changed meanwhile: an upgrade changes no config.
    fn start_after(&self, former: &Former) -> Result<Start, Trouble> {
        let base = match former.config()? {
            Some((config, offered)) => Base {
                config,
                text: Some(offered.text.as_str().into()),
                origin: offered.name.clone().map_or(Origin::File, Origin::Operator),
            },
            None => Base { config: self.config_of_options()?, text: None, origin: Origin::Options },
        };
        let file = self.file().map(Path::to_owned);
        let state = file.as_ref().and_then(|file| self.state.clone().or_else(|| manager::default_path(file)));
        let changes = (former.offer.changes.clone(), former.offer.kept.clone());
        Ok(Start { note: former.offer.note.clone(), ..Start::after(file, base, changes, state) })
    }

    fn config_of_options(&self) -> Result<Config, Trouble> {
        let on = |port| HostPort { host: address::ALL_ADDRESSES.to_owned(), port };
        let (default, redirect) = if self.https.is_empty() { (on(8080), None) } else { (on(443), Some(on(80))) };
        let backends: Vec<HostPort> = self.to.iter().map(|to| to.at.clone()).collect();
        let has_tls = self.to.iter().any(|to| to.tls);
        if has_tls && !self.to.iter().all(|to| to.tls) {
            let message = "some backends have https, and others have not\n  help: write https:// before each address, or use a \
                           config file with two clusters";
            return Err(Trouble::Input(message.to_owned()));
        }
        let arguments = config::Arguments {
            listen: self.listen.as_ref().unwrap_or(&default),
            backends: &backends,
            backend_tls: has_tls,
            https: &self.https,
            redirect: redirect.as_ref().filter(|_| self.listen.is_none()),
        };
        let mut config = config::from_arguments(&arguments).map_err(|faults| explain(&faults))?;
        for cluster in &mut config.clusters {
            if let Some(algorithm) = self.algorithm {
                cluster.algorithm = algorithm;
            }
            if let Some(path) = &self.health_path {
                cluster.health.probe = Probe::Http(Box::new(HttpProbe::get(path)));
            }
        }
        Ok(config)
    }
}

/// The summary of the config, for the log.
fn over(config: &Config) -> String {
    match &config.clusters[..] {
        [only] if config.routes.len() == 1 => {
            format!("{} over {}", only.algorithm.as_str(), count(only.backends.len(), "backend"))
        }
        _ => summary(config),
    }
}

/// Reports faults of the backends as a set; each address has been checked before. Leaves out the places of the faults,
/// because the user has not seen the text of this config.
fn explain(faults: &Faults) -> Trouble {
    let each: Vec<String> = faults.iter().map(|fault| fault.message.clone()).collect();
    let help = "give each backend to --to once (a config file can give a backend a larger share: \"weight\")";
    Trouble::Input(format!("{}\n  help: {help}", each.join("; ")))
}

/// Parses the name of an algorithm; the help lists the names.
fn algorithms() -> impl clap::builder::TypedValueParser<Value = Algorithm> {
    PossibleValuesParser::new(Algorithm::ALL.map(Algorithm::as_str))
        .map(|name| Algorithm::named(&name).expect("the parser only lets names of algorithms through"))
}
