//! The owner of what the running proxy is to do: the config, the changes that operators made since, and the config on
//! trial.
//!
//! Signals, the watched file and the admin API all change the config here, one at a time. Each change makes one config for
//! the proxy, and control makes one plan of that config.

mod backends;
mod error;
mod history;
mod state_file;
mod trials;
mod upgrades;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use loadx_core::Time;
use loadx_core::config::{BackendChange, Changes, Config};
use loadx_core::plan::compare::{Difference, compare};
use loadx_core::trial::Terms;
use loadx_proxy::{ApplyError, EventRecord, Handle};
use tokio::sync::{Mutex, MutexGuard, watch};

use crate::certificates::Keeper;
use crate::upgrade::{FormerLink, Program, Starting, SuccessorLink, Update};
use crate::{config_file, open_files, traps};

pub(crate) use error::ManagerError;
use history::History;
use state_file::Stored;
pub(crate) use state_file::{Start, StateFile, default_path, start, state_directory};
use trials::Pending;
pub(crate) use trials::{PendingView, TrialEnded};
pub(crate) use upgrades::Successor;

/// A config as it was typed, and its meaning.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    pub(crate) config: Config,
    /// The text; `None` when options of the command line are the config.
    pub(crate) text: Option<Arc<str>>,
    pub(crate) origin: Origin,
}

/// Where a config came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The config file of this LoadX.
    File,
    /// The options of the command line.
    Options,
    /// An operator sent the config; with its name, such as that of a file of the operator.
    Operator(String),
}

/// The longest name of a config that an operator sends, in bytes.
const NAME_BYTES_MAX: usize = 1_024;

/// Who asks for a change, for the log and for other operators.
pub(crate) type By = str;

/// The owner. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Manager {
    state: Arc<Mutex<State>>,
    proxy: Handle,
    /// The owner of the certificates that LoadX gets itself.
    keeper: Keeper,
    started: Instant,
    /// The process that has taken over.
    successor: watch::Sender<Option<Successor>>,
    starting: Starting,
}

struct State {
    /// The config file of this LoadX; `None` when options replace the file.
    file: Option<PathBuf>,
    base: Base,
    changes: Changes,
    /// Those of the changes that survive a restart.
    kept: Changes,
    store: Option<StateFile>,
    generation: u64,
    history: History,
    pending: Option<Pending>,
    last_trial: Option<TrialEnded>,
    /// Why LoadX did not start with the config file.
    note: Option<String>,
    /// The text from which LoadX went back last: a watched file with this text is not read.
    refused: Option<Arc<str>>,
    /// Whether LoadX stops, and changes nothing any more.
    is_stopping: bool,
    /// Whether a process is about to take over.
    is_upgrading: bool,
    program: Program,
    /// The sockets of the admin API over TCP, for a process that takes over.
    admin_sockets: Vec<TcpListener>,
    /// Processes that retire.
    formers: Vec<FormerLink>,
    successor_link: Option<SuccessorLink>,
}

/// A change that was made.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    /// The number of the plan.
    pub(crate) generation: u64,
    /// What changed, in words.
    pub(crate) what: String,
    /// Whether the next start will know of the change, if the change is to be kept.
    pub(crate) is_saved: bool,
    /// What the operator should know: settings that take effect later, traps of the config.
    pub(crate) warnings: Vec<String>,
}

/// A config that an operator sends.
#[derive(Clone, Debug)]
pub(crate) struct NewConfig {
    pub(crate) text: Arc<str>,
    pub(crate) name: String,
    /// The number of the plan that the operator knows; another number is a conflict.
    pub(crate) generation: Option<u64>,
    /// Whether LoadX runs this config after a restart too.
    pub(crate) keep: bool,
    pub(crate) terms: Option<Terms>,
}

/// What became of a change of the watched file.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Followed {
    /// The change was taken over or refused.
    Done,
    /// A config is on trial, and the file is to be read afterwards.
    Later,
}

/// What another config would change.
pub(crate) struct Planned {
    pub(crate) generation: u64,
    pub(crate) differences: Vec<Difference>,
    pub(crate) running: Config,
    pub(crate) new: Config,
    pub(crate) warnings: Vec<String>,
}

