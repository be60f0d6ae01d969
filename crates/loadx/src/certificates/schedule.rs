//! When to try again after a failure.

use std::time::Duration;

/// The pauses after the first failures, and after every further failure. Let's Encrypt refuses a name for which five proofs
/// failed within an hour.
const PAUSES: [Duration; 5] = [
    Duration::from_secs(10),
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(15 * 60),
    Duration::from_secs(60 * 60),
];

/// The longest pause.
pub(super) const PAUSE_MAX: Duration = PAUSES[PAUSES.len() - 1];

/// The pause after this many failures in a row. A refusal because of too many requests waits longest.
pub(super) fn pause(failures: u32, error: &str) -> Duration {
    let last = PAUSES.len() - 1;
    let index = (failures.max(1) - 1) as usize;
    PAUSES[if error.contains("rateLimited") { last } else { index.min(last) }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_five_proofs_fail_in_an_hour() {
        let mut at = Duration::ZERO;
        let mut times = Vec::new();
        for failures in 1..20 {
            times.push(at);
            at += pause(failures, "no");
        }
        for (index, time) in times.iter().enumerate() {
            let within = times[index..].iter().filter(|other| **other < *time + Duration::from_secs(3_600));
            assert!(within.count() <= 5, "{times:?}");
        }
        assert_eq!(pause(1, "urn:ietf:params:acme:error:rateLimited"), Duration::from_secs(3_600));
    }
}
