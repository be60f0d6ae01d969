//! When a request may go to another backend: never at the risk of doing harm twice, never for ever.

use crate::BackendId;

/// What a failed attempt may have left behind at its backend.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Trace {
    /// Nothing: no byte of the request had left. It is as if the backend had not been tried.
    None,
    /// Perhaps an effect, but one that does no harm twice (RFC 9110, section 9.2.2), of a request that
    /// is still here whole.
    Repeatable,
    /// Perhaps an effect that must not happen twice.
    Lasting,
}

/// What one exchange has tried so far.
#[derive(Debug, Default)]
pub struct Tries {
    tried: Vec<BackendId>,
    resends: usize,
}

impl Tries {
    /// Backends that one request tries to reach, at most. A refused connection costs next to nothing,
    /// so that a client need not notice even when most backends died at once.
    pub const MAX: usize = 16;

    /// How often a request is sent again after a backend may have seen it.
    pub const RESENDS_MAX: usize = 2;

    /// The backends that were tried in vain, in order.
    pub fn tried(&self) -> &[BackendId] {
        &self.tried
    }

    /// Notes that an attempt failed. Returns whether another backend may be tried.
    pub fn failed(&mut self, backend: BackendId, trace: Trace) -> bool {
        self.tried.push(backend);
        self.tried.len() < Self::MAX && self.may_repeat(trace)
    }

    /// Whether the request may be sent again, to whichever backend, and counts it if so.
    pub fn may_repeat(&mut self, trace: Trace) -> bool {
        match trace {
            Trace::None => true,
            Trace::Repeatable if self.resends < Self::RESENDS_MAX => {
                self.resends += 1;
                true
            }
            Trace::Repeatable | Trace::Lasting => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(number: u32) -> BackendId {
        BackendId::new(number)
    }

    #[test]
    fn what_left_nothing_behind_may_go_on_to_the_bound() {
        let mut tries = Tries::default();
        let allowed = (0..20).take_while(|number| tries.failed(backend(*number), Trace::None)).count();
        assert_eq!(allowed, Tries::MAX - 1);
    }

    #[test]
    fn what_may_have_been_seen_is_repeated_twice_at_most() {
        let mut tries = Tries::default();
        assert!(tries.failed(backend(0), Trace::Repeatable));
        assert!(tries.failed(backend(1), Trace::None));
        assert!(tries.failed(backend(2), Trace::Repeatable));
        assert!(!tries.failed(backend(3), Trace::Repeatable));
        assert_eq!(tries.tried().len(), 4);
    }

    #[test]
    fn what_must_not_happen_twice_does_not() {
        assert!(!Tries::default().failed(backend(0), Trace::Lasting));
    }
}
