//! Watches the files of TLS, and reads files again that were replaced.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use loadx_core::ListenerId;

use crate::limits::CERTIFICATE_LOOK;
use crate::shared::Shared;
use crate::tls::{Read, ServerTls, Stamp};

/// The files of one listener.
struct Watched {
    tls: Arc<ServerTls>,
    /// The files of each part, as they were at the last look.
    seen: Vec<Vec<Stamp>>,
    /// The problems that the log has.
    told: BTreeSet<String>,
}

/// Reads a certificate with its key, or the files by which clients are checked, again when some have changed and all of them
/// stay the same for one interval: a program that replaces a certificate writes two files, one after the other.
pub(super) async fn watch(shared: Arc<Shared>) {
    let mut watched: HashMap<ListenerId, Watched> = HashMap::new();
    loop {
        let present = shared.tls.all();
        watched.retain(|id, watched| present.get(id).is_some_and(|tls| Arc::ptr_eq(tls, &watched.tls)));
        for (id, tls) in present.iter().filter(|(_, tls)| tls.has_files()) {
            let Some((stamps, replaced)) = beside(tls, look).await else { continue };
            let watched = watched.entry(*id).or_insert_with(|| Watched {
                tls: Arc::clone(tls),
                seen: Vec::new(),
                told: BTreeSet::new(),
            });
            let is_settled = |part: &usize| watched.seen.get(*part) == stamps.get(*part);
            let settled: Vec<usize> = replaced.into_iter().filter(is_settled).collect();
            watched.seen = stamps;
            if !settled.is_empty() {
                let read = beside(tls, move |tls| tls.read_again(&settled)).await;
                read.into_iter().flatten().for_each(tell);
            }
            let problems: BTreeSet<String> = tls.list_faults().into_iter().collect();
            problems.difference(&watched.told).for_each(|problem| tracing::warn!("{problem}"));
            watched.told = problems;
        }
        tokio::time::sleep(CERTIFICATE_LOOK).await;
    }
}

/// The files of each part as they are now, and the parts that were replaced.
fn look(tls: &ServerTls) -> (Vec<Vec<Stamp>>, Vec<usize>) {
    let stamps = tls.stamps();
    let replaced = tls.replaced(&stamps);
    (stamps, replaced)
}

/// Runs `work` on a thread of its own: thousands of files take longer than control may be away.
async fn beside<T: Send + 'static>(
    tls: &Arc<ServerTls>,
    work: impl FnOnce(&ServerTls) -> T + Send + 'static,
) -> Option<T> {
    let tls = Arc::clone(tls);
    tokio::task::spawn_blocking(move || work(&tls)).await.ok()
}

fn tell(read: Read) {
    let files: Vec<String> = read.files.iter().map(|file| file.display().to_string()).collect();
    let files = files.join(", ");
    match read.outcome {
        Ok(Some(identity)) => tracing::info!("a new certificate is in use: {} ({files})", identity.summary()),
        Ok(None) => tracing::info!("LoadX has read {files} again"),
        Err(error) => tracing::error!("{error}; what was read before stays in use"),
    }
}
