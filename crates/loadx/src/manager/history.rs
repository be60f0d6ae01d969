//! The last changes, for an operator who did not know of them.

use std::collections::VecDeque;

/// The most changes that are remembered.
const HISTORY_MAX: usize = 100;

/// The last changes with the numbers of their plans, the newest last.
#[derive(Debug, Default)]
pub(super) struct History(VecDeque<(u64, String)>);

impl History {
    pub(super) fn add(&mut self, generation: u64, what: String) {
        if self.0.len() == HISTORY_MAX {
            self.0.pop_front();
        }
        self.0.push_back((generation, what));
    }

    /// The changes after the plan `known`.
    pub(super) fn since(&self, known: u64) -> Vec<String> {
        let later = self.0.iter().filter(|(generation, _)| *generation > known);
        later.map(|(generation, what)| format!("plan {generation}: {what}")).collect()
    }
}
