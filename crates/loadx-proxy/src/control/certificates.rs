//! Watches the files of TLS, and reads files again that were replaced.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use loadx_core::ListenerId;

use crate::limits::CERTIFICATE_LOOK;
use crate::shared::Shared;
use crate::tls::ServerTls;

/// What tells a file that was replaced from its predecessor: the number of the file, its size, and its time.
type Stamp = Option<(u64, u64, SystemTime)>;

/// The files of one listener.
struct Watched {
    tls: Arc<ServerTls>,
    /// As they were when LoadX read them.
    read: Vec<Stamp>,
    /// As they were at the last look.
    seen: Vec<Stamp>,
}

/// Reads the files of a listener again when some have changed and all stay the same for one interval: a program that replaces
/// a certificate writes two files, one after the other.
pub(super) async fn watch(shared: Arc<Shared>) {
    let mut watched: HashMap<ListenerId, Watched> = HashMap::new();
    loop {
        let present = shared.tls.all();
        watched.retain(|id, watched| present.get(id).is_some_and(|tls| Arc::ptr_eq(tls, &watched.tls)));
        for (id, tls) in present.iter().filter(|(_, tls)| tls.files().next().is_some()) {
            let Some(stamps) = beside(tls, stamps).await else { continue };
            let former = watched.entry(*id).or_insert_with(|| Watched {
                tls: Arc::clone(tls),
                read: stamps.clone(),
                seen: stamps.clone(),
            });
            let is_settled = former.seen == stamps;
            former.seen = stamps;
            if is_settled && former.read != former.seen {
                let replaced = former.read.iter().zip(&former.seen).map(|(read, seen)| read != seen).collect();
                former.read = former.seen.clone();
                beside(tls, move |tls| read_again(tls, replaced)).await;
            }
        }
        tokio::time::sleep(CERTIFICATE_LOOK).await;
    }
}

/// Runs `work` on a thread of its own: thousands of files take longer than control may be away.
async fn beside<T: Send + 'static>(
    tls: &Arc<ServerTls>,
    work: impl FnOnce(&ServerTls) -> T + Send + 'static,
) -> Option<T> {
    let tls = Arc::clone(tls);
    tokio::task::spawn_blocking(move || work(&tls)).await.ok()
}

/// Reads the files again. `replaced`: which of the files have changed.
fn read_again(tls: &ServerTls, replaced: Vec<bool>) {
    match tls.read_again() {
        Ok(new) => {
            tls.note_problem(None);
            for (path, _) in tls.files().zip(replaced).filter(|(_, replaced)| *replaced) {
                tracing::info!("{} has changed, and is in use", path.display());
            }
            for identity in new {
                tracing::info!("a new certificate is in use: {}", identity.summary());
            }
        }
        Err(error) => {
            tracing::error!("{error}; what was read before stays in use");
            tls.note_problem(Some(error.to_string()));
        }
    }
}

fn stamps(tls: &ServerTls) -> Vec<Stamp> {
    let stamp = |path: &Path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.ino(), metadata.len(), metadata.modified().ok()?))
    };
    tls.files().map(stamp).collect()
}