/// What the manager knows, for operators.
#[derive(Clone, Debug)]
pub(crate) struct Overview {
    pub(crate) file: Option<PathBuf>,
    pub(crate) base: Base,
    pub(crate) changes: Vec<BackendChange>,
    pub(crate) kept: Vec<BackendChange>,
    pub(crate) generation: u64,
    pub(crate) pending: Option<PendingView>,
    pub(crate) last_trial: Option<TrialEnded>,
    pub(crate) note: Option<String>,
}

impl Manager {
    /// Takes over the config that the proxy was started with.
    pub(crate) fn new(start: Start, generation: u64, proxy: Handle, keeper: Keeper) -> Self {
        let Start { file, base, changes, kept, store, note, warnings: _ } = start;
        let mut history = History::default();
        if generation > 1 {
            history.add(generation, "this process took over".to_owned());
        }
        let state = State {
            file,
            base,
            kept,
            changes,
            store,
            generation,
            history,
            pending: None,
            last_trial: None,
            note,
            refused: None,
            is_stopping: false,
            is_upgrading: false,
            program: Program::this(),
            admin_sockets: Vec::new(),
            formers: Vec::new(),
            successor_link: None,
        };
        let (successor, _) = watch::channel(None);
        let starting = Starting::default();
        Manager { state: Arc::new(Mutex::new(state)), proxy, keeper, started: Instant::now(), successor, starting }
    }

    pub(crate) fn proxy(&self) -> &Handle {
        &self.proxy
    }

    fn now(&self) -> Time {
        Time::ZERO + self.started.elapsed()
    }

    /// What the manager knows.
    pub(crate) async fn overview(&self) -> Overview {
        let state = self.state.lock().await;
        Overview {
            file: state.file.clone(),
            base: state.base.clone(),
            // Changes of other configs sleep during a trial.
            changes: effective(&state.changes, &state.base.config),
            kept: effective(&state.kept, &state.base.config),
            generation: state.generation,
            pending: state.pending.as_ref().map(|pending| pending.view(self.now())),
            last_trial: state.last_trial.clone(),
            note: state.note.clone(),
        }
    }

    /// Takes over the config file as the file is now. A faulty file changes nothing.
    ///
    /// # Errors
    /// When there is no file, the file is faulty, the proxy refuses the config, or another config is on trial.
    pub(crate) async fn reload(&self, generation: Option<u64>, by: &By) -> Result<Done, ManagerError> {
        let mut state = self.state.lock().await;
        state.expect(generation)?;
        let Some(file) = state.file.clone() else {
            let reason = "no config file to read again; the options of the command line are the config";
            tracing::warn!("{by}: {reason}");
            return Err(ManagerError::Conflict(reason.to_owned()));
        };
        tracing::info!("{by}: reading {} again", file.display());
        let applied = match state.nothing_pending().and_then(|()| read_again(&file)) {
            Ok((base, warnings)) => self.apply(&mut state, base, warnings).await,
            Err(error) => Err(error),
        };
        let mut done = applied.map_err(|error| self.note_failure(error))?;
        // The file is the newest word of the operator.
        let saved = state.save(Stored::forget_configs).and(Self::settle(&mut state, &mut done.warnings));
        (state.note, state.refused) = (None, None);
        Ok(self.told(&mut state, by, format!("reload of {}", file.display()), done, saved))
    }

    /// Takes over the watched config file, which has changed.
    pub(crate) async fn follow_file(&self) -> Followed {
        {
            let state = self.state.lock().await;
            if state.pending.is_some() {
                return Followed::Later;
            }
            let text = state.file.as_ref().and_then(|file| config_file::read_regular(file).ok());
            if text.is_some_and(|text| state.is_refused(&text)) {
                tracing::warn!(
                    "the changed config file is not read: LoadX went back from this text; use loadx ctl reload"
                );
                return Followed::Done;
            }
        }
        // The log has the outcome.
        drop(self.reload(None, "the config file changed").await);
        Followed::Done
    }

    /// Notes the sockets of the admin API over TCP, for a process that takes over.
    pub(crate) async fn note_admin_sockets(&self, sockets: Vec<TcpListener>) {
        self.state.lock().await.admin_sockets = sockets;
    }

    /// The process that takes over, once it has.
    pub(crate) async fn successor(&self) -> Successor {
        let mut successor = self.successor.subscribe();
        loop {
            if let Some(successor) = &*successor.borrow_and_update() {
                return successor.clone();
            }
            // The manager itself holds the sender.
            let _ = successor.changed().await;
        }
    }

