//! What survives a restart: the changes and the config that an operator asked to keep, and the last confirmed config while
//! another one is on trial.
//!
//! The file is replaced as a whole: after a crash at any moment the file is the former one or the new one.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use loadx_core::config::Changes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Base, Origin, State, read};
use crate::config_file;

/// The state file of one config file.
#[derive(Clone, Debug)]
pub(crate) struct StateFile {
    path: PathBuf,
    stored: Stored,
}

/// The content of the state file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Stored {
    /// The config that an operator asked to keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    config: Option<KeptConfig>,
    /// The changes of backends that an operator asked to keep.
    #[serde(default, skip_serializing_if = "Changes::is_empty")]
    changes: Changes,
    /// The config that is on trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unconfirmed: Option<Unconfirmed>,
    /// The text of the config file, if LoadX went back from this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<Unconfirmed>,
}

/// A config that LoadX runs in place of the config file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KeptConfig {
    name: String,
    text: Arc<str>,
    /// The hash of the config file at the time: a file that was edited since then is a newer word of the operator.
    replaces: String,
}

/// A config that nobody has confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Unconfirmed {
    name: String,
    /// The hash of its text.
    hash: String,
    /// The text of the config before it.
    confirmed: Arc<str>,
    /// Why LoadX went back; `None` while the trial runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// What LoadX starts with.
pub(crate) struct Start {
    pub(crate) file: Option<PathBuf>,
    pub(crate) base: Base,
    /// The changes of backends.
    pub(crate) changes: Changes,
    /// Those of the changes that survive a restart.
    pub(crate) kept: Changes,
    pub(crate) store: Option<StateFile>,
    /// What the operator should know about the choice of the config.
    pub(crate) note: Option<String>,
    /// What else the operator should know.
    pub(crate) warnings: Vec<String>,
}

impl Stored {
    /// Forgets the configs of operators.
    pub(super) fn forget_configs(&mut self) {
        (self.config, self.unconfirmed, self.refused) = (None, None, None);
    }
}

/// Chooses the config to start with: the file, unless the state file says that an operator kept another config, or that
/// nobody confirmed the text of the file.
///
/// A state file that cannot be read or used must not keep LoadX from its work: LoadX starts with the config file, and the
/// note says so.
pub(crate) fn start(file: PathBuf, base: Base, state: PathBuf) -> Start {
    let mut start = Start::new(Some(file), base);
    let mut stored = load(&state).unwrap_or_else(|error| {
        // The next change would replace the file, which a person may want to mend.
        let aside = state.with_extension("json.bad");
        let moved = match fs::rename(&state, &aside) {
            Ok(()) => format!("; the file is now {}", aside.display()),
            Err(_) => String::new(),
        };
        start.note = Some(format!("the state file {} is not used: {error}{moved}", state.display()));
        Stored::default()
    });
    let invalid = stored.changes.drop_invalid();
    if invalid > 0 {
        start.warnings.push(format!("changes of the state file that are not valid, and not used: {invalid}"));
    }
    start.choose(&stored);
    start.changes = stored.changes.clone();
    let dropped = start.changes.prune(&start.base.config);
    start.warnings.extend(dropped.iter().map(super::lost));
    start.kept = start.changes.clone();
    start.store = Some(StateFile { path: state, stored });
    start
}

impl Start {
    /// A start without a state file.
    pub(crate) fn new(file: Option<PathBuf>, base: Base) -> Self {
        let (changes, kept) = Default::default();
        Start { file, base, changes, kept, store: None, note: None, warnings: Vec::new() }
    }

    /// A start with what the former process ran.
    pub(crate) fn after(
        file: Option<PathBuf>,
        base: Base,
        (changes, kept): (Changes, Changes),
        state: Option<PathBuf>,
    ) -> Self {
        let store = state.map(|path| {
            let stored = load(&path).unwrap_or_default();
            StateFile { path, stored }
        });
        Start { file, base, changes, kept, store, note: None, warnings: Vec::new() }
    }

    /// Whether the config file has changed since the config was read from the file.
    pub(crate) fn is_behind_file(&self) -> bool {
        let typed = self.file.as_deref().and_then(|file| hash_of(file).ok());
        let text = self.base.text.as_deref().map(hash);
        self.base.origin == Origin::File && typed.is_some() && typed != text
    }

