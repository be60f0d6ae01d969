//! The time of day for the access log.

use std::time::SystemTime;

use loadx_core::Time;

use super::log_text::put_thousandths;

const SECOND_NANOS: u64 = 1_000_000_000;

/// The time of day. Reads the system's clock and formats the text once per second; within a second, the proxy's clock,
/// which every record contains, gives the milliseconds.
#[derive(Debug, Default)]
pub(super) struct WallClock {
    /// The text of the present second, without the final Z; empty before the first stamp.
    second: String,
    /// When the second began on the proxy's clock, in nanoseconds; wraps if that was before the clock's origin.
    began: u64,
}

/// A moment of the present second.
pub(super) struct Stamp<'s> {
    pub(super) second: &'s str,
    pub(super) millis: u32,
}

impl WallClock {
    /// The time of day at `at`, a recent moment; `system` reads the system's clock.
    pub(super) fn stamp(&mut self, at: Time, system: impl FnOnce() -> SystemTime) -> Stamp<'_> {
        let mut since = at.as_nanos().wrapping_sub(self.began);
        if since >= SECOND_NANOS || self.second.is_empty() {
            since = self.begin_second(at, system());
        }
        Stamp { second: &self.second, millis: (since / 1_000_000) as u32 }
    }

    /// Starts a second. Returns its elapsed part, in nanoseconds.
    #[cold]
    fn begin_second(&mut self, at: Time, system: SystemTime) -> u64 {
        let since_epoch = system.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let second = i64::try_from(since_epoch.as_secs()).unwrap_or(0);
        let spelled = jiff::Timestamp::from_second(second).unwrap_or_default().to_string();
        self.second.clear();
        self.second.push_str(spelled.trim_end_matches('Z'));
        let since = u64::from(since_epoch.subsec_nanos());
        self.began = at.as_nanos().wrapping_sub(since);
        since
    }
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

impl Stamp<'_> {
    /// Writes the time as in the Common Log Format, in UTC.
    pub(super) fn put_clf(&self, out: &mut Vec<u8>) {
        // From 2023-11-14T22:13:20.
        let (date, time) = self.second.split_once('T').unwrap_or((self.second, ""));
        let mut parts = date.rsplitn(3, '-');
        let (day, month, year) = (parts.next(), parts.next(), parts.next());
        let month = month.and_then(|month| MONTHS.get(month.parse::<usize>().ok()?.checked_sub(1)?));
        for part in [day, Some("/"), month.copied(), Some("/"), year, Some(":"), Some(time), Some(" +0000")] {
            out.extend_from_slice(part.unwrap_or_default().as_bytes());
        }
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.second.as_bytes());
        put_thousandths(out, self.millis);
        out.push(b'Z');
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_systems_clock_is_read_once_a_second() {
        let mut clock = WallClock::default();
        let reads = Cell::new(0);
        let mut spelled = |at_millis: u64, system_millis: u64| {
            let system = || {
                reads.set(reads.get() + 1);
                SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_000 + system_millis)
            };
            let mut out = Vec::new();
            clock.stamp(Time::from_nanos(at_millis * 1_000_000), system).put(&mut out);
            (String::from_utf8(out).unwrap(), reads.get())
        };
        assert_eq!(spelled(0, 42), ("2023-11-14T22:13:20.042Z".to_owned(), 1));
        assert_eq!(spelled(957, 999), ("2023-11-14T22:13:20.999Z".to_owned(), 1));
        assert_eq!(spelled(958, 1_000), ("2023-11-14T22:13:21.000Z".to_owned(), 2));
        assert_eq!(spelled(957, 1_001), ("2023-11-14T22:13:21.001Z".to_owned(), 3), "a record of the former second");
        assert_eq!(spelled(3_000, 60_000), ("2023-11-14T22:14:20.000Z".to_owned(), 4), "the system's clock was set");
    }
}
