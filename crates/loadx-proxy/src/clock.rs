//! The proxy's monotonic clock, counted from its start. Virtual if the runtime's clock is virtual.

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
        let elapsed = self.origin.elapsed();
        Time::from_nanos(elapsed.as_secs().saturating_mul(1_000_000_000) + u64::from(elapsed.subsec_nanos()))
    }

    /// Converts `time` to an instant of the runtime's clock.
    pub(crate) fn instant(&self, time: Time) -> Instant {
        self.origin + time.since(Time::ZERO)
    }
}