    fn choose(&mut self, stored: &Stored) {
        let typed = hash(self.base.text.as_deref().unwrap_or_default());
        let is_typed = |unconfirmed: &&Unconfirmed| unconfirmed.hash == typed;
        let refused = stored.unconfirmed.iter().chain(&stored.refused).find(is_typed);
        let (text, name, note) = match (refused.or(stored.unconfirmed.as_ref()), &stored.config) {
            // A config that was kept since is a newer word of the operator.
            (_, Some(kept)) if kept.replaces == typed => {
                let note = format!(
                    "LoadX runs the config {}, which an operator kept, and not the config file. To use the file: loadx \
                     ctl reload",
                    kept.name
                );
                (&kept.text, &*kept.name, note)
            }
            (Some(unconfirmed), _) if unconfirmed.hash == typed => {
                let why = unconfirmed.reason.as_deref().unwrap_or("LoadX ended before anybody confirmed it");
                let note = format!(
                    "the config file is not used, because its text was on trial and is not confirmed ({why}); LoadX runs \
                     the last confirmed config. To use the file: loadx ctl reload"
                );
                (&unconfirmed.confirmed, "the last confirmed config", note)
            }
            (Some(unconfirmed), _) if unconfirmed.reason.is_none() => {
                self.note = Some(format!(
                    "the config {} was on trial when LoadX ended, and is not confirmed; LoadX runs the config file",
                    unconfirmed.name
                ));
                return;
            }
            (_, Some(kept)) => {
                self.note = Some(format!(
                    "the config file was edited after an operator kept the config {}; LoadX runs the config file",
                    kept.name
                ));
                return;
            }
            _ => return,
        };
        match read(text, name) {
            Ok((config, _)) => {
                self.base = Base { config, text: Some(Arc::clone(text)), origin: Origin::Operator(name.to_owned()) };
                self.note = Some(note);
            }
            Err(error) => {
                let why = error.to_string();
                self.note = Some(format!("{name} of the state file is faulty, LoadX runs the config file: {why}"));
            }
        }
    }
}

impl State {
    /// Changes what survives a restart; the reason when it cannot be written.
    pub(super) fn save(&mut self, change: impl FnOnce(&mut Stored)) -> Result<(), String> {
        let Some(store) = &mut self.store else { return Ok(()) };
        let mut stored = store.stored.clone();
        change(&mut stored);
        store.replace(stored)
    }

    /// Tells that a restart would run another config than the present one.
    pub(super) fn not_kept(&self, keep: bool) -> Option<String> {
        let (file, text) = (self.file.as_ref()?, self.base.text.as_ref()?);
        let typed = hash_of(file).ok()?;
        let stored = self.store.as_ref().map(|store| &store.stored);
        let refused = stored.and_then(|stored| stored.refused.as_ref()).filter(|refused| refused.hash == typed);
        let kept = stored.and_then(|stored| stored.config.as_ref()).filter(|kept| kept.replaces == typed);
        let (next, name) = match (kept, refused) {
            (Some(kept), _) => (hash(&kept.text), format!("the kept config {}", kept.name)),
            (None, Some(refused)) => (hash(&refused.confirmed), "the last confirmed config".to_owned()),
            (None, None) => (typed, file.display().to_string()),
        };
        (!keep && next != hash(text))
            .then(|| format!("a restart of LoadX runs {name} and not this config; --keep keeps this config"))
    }

    fn store(&self) -> Result<&StateFile, String> {
        self.store.as_ref().ok_or_else(|| {
            "LoadX runs without a state file; name one with --state FILE, together with a config file".to_owned()
        })
    }

    /// Lets the changes of backends survive a restart.
    pub(super) fn save_changes(&mut self) -> Result<(), String> {
        if !self.kept.is_empty() {
            self.store()?;
        }
        let changes = self.kept.clone();
        self.save(|stored| stored.changes = changes)
    }

    /// Lets the present config survive a restart.
    pub(super) fn keep_config(&mut self) -> Result<(), String> {
        self.store()?;
        let config = self.kept_config()?;
        self.save(|stored| {
            (stored.config, stored.unconfirmed) = (config, None);
        })
    }

    /// The present config for the next start; `None` if the config file has the same text.
    fn kept_config(&self) -> Result<Option<KeptConfig>, String> {
        let (Some(file), Some(text)) = (&self.file, &self.base.text) else {
            return Err("LoadX runs without a config file".to_owned());
        };
        let replaces = hash_of(file)?;
        let name = match &self.base.origin {
            Origin::Operator(name) => name.clone(),
            Origin::File | Origin::Options => return Ok(None),
        };
        Ok((hash(text) != replaces).then(|| KeptConfig { name, text: Arc::clone(text), replaces }))
    }

