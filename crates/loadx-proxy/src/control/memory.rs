//! What LoadX does when its memory is nearly used up: it takes no new work and closes idle connections, so that what runs can
//! finish.

use super::Control;
use crate::limits::{MEMORY_TIGHT_PERCENT, MEMORY_WIDE_PERCENT};
use crate::messages::Order;
use crate::net::Network;
use crate::observed::EventRecord;

impl<N: Network> Control<N> {
    /// Takes in the memory that the process uses, and that its control group uses, with the limit of the group; in bytes.
    pub(super) fn note_memory(&mut self, used: u64, of_group: Option<(u64, u64)>) {
        let own = self.shared.plan().process.memory_max.map(|most| (used, most));
        let fullest = own.into_iter().chain(of_group).max_by_key(|(used, most)| percent(*used, *most));
        let is_tight = match (fullest, self.shared.is_short_of_memory()) {
            (None, _) => false,
            (Some((used, most)), false) => percent(used, most) >= MEMORY_TIGHT_PERCENT,
            (Some((used, most)), true) => percent(used, most) >= MEMORY_WIDE_PERCENT,
        };
        let was_tight = self.shared.set_short_of_memory(is_tight);
        if is_tight {
            for mailbox in &self.mailboxes {
                // A worker that ended has no connections.
                let _ = mailbox.send(Order::ShedAll);
            }
        }
        if is_tight != was_tight {
            let (used, most) = fullest.unwrap_or_default();
            self.tell_of_memory(is_tight, used, most);
        }
    }

    fn tell_of_memory(&self, is_tight: bool, used: u64, most: u64) {
        let mib = |bytes: u64| bytes / (1024 * 1024);
        let text = match is_tight {
            true => format!(
                "{} of {} MiB of memory are used: LoadX closes idle connections and answers new requests with 503 until it is \
                 less than {MEMORY_WIDE_PERCENT} %; raise the limit (max_memory, or that of the container), or lower \
                 max_connections",
                mib(used),
                mib(most)
            ),
            false => "memory is no longer short: LoadX serves new requests".to_owned(),
        };
        if is_tight {
            tracing::warn!("{text}");
        } else {
            tracing::info!("{text}");
        }
        // Without receivers the event is only in the log.
        let _ = self.events.send(EventRecord { is_warning: is_tight, text: text.into() });
    }
}

fn percent(used: u64, most: u64) -> u64 {
    used.saturating_mul(100) / most.max(1)
}
