//! `loadx run`: balance, until a signal stops LoadX.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use loadx_core::config::{self, Config, Faults, HostPort};
use loadx_core::{Accepts, Algorithm, Probe};
use loadx_proxy::{Applied, Running};

use super::watch::{self, Watch};
use super::{address, open_files};
use crate::logging;
use crate::signals::{Signals, Wish};
use crate::systemd::Systemd;
use crate::trouble::{ListenOption, Trouble};
use crate::words::{count, summary};
use crate::{config_file, traps};

/// The options of `loadx run`.
#[derive(Debug, Args)]
pub(super) struct RunArguments {
    /// The config file (see docs/config.md or `loadx schema`) [default: config.json]
    #[arg(long, short, value_name = "FILE", conflicts_with_all = ["to", "listen", "algorithm", "health_path"])]
    config: Option<PathBuf>,
    /// The address of a backend, HOST:PORT or http://HOST:PORT, in place of a config file; repeat the option for
    /// more backends
    #[arg(long, value_name = "HOST:PORT", value_parser = address::parse_backend)]
    to: Vec<HostPort>,
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
    /// Log every health probe and every retry as well as the changes of backends
    #[arg(long, short)]
    verbose: bool,
}

pub(super) fn run(arguments: &RunArguments) -> Result<ExitCode, Trouble> {
    // Before the file is read: a change that comes while LoadX starts must not be missed.
    let watch = arguments.file().filter(|_| arguments.watch).map(Watch::new);
    let mut config = arguments.config()?;
    let warnings = traps::warnings(&config, arguments.file())?;
    let _events = logging::start(arguments.verbose);
    for warning in warnings {
        tracing::warn!("{}", warning.line());
    }
    allow_files(&config);
    // Catches signals before the start, so that no early signal is lost.
    let mut signals = Signals::catch().map_err(|error| Trouble::Failure(format!("cannot catch signals: {error}")))?;
    let running = loadx_proxy::start(&config).map_err(|error| match arguments.to.is_empty() {
        true => error.into(),
        false => ListenOption::Listen.explain(&error),
    })?;
    for address in running.addresses() {
        tracing::info!("listening on http://{address}");
    }
    tracing::info!("{}, {}", over(&config), count(running.workers(), "worker"));
    let systemd = Systemd::from_environment();
    systemd.ready();
    let signal = Serving { file: arguments.file(), running: &running, config: &mut config, systemd: &systemd }
        .until_stop(&mut signals, watch);
    let grace = config.timeouts.shutdown_grace.as_secs_f64();
    tracing::info!(
        "{signal}: accepting no more clients; running requests have {grace} s to finish (a signal after more than a \
         second ends LoadX at once)"
    );
    systemd.stopping();
    signals.second_ends_at_once();
    running.stop();
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// A LoadX that runs, with all that may change while it runs.
struct Serving<'s> {
    /// The config file; none when options replace the file.
    file: Option<&'s Path>,
    running: &'s Running,
    /// The config that runs.
    config: &'s mut Config,
    systemd: &'s Systemd,
}

impl Serving<'_> {
    /// Obeys signals, and changes of the config file if there is a `watch`, until a signal stops LoadX. Returns the name
    /// of that signal.
    fn until_stop(&mut self, signals: &mut Signals, mut watch: Option<Watch>) -> &'static str {
        let interval = watch.as_ref().map(|_| watch::INTERVAL).into_iter().chain(self.systemd.interval()).min();
        loop {
            let signal = match interval {
                None => Some(signals.next()),
                Some(interval) => signals.next_within(interval),
            };
            match signal {
                Some((name, Wish::Reload)) => {
                    watch.iter_mut().for_each(Watch::note_read);
                    self.reload(name);
                }
                Some((name, Wish::ReopenLog)) => match self.running.reopen_log() {
                    Ok(()) => tracing::info!("{name}: the access log is open again"),
                    Err(error) => tracing::error!("{name}: {error}"),
                },
                Some((name, Wish::Stop | Wish::Nothing)) => return name,
                None => {
                    if watch.as_mut().is_some_and(Watch::is_due) {
                        self.reload("the config file changed");
                    }
                    self.systemd.sign_of_life(self.running);
                }
            }
        }
    }

    /// Takes over the config file as the file is now. A faulty config changes nothing.
    fn reload(&mut self, cause: &str) {
        let Some(file) = self.file else {
            tracing::warn!("{cause}: no config file to read again; the options of the command line are the config");
            return;
        };
        tracing::info!("{cause}: reading {} again", file.display());
        self.systemd.reloading();
        match self.read_again(file) {
            Ok(applied) => {
                for setting in applied.after_restart {
                    tracing::warn!("{setting}; restart LoadX to change the setting");
                }
            }
            Err(reason) => {
                tracing::error!("the config is not applied, LoadX goes on with the former one: {reason}");
                self.running.note_failure(reason);
            }
        }
        self.systemd.ready();
    }

    fn read_again(&mut self, file: &Path) -> Result<Applied, String> {
        // Reading a pipe could wait for ever, and no signal would be obeyed meanwhile.
        if std::fs::metadata(file).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(format!("{} is not a regular file, and LoadX reads only regular files again", file.display()));
        }
        let new = config_file::load(file).map_err(|trouble| trouble.to_string())?;
        for warning in traps::warnings(&new, Some(file)).map_err(|trouble| trouble.to_string())? {
            tracing::warn!("{}", warning.line());
        }
        allow_files(&new);
        let applied = self.running.apply(new.clone()).map_err(|error| error.to_string())?;
        *self.config = new;
        Ok(applied)
    }
}

/// A client connection takes two files: its own and the backend's.
fn allow_files(config: &Config) {
    open_files::allow(2 * config.max_connections as u64 + 100, "\"max_connections\"");
}

impl RunArguments {
    /// The config file; `None` when options replace the file.
    fn file(&self) -> Option<&Path> {
        self.to.is_empty().then(|| self.config.as_deref().unwrap_or(Path::new("config.json")))
    }

    fn config(&self) -> Result<Config, Trouble> {
        if let Some(file) = self.file() {
            return config_file::load_or_advise(
                file,
                "name the file with --config, or do without one: loadx run --to localhost:8001 --to localhost:8002",
            );
        }
        let default = HostPort { host: address::ALL_ADDRESSES.to_owned(), port: 8080 };
        let listen = self.listen.as_ref().unwrap_or(&default);
        let mut config = config::from_arguments(listen, &self.to).map_err(|faults| explain(&faults))?;
        for cluster in &mut config.clusters {
            if let Some(algorithm) = self.algorithm {
                cluster.algorithm = algorithm;
            }
            if let Some(path) = &self.health_path {
                cluster.health.probe = Probe::Get { path: path.as_str().into(), accepts: Accepts::Success };
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
