//! The proxy's clock: monotonic, counted from its start, virtual when the runtime's time is.

use loadx_core::Time;
use tokio::time::Instant;

/// Reads the runtime's clock as the core's [`Time`].
#[derive(Copy, Clone, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that reads zero now.
    pub(crate) fn start() -> Self {
        Clock { origin: Instant::now() }
    }

    pub(crate) fn now(&self) -> Time {
        Time::from_nanos(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// When the runtime's clock will show `time`.
    pub(crate) fn instant(&self, time: Time) -> Instant {
        self.origin + time.since(Time::ZERO)
    }
}
