//! What pages of the dashboard want of backends. The pages send the token of the admin API.

use loadx_core::config::{ChangeError, Wanted};
use loadx_proxy::BackendAction;
use tokio::sync::mpsc;

use super::serve::TokenHash;
use crate::manager::{Manager, ManagerError};

/// The name of the dashboard in the log of operators' actions.
const BY: &str = "the dashboard";

/// Carries out what pages want, one after the other, until LoadX stops.
pub(super) async fn obey(mut actions: mpsc::Receiver<BackendAction>, token: TokenHash, manager: Manager) {
    while let Some(BackendAction { token: sent, cluster, backend, drain, weight, reply }) = actions.recv().await {
        let answer = match token.is_of(&sent) {
            false => {
                tracing::warn!(
                    "the dashboard sent a wrong token, for the backend {backend:?} of the cluster {cluster:?}"
                );
                (401, "this is not the token of the admin API".to_owned())
            }
            true => {
                let wanted = drain.map(Wanted::Drain).into_iter().chain(weight.map(Wanted::Weight));
                let wanted: Vec<Wanted> = wanted.collect();
                change(&manager, &cluster, &backend, &wanted).await
            }
        };
        // The page may be closed.
        let _ = reply.send(answer);
    }
}

async fn change(manager: &Manager, cluster: &str, backend: &str, wanted: &[Wanted]) -> (u16, String) {
    if wanted.is_empty() {
        return (422, "nothing to change: give drain or weight".to_owned());
    }
    match manager.change((Some(cluster), backend), wanted, None, false, BY).await {
        Ok(done) => (200, done.what),
        Err(error) => {
            let is_unknown = matches!(
                &error,
                ManagerError::Change(ChangeError::UnknownCluster(..) | ChangeError::UnknownBackend(..))
            );
            (if is_unknown { 404 } else { 409 }, error.to_string())
        }
    }
}
