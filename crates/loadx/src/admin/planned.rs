//! The differences between two configs as messages, with what a running LoadX has in use of the parts that go.

use loadx_core::config::Config;
use loadx_core::plan::compare::{Change, Difference, Part};
use loadx_proxy::Observed;

use super::api::{PlannedDetail, PlannedDifference};
use crate::words::count;

impl From<&Difference> for PlannedDifference {
    fn from(difference: &Difference) -> Self {
        let part = match difference.part {
            Part::Listener => "listener",
            Part::Route => "route",
            Part::Cluster => "cluster",
            Part::Backend => "backend",
            Part::Setting => "setting",
        };
        let change = match difference.change {
            Change::Added => "added",
            Change::Removed => "removed",
            Change::Changed => "changed",
        };
        let details = difference.details.iter().map(|detail| PlannedDetail {
            key: detail.key.clone(),
            old: detail.old.clone(),
            new: detail.new.clone(),
        });
        PlannedDifference {
            part: part.to_owned(),
            cluster: difference.of.clone(),
            name: difference.name.clone(),
            change: change.to_owned(),
            details: details.collect(),
            effect: difference.effect.clone(),
            now: None,
        }
    }
}

/// Adds to each part that goes what LoadX has in use of the part now. Returns the limits of `new` that are below what is in
/// use.
pub(super) fn add_use(
    differences: &[Difference],
    planned: &mut [PlannedDifference],
    running: &Config,
    new: &Config,
    observed: &Observed,
) -> Vec<String> {
    for (difference, planned) in differences.iter().zip(planned) {
        planned.now = match difference.part {
            Part::Listener if difference.change == Change::Removed => {
                let listener = running.listeners.iter().find(|listener| listener.at.to_string() == difference.name);
                let seen = listener.and_then(|one| observed.listeners.iter().find(|seen| seen.name == one.name));
                seen.map(|seen| count(seen.connections, "open connection"))
            }
            Part::Backend if difference.change == Change::Removed || is_drained(difference) => {
                exchanges(difference, observed)
            }
            _ => None,
        };
    }
    let open = observed.connections;
    let below = (new.max_connections < open).then(|| {
        format!(
            "\"max_connections\" of {} is below the {open} connections that are open now: LoadX accepts no new clients \
             until enough of them have closed",
            new.max_connections
        )
    });
    below.into_iter().collect()
}

fn is_drained(difference: &Difference) -> bool {
    difference.details.iter().any(|detail| detail.key == "drain" && detail.new.as_deref() == Some("true"))
}

fn exchanges(difference: &Difference, observed: &Observed) -> Option<String> {
    let cluster = observed.clusters.iter().find(|cluster| Some(&*cluster.name) == difference.of.as_deref())?;
    // A name may stand for several backends.
    let backends = cluster.snapshot.backends.iter().filter(|backend| {
        backend.name.split('/').next() == Some(&*difference.name)
            || loadx_core::BackendSpec::new(&backend.host, backend.port).authority() == difference.name
    });
    let (mut active, mut tunnels) = (0, 0);
    for backend in backends {
        active += backend.in_flight as usize;
        tunnels += observed.tunnels.iter().filter(|(id, _)| *id == backend.id).map(|(_, count)| count).sum::<usize>();
    }
    let of_them = if tunnels > 0 { format!(", {tunnels} of them WebSockets or other tunnels") } else { String::new() };
    Some(format!("{}{of_them}", count(active, "running exchange")))
}
