//! Upgrades of the binary.

use std::path::PathBuf;

use super::{By, Manager, ManagerError, Origin};
use crate::systemd;
use crate::upgrade::{self, FormerLink, FormerState, Next, Offer, OfferedConfig, Report, SuccessorLink, Update};

/// The process that has taken over.
#[derive(Clone, Debug)]
pub(crate) struct Successor {
    pub(crate) pid: u32,
    pub(crate) version: String,
}

impl Manager {
    /// Starts `binary`, by default the binary at the path of this one, as a new process that takes over. This process accepts
    /// no more clients when the new one serves.
    ///
    /// # Errors
    /// When the new process does not serve, a config is on trial, or another upgrade is under way; this process goes on.
    pub(crate) async fn upgrade(&self, binary: Option<PathBuf>, by: &By) -> Result<Successor, ManagerError> {
        if std::process::id() == 1 {
            return Err(ManagerError::Conflict(
                "LoadX is process 1 of a container, which would end with it\n  help: start another container"
                    .to_owned(),
            ));
        }
        if let Err(error) = self.begin_upgrade().await {
            self.tell(true, &format!("no upgrade ({by}): {error}"));
            return Err(error);
        }
        tracing::info!("{by}: starting a process that takes over");
        let next = match self.start_next(binary).await {
            Ok(next) => {
                let successor = Successor { pid: next.pid(), version: next.version().to_owned() };
                let settled = tokio::task::spawn_blocking(move || next.let_go()).await;
                settled
                    .unwrap_or_else(|error| Err(format!("a defect of LoadX ended the upgrade: {error}")))
                    .map(|link| (successor, link))
            }
            Err(reason) => Err(reason),
        };
        let mut state = self.state.lock().await;
        state.is_upgrading = false;
        match next {
            Ok((successor, link)) => {
                state.is_stopping = true;
                state.admin_sockets.clear();
                state.successor_link = Some(link);
                self.tell(false, &format!("process {}, LoadX {}, took over ({by})", successor.pid, successor.version));
                systemd::main_process_is(successor.pid);
                // The main thread lets the proxy retire.
                self.successor.send_replace(Some(successor.clone()));
                Ok(successor)
            }
            Err(reason) => {
                let told = format!("the upgrade failed, this LoadX goes on: {reason}");
                self.tell(true, &told);
                Err(ManagerError::Conflict(told))
            }
        }
    }

    async fn begin_upgrade(&self) -> Result<(), ManagerError> {
        let mut state = self.state.lock().await;
        state.nothing_pending()?;
        state.may_change()?;
        state.is_upgrading = true;
        Ok(())
    }

    async fn start_next(&self, binary: Option<PathBuf>) -> Result<Next, String> {
        let handed = self.proxy.hand_over().await.map_err(|error| format!("no sockets to hand over: {error}"))?;
        let (addresses, sockets): (Vec<_>, Vec<_>) = handed.sockets.into_iter().unzip();
        let state = self.state.lock().await;
        let config = state.base.text.as_ref().map(|text| OfferedConfig {
            text: text.to_string(),
            name: match &state.base.origin {
                Origin::Operator(name) => Some(name.clone()),
                Origin::File | Origin::Options => None,
            },
        });
        let copies: std::io::Result<Vec<_>> =
            state.admin_sockets.iter().map(std::net::TcpListener::try_clone).collect();
        let admin_sockets = copies.map_err(|error| format!("no sockets of the admin API to hand over: {error}"))?;
        let offer = Offer {
            generation: state.generation,
            note: state.note.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            sockets: addresses.into_iter().map(|at| (at.host, at.port)).collect(),
            admin_sockets: admin_sockets.len(),
            knowledge: handed.inheritance,
            config,
            changes: state.changes.clone(),
            kept: state.kept.clone(),
        };
        let (program, starting) = (state.program.clone(), self.starting.clone());
        drop(state);
        let begun = tokio::task::spawn_blocking(move || {
            upgrade::begin(&program, binary, &offer, (&sockets, &admin_sockets), &starting)
        });
        begun.await.map_err(|error| format!("a defect of LoadX ended the upgrade: {error}"))?
    }
}

impl Manager {
    /// Keeps in touch with the process whose work this one has taken over.
    pub(crate) async fn note_former(&self, link: FormerLink) {
        let mut state = self.state.lock().await;
        // A change may have come since this process serves.
        link.send(&Update::of(&state.changes.applied_to(&state.base.config)));
        state.formers.push(link);
    }

    /// What still runs in former processes.
    pub(crate) async fn formers(&self) -> Vec<FormerState> {
        let mut state = self.state.lock().await;
        state.formers.retain(|former| former.report().is_some());
        state.formers.iter().filter_map(FormerLink::report).flat_map(|report| report.formers).collect()
    }

    /// Whether a former process still runs.
    pub(crate) async fn has_formers(&self) -> bool {
        self.state.lock().await.formers.iter().any(|former| former.report().is_some())
    }

    /// The way to the process that took over, once.
    pub(crate) async fn take_successor_link(&self) -> Option<SuccessorLink> {
        self.state.lock().await.successor_link.take()
    }

    /// Takes over the backends of the process that took over, and tells the processes before this one.
    pub(crate) async fn update_backends(&self, update: &Update) {
        let mut state = self.state.lock().await;
        let running = state.changes.applied_to(&state.base.config);
        let config = update.applied_to(&running);
        if let Err(error) = self.proxy.apply(config).await {
            tracing::warn!("the change of backends does not reach the clients of this process: {error}");
        }
        state.formers.iter_mut().for_each(|former| former.send(update));
    }

    /// What still runs here and in the processes before. `left`: the time until this process ends what still runs.
    pub(crate) async fn report(&self, left: std::time::Duration) -> Report {
        let mut formers = self.formers().await;
        if let Ok(observed) = self.proxy.observe().await {
            let in_flight = |cluster: &loadx_core::plan::ClusterSnapshot| -> usize {
                cluster.snapshot.backends.iter().map(|backend| backend.in_flight as usize).sum()
            };
            let gone = observed.drains.iter().filter(|drain| {
                !observed.clusters.iter().any(|one| one.snapshot.backends.iter().any(|backend| backend.id == drain.id))
            });
            let gone: usize = gone.map(|drain| drain.in_flight as usize).sum();
            formers.push(FormerState {
                pid: std::process::id(),
                connections: observed.connections,
                exchanges: observed.clusters.iter().map(in_flight).sum::<usize>() + gone,
                tunnels: observed.tunnels.iter().map(|(_, count)| count).sum(),
                seconds_left: left.as_secs_f64(),
            });
        }
        Report { formers }
    }
}
