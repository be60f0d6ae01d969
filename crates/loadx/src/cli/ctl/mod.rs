//! `loadx ctl`: looks at a running LoadX, and changes it.

pub(super) mod client;
mod explain;
mod print;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use axum::http::Method;
use clap::{Args, Subcommand};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::admin::api::{
    BackendEdit, Changed, Checked, ConfigToApply, ConfigToCheck, Connections, EventMessage, LogLevel, NewBackend,
    Status, UpgradeRequest, Upgraded,
};
use crate::config_file;
use crate::trouble::{self, Trouble};
use client::{Client, Where, segment};

/// The options of `loadx ctl`.
#[derive(Debug, Args)]
pub(super) struct CtlArguments {
    #[command(flatten)]
    place: Where,
    /// Print JSON for programs
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the config, the listeners, the clusters, and a config on trial
    Status,
    /// Show the clusters
    Clusters,
    /// Show the backends
    Backends,
    /// Show the connections of clients, and the running exchanges of backends
    Connections,
    /// Give a backend no new requests; running ones have drain_timeout to finish
    Drain(BackendArguments),
    /// Give a drained backend requests again
    Ready(BackendArguments),
    /// Change the share of the requests of a backend
    Weight {
        #[command(flatten)]
        backend: BackendArguments,
        /// The share, in proportion to the other weights, from 1 to 1000
        weight: u32,
    },
    /// Add a backend to a cluster
    Add {
        #[command(flatten)]
        backend: BackendArguments,
        /// The name of the backend in logs, metrics and pages [default: HOST:PORT]
        #[arg(long)]
        name: Option<String>,
        /// The share of the requests, in proportion to the other weights
        #[arg(long, default_value_t = 1)]
        weight: u32,
    },
    /// Remove a backend from its cluster; running exchanges have drain_timeout to finish
    Remove(BackendArguments),
    /// Undo all changes of backends that were made with this command, also the kept ones
    Discard(Expected),
    /// Print the text of the config that runs
    Config,
    /// Check a config file in the environment of the running LoadX
    Check { file: PathBuf },
    /// Show what a config file would change; the exit status is that of diff
    Plan { file: PathBuf },
    /// Apply a config file, for good or on trial
    Apply(ApplyArguments),
    /// Keep the config that is on trial
    Confirm(ChangeArguments),
    /// Go back to the config before the trial
    Rollback(Expected),
    /// Read the config file again, as SIGHUP does
    Reload(Expected),
    /// Start a new binary that takes over without losing a request, as SIGUSR2 does
    Upgrade {
        /// The new binary [default: the path of the running binary]
        #[arg(long, value_name = "PATH")]
        binary: Option<PathBuf>,
    },
    /// Show why a request was served as it was: a request that failed, was sent again, or asked with X-LoadX-Explain
    Explain {
        /// The id of the request, from X-Request-Id or the access log [default: a list of those that are known]
        id: Option<String>,
    },
    /// Print the events from now on, until Ctrl-C
    Events,
    /// Change the level of the log of events, until the next start
    LogLevel {
        /// error, warn, info or debug
        level: String,
    },
    /// Print the OpenAPI document of the admin API
    Openapi,
}

#[derive(Debug, Args)]
struct BackendArguments {
    /// Host and port of the backend, or its name
    backend: String,
    /// The cluster of the backend; needed only if several clusters have the backend
    #[arg(long)]
    cluster: Option<String>,
    #[command(flatten)]
    change: ChangeArguments,
}

#[derive(Debug, Args)]
struct ChangeArguments {
    /// Keep the change across restarts
    #[arg(long)]
    keep: bool,
    /// Make the change only if this plan runs; otherwise print what changed since
    #[arg(long, value_name = "NUMBER")]
    generation: Option<u64>,
}

#[derive(Debug, Args)]
struct ApplyArguments {
    /// The config file
    file: PathBuf,
    /// Look at the conditions for this time, such as 30s or 5m
    #[arg(long, value_name = "TIME", value_parser = time)]
    watch: Option<Duration>,
    /// Go back unless `loadx ctl confirm` is called within this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    confirm_within: Option<Duration>,
    /// Go back when this holds: "error_rate > 1%", "p99 > 250ms" or "healthy_backends < 2"; with "CLUSTER: " before it for
    /// one cluster; repeat the option for more conditions
    #[arg(long, value_name = "CONDITION", value_parser = condition)]
    rollback_if: Vec<String>,
    /// Wait for the end of the trial; the exit status is 1 if LoadX went back
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    change: ChangeArguments,
}

fn time(text: &str) -> Result<Duration, String> {
    let span = loadx_core::trial::span(text).filter(|span| !span.is_zero());
    span.ok_or_else(|| "write a time with its unit, such as 500ms, 30s, 5m or 1h; at most a day".to_owned())
}

fn condition(text: &str) -> Result<String, String> {
    text.parse::<loadx_core::trial::Condition>().map(|condition| condition.to_string())
}

impl BackendArguments {
    fn cluster(&self) -> String {
        segment(self.cluster.as_deref().unwrap_or("-"))
    }

