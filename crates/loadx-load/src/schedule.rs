//! The schedule of an open loop, and a timer that keeps the schedule.

use std::io;
use std::time::{Duration, Instant};

/// The scheduled moment of each request: the first at once, the others at equal intervals.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Schedule {
    rate: f64,
}

impl Schedule {
    pub(crate) fn new(rate: f64) -> Self {
        Schedule { rate }
    }

    /// The time from the start of the run to the scheduled moment of the request with this number, from 0.
    pub(crate) fn due(self, number: u64) -> Duration {
        // A sum of intervals would drift, so each moment is computed from the start.
        Duration::try_from_secs_f64(number as f64 / self.rate).unwrap_or(Duration::MAX)
    }

    /// The number of requests that are scheduled before `moment`.
    pub(crate) fn due_before(self, moment: Duration) -> u64 {
        let mut count = (moment.as_secs_f64() * self.rate) as u64;
        // The product may have a rounding error; `due` is exact.
        while count > 0 && self.due(count - 1) >= moment {
            count -= 1;
        }
        while self.due(count) < moment {
            count += 1;
        }
        count
    }
}

/// A timer that is exact to some microseconds. The timer of the runtime counts in milliseconds, and would delay each
/// request by half a millisecond on average.
#[cfg(target_os = "linux")]
#[derive(Debug)]
pub(crate) struct Timer {
    /// A timer of the kernel. A read waits until the timer has expired, as a read of a pipe waits for bytes. The pipe
    /// type of the runtime can wait for any descriptor; the type for other descriptors needs `unsafe`.
    descriptor: tokio::net::unix::pipe::Receiver,
}

#[cfg(target_os = "linux")]
impl Timer {
    pub(crate) fn new() -> io::Result<Self> {
        use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let descriptor = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Timer { descriptor: tokio::net::unix::pipe::Receiver::from_owned_fd_unchecked(descriptor)? })
    }

    /// Waits until `moment`.
    pub(crate) async fn wait_until(&mut self, moment: Instant) -> io::Result<()> {
        loop {
            let left = moment.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.arm(left)?;
            // The kernel returns 8 bytes. After a read that does not fill the buffer, the runtime knows that nothing is
            // left to read, and saves another read.
            tokio::io::AsyncReadExt::read(&mut self.descriptor, &mut [0; 16]).await?;
        }
    }

    fn arm(&self, left: Duration) -> io::Result<()> {
        use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};
        let once = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() },
        };
        timerfd_settime(&self.descriptor, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }
}

/// The timer of the runtime, for systems without a timer descriptor.
#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
pub(crate) struct Timer;

#[cfg(not(target_os = "linux"))]
impl Timer {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Timer)
    }

    /// Waits until `moment`.
    pub(crate) async fn wait_until(&mut self, moment: Instant) -> io::Result<()> {
        tokio::time::sleep_until(moment.into()).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_before_agrees_with_due() {
        for rate in [0.3, 1.0, 3.0, 7.7, 1_000.0, 333_333.0] {
            let schedule = Schedule::new(rate);
            for number in [0, 1, 2, 3, 10, 99, 12_345] {
                let due = schedule.due(number);
                assert_eq!(schedule.due_before(due), number, "{rate}, {number}");
                assert_eq!(schedule.due_before(due + Duration::from_nanos(1)), number + 1, "{rate}, {number}");
            }
        }
    }
}
