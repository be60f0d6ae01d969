//! Upgrades of the binary.

use std::path::PathBuf;

use super::{By, Manager, ManagerError, Origin};
use crate::systemd;
use crate::upgrade::{self, Next, Offer, OfferedConfig, PROTOCOL};

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
        self.begin_upgrade().await?;
        tracing::info!("{by}: starting a process that takes over");
        let next = self.start_next(binary).await;
        let mut state = self.state.lock().await;
        state.is_upgrading = false;
        match next {
            Ok(next) => {
                let successor = Successor { pid: next.pid(), version: next.version().to_owned() };
                state.is_stopping = true;
                self.tell(false, &format!("process {}, LoadX {}, took over ({by})", successor.pid, successor.version));
                systemd::main_process_is(successor.pid);
                // The main thread lets the proxy retire.
                self.successor.send_replace(Some(successor.clone()));
                next.let_go();
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
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            sockets: addresses.into_iter().map(|at| (at.host, at.port)).collect(),
            admin_sockets: admin_sockets.len(),
            knowledge: handed.inheritance,
            config,
            changes: state.changes.clone(),
            kept: state.kept.clone(),
        };
        let program = state.program.clone();
        drop(state);
        let begun =
            tokio::task::spawn_blocking(move || upgrade::begin(&program, binary, &offer, &sockets, &admin_sockets));
        begun.await.map_err(|error| format!("a defect of LoadX ended the upgrade: {error}"))?
    }
}