    /// The longest time of running exchanges at backends that leave; also that of a LoadX that retires.
    pub(crate) async fn drain_limit(&self) -> Duration {
        self.state.lock().await.base.config.timeouts.drain
    }

    /// Changes nothing from now on. Returns the time that running exchanges have to finish.
    pub(crate) async fn stop(&self) -> Duration {
        let mut state = self.state.lock().await;
        state.is_stopping = true;
        self.starting.close();
        state.base.config.timeouts.shutdown_grace
    }

    /// Compares a text with the running config.
    ///
    /// # Errors
    /// When the text is faulty.
    pub(crate) async fn plan(&self, text: &str, name: &str) -> Result<Planned, ManagerError> {
        let (base, changes, generation) = {
            let state = self.state.lock().await;
            (state.base.config.clone(), state.changes.clone(), state.generation)
        };
        let (text, name) = (text.to_owned(), name.to_owned());
        // The share of clients that move takes time for thousands of backends; other operators need not wait.
        let compared = tokio::task::spawn_blocking(move || {
            let (config, warnings) = read(&text, &name)?;
            let dropped = changes.clone().prune(&config);
            let (running, new) = (changes.applied_to(&base), changes.applied_to(&config));
            let warnings = warnings.into_iter().chain(dropped.iter().map(lost)).collect();
            Ok(Planned { generation, differences: compare(&running, &new), running, new, warnings })
        });
        compared
            .await
            .unwrap_or_else(|error| Err(ManagerError::Conflict(format!("a defect of LoadX ended the plan: {error}"))))
    }

    /// Makes the config of an operator the running config; on trial, if there are terms.
    ///
    /// # Errors
    /// When the text is faulty, the proxy refuses the config, the number of the plan is not the one that the operator knows,
    /// or another config is on trial.
    pub(crate) async fn apply_config(&self, new: NewConfig, by: &By) -> Result<Done, ManagerError> {
        let mut state = self.state.lock().await;
        state.expect(new.generation)?;
        state.nothing_pending()?;
        if new.name.len() > NAME_BYTES_MAX || new.name.chars().any(char::is_control) {
            return Err(ManagerError::Faulty(format!(
                "the name of the config is longer than {NAME_BYTES_MAX} bytes or has control characters"
            )));
        }
        let (config, warnings) = read(&new.text, &new.name)?;
        let what = format!("config {}", new.name);
        let base = Base { config, text: Some(new.text), origin: Origin::Operator(new.name) };
        let Some(terms) = new.terms else {
            let mut done = self.apply(&mut state, base, warnings).await?;
            let saved = if new.keep { state.keep_config() } else { Ok(()) };
            let saved = state.note_stays().and(Self::settle(&mut state, &mut done.warnings)).and(saved);
            state.refused = None;
            done.warnings.extend(state.not_kept(new.keep));
            return Ok(self.told(&mut state, by, what, done, saved));
        };
        self.begin_trial(&mut state, base, warnings, (terms, new.keep), by, what).await
    }

    /// Makes `base` with the changes of operators the config of the proxy. [`settle`](Self::settle) follows when `base` is to
    /// stay.
    async fn apply(
        &self,
        state: &mut MutexGuard<'_, State>,
        base: Base,
        mut warnings: Vec<String>,
    ) -> Result<Applying, ManagerError> {
        state.may_change()?;
        let config = state.changes.applied_to(&base.config);
        let update = Update::of(&config);
        let idle = config.clusters.iter().filter(|cluster| cluster.backends.iter().all(|spec| spec.drain));
        warnings.extend(
            idle.map(|cluster| {
                format!("all backends of the cluster {} are drained: its requests get 503", cluster.name)
            }),
        );
        self.keeper.prepare(&config)?;
        let applied = self.proxy.apply(config.clone()).await?;
        self.keeper.adopt(&config);
        state.formers.iter_mut().for_each(|former| former.send(&update));
        warnings.extend(
            applied.after_restart.iter().map(|setting| format!("{setting}; restart or upgrade LoadX to change it")),
        );
        if base.config.admin != state.base.config.admin {
            let told = "\"admin\" stays as it was: the admin API is opened once; restart or upgrade LoadX to change it";
            warnings.push(told.to_owned());
        }
        open_files::allow_for(&base.config);
        (state.base, state.generation) = (base, applied.generation);
        Ok(Applying { warnings })
    }

