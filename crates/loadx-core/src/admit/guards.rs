//! What may keep a request from all backends of a cluster: the limit of the cluster, and its circuit breaker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::health::breaker::Fuse;

/// The guards of a cluster that has any.
#[derive(Clone, Debug)]
pub(crate) struct Guards {
    pub(crate) fuse: Option<Arc<Fuse>>,
    pub(crate) total: Option<Arc<Total>>,
}

/// Why a request may not begin.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// The cluster is at its limit.
    Full,
    /// The circuit breaker is open.
    Open,
}

impl Guards {
    /// Counts an attempt as begun, unless a guard holds the attempt.
    pub(crate) fn begin(&self) -> Result<(), Held> {
        if self.total.as_ref().is_some_and(|total| !total.begin()) {
            return Err(Held::Full);
        }
        // Last: a request that cannot begin must not use up the place of one that tries.
        if self.fuse.as_ref().is_some_and(|fuse| !fuse.admits()) {
            self.end();
            return Err(Held::Open);
        }
        Ok(())
    }

    /// Whether no request gets a backend at present.
    pub(crate) fn is_open(&self) -> bool {
        self.fuse.as_ref().is_some_and(|fuse| fuse.is_open())
    }

    /// Counts an attempt as ended.
    pub(crate) fn end(&self) {
        if let Some(total) = &self.total {
            total.end();
        }
    }
}

/// The exchanges in flight of a cluster with a limit.
#[derive(Debug, Default)]
pub(crate) struct Total {
    in_flight: AtomicU32,
    limit: AtomicU32,
}

impl Total {
    pub(crate) fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts an exchange. Returns false, and counts nothing, if the cluster is at its limit. In one order with the count of
    /// requests that wait, as [`Load::begin`](crate::load::Load::begin).
    fn begin(&self) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        let begin = |count: u32| (count < limit).then(|| count + 1);
        self.in_flight.fetch_update(Ordering::SeqCst, Ordering::SeqCst, begin).is_ok()
    }

    fn end(&self) {
        let before = self.in_flight.fetch_sub(1, Ordering::SeqCst);
        debug_assert!(before > 0, "an exchange finished twice");
    }
}
