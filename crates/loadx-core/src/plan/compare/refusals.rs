//! Listeners that a reload cannot open.

use super::{Change, Difference, Part};
use crate::config::Config;

/// Says so at each new listener whose port a listener of the old config holds: LoadX opens new listeners before it closes
/// removed ones, so that a reload can fail without a harm.
pub(super) fn add_refusals(old: &Config, new: &Config, differences: &mut [Difference]) {
    for difference in differences.iter_mut().filter(|one| (one.part, one.change) == (Part::Listener, Change::Added)) {
        let added = new.listeners.iter().find(|listener| listener.at.to_string() == difference.name);
        let holder = added.and_then(|added| old.listeners.iter().find(|held| held.at.overlaps(&added.at)));
        if let Some(holder) = holder {
            let held = &holder.at;
            difference.effect = format!(
                "a reload refuses this config, because {held} holds the port; it takes two reloads: the first without \
                 {held}, the second with this address"
            );
        }
    }
}