    /// Drops the changes of operators that have no effect on the present config, and writes the state file.
    fn settle(state: &mut MutexGuard<'_, State>, warnings: &mut Vec<String>) -> Result<(), String> {
        let base = state.base.config.clone();
        let dropped = state.changes.prune(&base);
        warnings.extend(dropped.iter().map(lost));
        state.kept.prune(&base);
        state.save_changes()
    }

    /// Logs a change that was made, and remembers the change for operators who did not know of it.
    fn told(
        &self,
        state: &mut MutexGuard<'_, State>,
        by: &By,
        what: String,
        Applying { mut warnings }: Applying,
        saved: Result<(), String>,
    ) -> Done {
        let is_saved = saved.is_ok();
        if let Err(reason) = saved {
            warnings.push(format!("done, but not kept for the next start: {reason}"));
        }
        let generation = state.generation;
        self.tell(false, &format!("the config is applied: plan {generation}, {what} ({by})"));
        warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        state.history.add(generation, format!("{what} ({by})"));
        Done { generation, what, is_saved, warnings }
    }

    fn tell(&self, is_warning: bool, text: &str) {
        if is_warning {
            tracing::warn!("{text}");
        } else {
            tracing::info!("{text}");
        }
        self.proxy.tell(EventRecord { is_warning, text: text.into() });
    }

    /// Shows why a config was not applied, in the log and in the status.
    fn note_failure(&self, error: ManagerError) -> ManagerError {
        tracing::error!("the config is not applied, LoadX goes on with the former one: {error}");
        self.proxy.note_failure(error.to_string());
        error
    }
}

/// A config that was applied, before the operator is told.
struct Applying {
    warnings: Vec<String>,
}

impl State {
    /// Fails when the plan is not the one that the operator knows.
    fn expect(&self, generation: Option<u64>) -> Result<(), ManagerError> {
        match generation {
            Some(known) if known != self.generation => {
                Err(ManagerError::Outdated { known, generation: self.generation, since: self.history.since(known) })
            }
            _ => Ok(()),
        }
    }

    /// Fails while LoadX stops or another process takes over.
    fn may_change(&self) -> Result<(), ManagerError> {
        if self.is_stopping {
            return Err(ManagerError::Refused(ApplyError::Stopping));
        }
        if self.is_upgrading {
            return Err(ManagerError::Conflict("an upgrade is under way\n  help: send the change again".to_owned()));
        }
        Ok(())
    }

    fn nothing_pending(&self) -> Result<(), ManagerError> {
        match &self.pending {
            None => Ok(()),
            Some(pending) => Err(ManagerError::Conflict(format!(
                "the config {} is on trial\n  help: confirm it or roll it back first: loadx ctl confirm, loadx ctl rollback",
                pending.name()
            ))),
        }
    }
}

/// The changes that have an effect on `base`.
fn effective(changes: &Changes, base: &Config) -> Vec<BackendChange> {
    let mut changes = changes.clone();
    changes.prune(base);
    changes.iter().cloned().collect()
}

fn lost(change: &BackendChange) -> String {
    format!("the change of an operator has no effect any more and is dropped: {change}")
}

/// Reads the text of a config. Returns its warnings too.
pub(crate) fn read(text: &str, name: &str) -> Result<(Config, Vec<String>), ManagerError> {
    let faulty = |trouble: crate::trouble::Trouble| ManagerError::Faulty(trouble.to_string());
    let config = config_file::parse(text, name).map_err(faulty)?;
    let warnings = traps::warnings(&config, Some(Path::new(name))).map_err(faulty)?;
    Ok((config, warnings.iter().map(traps::Trap::line).collect()))
}

fn read_again(file: &Path) -> Result<(Base, Vec<String>), ManagerError> {
    let text = match config_file::read_regular(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
            return Err(ManagerError::Faulty(format!("{} {error}", file.display())));
        }
        // With help for the operator.
        Err(_) => config_file::read(file, "name the file with --config FILE")
            .map_err(|trouble| ManagerError::Faulty(trouble.to_string()))?,
    };
    let (config, warnings) = read(&text, &file.display().to_string())?;
    Ok((Base { config, text: Some(text.into()), origin: Origin::File }, warnings))
}
