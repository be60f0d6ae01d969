//! The state that all checks of values share: the text of the config, and the faults.

use super::Faults;
use super::reader::{Place, Problem, nearest};

/// Turns file types into the `Config`. The checks are in `validate` and `routing`.
pub(super) struct Checker<'c> {
    pub(super) source: &'c str,
    pub(super) faults: &'c mut Faults,
}

impl Checker<'_> {
    /// Adds a fault.
    pub(super) fn fault(&mut self, place: Place, problem: Problem) {
        place.fault(self.source, self.faults, problem);
    }

    /// Whether the list at this place has no entry, not even an invalid one.
    pub(super) fn is_empty_list(&self, place: Place) -> bool {
        place.text(self.source).trim_matches(['[', ']']).trim().is_empty()
    }

    /// Adds a fault for an unknown name; `known` are the known names.
    pub(super) fn unknown(&mut self, kind: &str, name: &str, place: Place, known: &[&str]) {
        let help = match nearest(name, known) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None if known.is_empty() => format!("the file has no {kind}; add one, or remove the name"),
            None => format!("the file has: {}", known.join(", ")),
        };
        self.fault(place, Problem::new(format!("there is no {kind} named \"{name}\""), help));
    }
}