    /// Notes that `base` is on trial, before LoadX applies it.
    pub(super) fn note_trial(&mut self, base: &Base) -> Result<(), String> {
        self.store()?;
        let (Some(text), Some(confirmed)) = (&base.text, self.base.text.clone()) else {
            return Err("LoadX runs without a config file".to_owned());
        };
        let Origin::Operator(name) = &base.origin else { return Ok(()) };
        let unconfirmed = Unconfirmed { name: name.clone(), hash: hash(text), confirmed, reason: None };
        self.save(|stored| stored.unconfirmed = Some(unconfirmed))
    }

    /// Notes that the trial ended well.
    pub(super) fn note_confirmed(&mut self, keep: bool) -> Result<(), String> {
        if keep {
            self.keep_config()?;
        }
        self.note_stays()
    }

    /// Notes that the present config stays: a text that LoadX has refused before is refused no more.
    pub(super) fn note_stays(&mut self) -> Result<(), String> {
        let text = self.base.text.as_deref().map(hash);
        self.save(|stored| {
            stored.unconfirmed = None;
            stored.refused.take_if(|refused| Some(&refused.hash) == text.as_ref());
        })
    }

    /// Notes that LoadX went back. A config file with the refused text is not used at the next start either.
    pub(super) fn note_rollback(&mut self, reason: &str) -> Result<(), String> {
        let typed = self.file.as_deref().and_then(|file| hash_of(file).ok());
        self.save(|stored| {
            let is_typed = |unconfirmed: &Unconfirmed| Some(&unconfirmed.hash) == typed.as_ref();
            if let Some(unconfirmed) = stored.unconfirmed.take().filter(is_typed) {
                stored.refused = Some(Unconfirmed { reason: Some(reason.to_owned()), ..unconfirmed });
            }
        })
    }

    /// Notes that the trial did not begin.
    pub(super) fn forget_trial(&mut self) -> Result<(), String> {
        self.save(|stored| stored.unconfirmed = None)
    }

    /// Whether LoadX went back from this text.
    pub(super) fn is_refused(&self, text: &str) -> bool {
        let stored = self.store.as_ref().and_then(|store| store.stored.refused.as_ref());
        self.refused.as_deref() == Some(text) || stored.is_some_and(|refused| refused.hash == hash(text))
    }
}

impl StateFile {
    fn replace(&mut self, stored: Stored) -> Result<(), String> {
        if stored == self.stored {
            return Ok(());
        }
        let text = format!("{}\n", serde_json::to_string_pretty(&stored).map_err(|error| error.to_string())?);
        write(&self.path, text.as_bytes()).map_err(|error| {
            format!("cannot write the state file {}: {error}; name another one with --state FILE", self.path.display())
        })?;
        self.stored = stored;
        Ok(())
    }
}

/// The folder for what LoadX keeps: the state directory of systemd, otherwise that of the system or the user.
pub(crate) fn state_directory() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    Some(match variable("STATE_DIRECTORY") {
        Some(directory) => directory,
        None if rustix::process::geteuid().is_root() => PathBuf::from("/var/lib/loadx"),
        None => variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")))?.join("loadx"),
    })
}

/// The state file of a config file, in the state directory.
pub(crate) fn default_path(config: &Path) -> Option<PathBuf> {
    let directory = state_directory()?;
    let absolute = fs::canonicalize(config).unwrap_or_else(|_| config.to_owned());
    let name = &hash(&absolute.to_string_lossy())[..16];
    Some(directory.join(format!("state-{name}.json")))
}

fn load(path: &Path) -> Result<Stored, String> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| format!("its content is not valid: {error}")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Stored::default()),
        Err(error) => Err(error.to_string()),
    }
}

/// Replaces the file as a whole.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !directory.exists() {
        fs::create_dir_all(directory)?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = directory.join(name);
    let mut file = private(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    // The name survives a power failure too.
    File::open(directory)?.sync_all()
}

/// A new file that only this user may read: configs may have secrets.
fn private(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn hash_of(file: &Path) -> Result<String, String> {
    let text = config_file::read_regular(file);
    Ok(hash(&text.map_err(|error| format!("cannot read {}: {error}", file.display()))?))
}

fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