    fn path(&self) -> String {
        format!("/v1/clusters/{}/backends/{}", self.cluster(), segment(&self.backend))
    }
}

#[derive(Debug, Args)]
struct Expected {
    /// Make the change only if this plan runs; otherwise print what changed since
    #[arg(long, value_name = "NUMBER")]
    generation: Option<u64>,
}

impl Expected {
    fn query(&self) -> String {
        self.generation.map(|number| format!("?generation={number}")).unwrap_or_default()
    }
}

impl ChangeArguments {
    fn query(&self) -> String {
        let generation = self.generation.map(|number| format!("&generation={number}")).unwrap_or_default();
        format!("?keep={}{generation}", self.keep)
    }
}

pub(super) fn ctl(arguments: &CtlArguments) -> Result<ExitCode, Trouble> {
    Ctl { client: Client::new(&arguments.place)?, json: arguments.json }.run(&arguments.command)
}

struct Ctl {
    client: Client,
    json: bool,
}

impl Ctl {
    fn run(&self, command: &Command) -> Result<ExitCode, Trouble> {
        match command {
            Command::Status => self.show("/v1/status", print::status),
            Command::Clusters => self.show("/v1/clusters", |clusters: &Vec<_>| print::clusters(clusters)),
            Command::Backends => self.show("/v1/backends", |backends: &Vec<_>| print::backends(backends)),
            Command::Connections => {
                self.show("/v1/connections", |connections: &Connections| print::connections(connections))
            }
            Command::Drain(backend) => self.edit(backend, Some(true), None),
            Command::Ready(backend) => self.edit(backend, Some(false), None),
            Command::Weight { backend, weight } => self.edit(backend, None, Some(*weight)),
            Command::Add { backend, name, weight } => self.add(backend, name.as_deref(), *weight),
            Command::Remove(backend) => {
                let path = format!("{}{}", backend.path(), backend.change.query());
                self.changed(Method::DELETE, &path, backend.change.keep)
            }
            Command::Discard(expected) => {
                self.changed(Method::DELETE, &format!("/v1/changes{}", expected.query()), false)
            }
            Command::Config => self.show("/v1/config", print::config),
            Command::Check { file } => self.check(file),
            Command::Plan { file } => super::plan::of_running(&self.client, file, self.json),
            Command::Apply(apply) => self.apply(apply),
            Command::Confirm(change) => {
                self.changed(Method::POST, &format!("/v1/config/confirm{}", change.query()), change.keep)
            }
            Command::Rollback(expected) => {
                self.changed(Method::POST, &format!("/v1/config/rollback{}", expected.query()), false)
            }
            Command::Reload(expected) => self.changed(Method::POST, &format!("/v1/reload{}", expected.query()), false),
            Command::Upgrade { binary } => self.upgrade(binary.as_deref()),
            Command::Explain { id: None } => {
                let all: Vec<Value> = self.client.ask(Method::GET, "/v1/explanations")?;
                self.print(&all, |all| explain::list(all))
            }
            Command::Explain { id: Some(id) } => {
                let found: Vec<Value> =
                    self.client.ask(Method::GET, &format!("/v1/explanations?id={}", segment(id)))?;
                let Some(last) = found.last() else {
                    return Err(Trouble::Failure(format!(
                        "LoadX knows no explanation of the request {id}\n  help: LoadX keeps the last 64 of each worker that failed \
                         or were sent again, and the last 64 that asked; send X-LoadX-Explain with the token of the admin API to have others explained"
                    )));
                };
                self.print(last, explain::one)
            }
            Command::Events => self.events(),
            Command::LogLevel { level } => {
                let set: LogLevel =
                    self.client.send(Method::PUT, "/v1/log-level", &LogLevel { level: level.clone() })?;
                self.print(&set, |set| format!("the log has the level {}\n", set.level))
            }
            Command::Openapi => {
                let document: Value = self.client.ask(Method::GET, "/v1/openapi.json")?;
                trouble::print(&format!("{document:#}\n"))?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }

    /// Prints an answer: as JSON, or in words.
    fn print<T: Serialize>(&self, answer: &T, words: impl FnOnce(&T) -> String) -> Result<ExitCode, Trouble> {
        let text = match self.json {
            true => {
                format!("{:#}\n", serde_json::to_value(answer).map_err(|error| Trouble::Failure(error.to_string()))?)
            }
            false => words(answer),
        };
        trouble::print(&text)?;
        Ok(ExitCode::SUCCESS)
    }

    fn show<T: DeserializeOwned + Serialize>(
        &self,
        path: &str,
        words: impl FnOnce(&T) -> String,
    ) -> Result<ExitCode, Trouble> {
        let answer: T = self.client.ask(Method::GET, path)?;
        self.print(&answer, words)
    }

    fn changed(&self, method: Method, path: &str, keep: bool) -> Result<ExitCode, Trouble> {
        self.done(&self.client.ask(method, path)?, keep)
    }

    /// Prints a change. A change that was to be kept and is not kept is a failure for a script.
    fn done(&self, changed: &Changed, keep: bool) -> Result<ExitCode, Trouble> {
        self.print(changed, print::changed)?;
        Ok(if keep && !changed.is_saved { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    fn edit(&self, backend: &BackendArguments, drain: Option<bool>, weight: Option<u32>) -> Result<ExitCode, Trouble> {
        let ChangeArguments { keep, generation } = backend.change;
        let edit = BackendEdit { drain, weight, keep, generation };
        self.done(&self.client.send(Method::PATCH, &backend.path(), &edit)?, keep)
    }

    fn add(&self, backend: &BackendArguments, name: Option<&str>, weight: u32) -> Result<ExitCode, Trouble> {
        let fault =
            |reason: &str| Trouble::Input(format!("\"{}\" is no address of a backend: {reason}", backend.backend));
        let super::address::BackendAddress { at, tls } =
            super::address::parse_backend(&backend.backend).map_err(|error| fault(&error))?;
        if tls {
            return Err(fault("\"tls\" of the cluster decides about TLS; write HOST:PORT"));
        }
        let mut typed = json!({ "host": at.host, "port": at.port, "weight": weight });
        if let Some(name) = name {
            typed["name"] = name.into();
        }
        let ChangeArguments { keep, generation } = backend.change;
        let path = format!("/v1/clusters/{}/backends", backend.cluster());
        let new = NewBackend { backend: typed, keep, generation };
        self.done(&self.client.send(Method::POST, &path, &new)?, keep)
    }

    fn check(&self, file: &Path) -> Result<ExitCode, Trouble> {
        let name = file.display().to_string();
        let text = config_file::read(file, "name the config file: loadx ctl check FILE")?;
        let checked: Checked =
            self.client.send(Method::POST, "/v1/config/check", &ConfigToCheck { text, name: name.clone() })?;
        self.print(&checked, |checked| print::checked(&name, checked))
    }

    fn apply(&self, apply: &ApplyArguments) -> Result<ExitCode, Trouble> {
        let seconds = |span: Option<Duration>| span.map(|span| span.as_secs_f64());
        let new = ConfigToApply {
            text: config_file::read(&apply.file, "name the config file: loadx ctl apply FILE")?,
            name: apply.file.display().to_string(),
            keep: apply.change.keep,
            generation: apply.change.generation,
            watch: seconds(apply.watch),
            confirm_within: seconds(apply.confirm_within),
            rollback_if: apply.rollback_if.clone(),
        };
        let changed: Changed = self.client.send(Method::PUT, "/v1/config", &new)?;
        let is_on_trial = apply.watch.or(apply.confirm_within).is_some();
        if !is_on_trial {
            return self.done(&changed, apply.change.keep);
        }
        if !apply.wait {
            return self.print(&changed, |changed| format!("{}{}", print::changed(changed), print::TRIAL));
        }
        if !self.json {
            trouble::print(&print::changed(&changed))?;
        }
        self.wait(changed.generation, apply.change.keep)
    }

    /// Waits for the end of the trial that began with plan `generation`.
    fn wait(&self, generation: u64, keep: bool) -> Result<ExitCode, Trouble> {
        loop {
            let status: Status = self.client.ask(Method::GET, "/v1/status")?;
            match (status.trial, status.last_trial) {
                (Some(trial), _) if trial.generation == generation => std::thread::sleep(Duration::from_millis(200)),
                (_, Some(ended)) if ended.generation == generation => {
                    self.print(&ended, |ended| format!("{}\n", ended.what))?;
                    let is_done = ended.kept && (ended.is_saved || !keep);
                    return Ok(if is_done { ExitCode::SUCCESS } else { ExitCode::FAILURE });
                }
                _ => {
                    let told = "the trial has ended, and another trial or another start of LoadX came since: the outcome \
                                is in the log";
                    return Err(Trouble::Failure(told.to_owned()));
                }
            }
        }
    }

    fn upgrade(&self, binary: Option<&Path>) -> Result<ExitCode, Trouble> {
        // The working directory of LoadX may be another one.
        let absolute = binary.map(std::path::absolute).transpose();
        let absolute = absolute.map_err(|error| Trouble::Input(format!("no path of a binary: {error}")))?;
        let request = UpgradeRequest { binary: absolute.map(|path| path.to_string_lossy().into_owned()) };
        let upgraded: Upgraded = self.client.send(Method::POST, "/v1/upgrade", &request)?;
        self.print(&upgraded, |upgraded| format!("process {}, LoadX {}, took over\n", upgraded.pid, upgraded.version))
    }

    fn events(&self) -> Result<ExitCode, Trouble> {
        self.client.follow("/v1/events", |line| {
            let Some(data) = line.strip_prefix("data:") else { return Ok(()) };
            let text = match serde_json::from_str::<EventMessage>(data.trim()) {
                Ok(event) if !self.json => format!("{} {:<7} {}\n", event.at, event.level, event.text),
                _ => format!("{}\n", data.trim()),
            };
            trouble::print(&text)
        })?;
        Err(Trouble::Failure("LoadX ended the events: it has stopped".to_owned()))
    }
}
