//! What one measurement shows.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::case::{BEFORE, DURING};
use super::load::{Fate, Fates};
use super::stage::Arrival;

/// What one measurement shows.
#[derive(Debug)]
pub(super) struct Verdict {
    gets_failed: usize,
    posts_failed: usize,
    posts_repeated: usize,
    /// The longest and the 99th-percentile response time of the GETs from the begin of the fault on, beyond the median of the time
    /// before.
    worst: Duration,
    p99: Duration,
    /// When the last GET was due that failed or was late, from the begin of the fault.
    noticed: Duration,
    /// When the last request reached the broken backend before a pause of two seconds, from the begin of the fault; `None` if there
    /// was no such pause.
    last_there: Option<Duration>,
    /// When a request reached the backend again, from the end of the fault; `None` if none did.
    back_after: Option<Duration>,
}

/// A response that takes so much longer than usual is late.
const LATE: Duration = Duration::from_millis(50);

/// Without requests for so long, the backend is out of rotation.
const PAUSE: Duration = Duration::from_secs(2);

impl Verdict {
    /// `epoch`: the begin of the load.
    pub(super) fn new(fates: &Fates, arrivals: &[Vec<Arrival>], epoch: Duration) -> Verdict {
        let usual = quantile(fates.gets.iter().filter(|fate| fate.at < BEFORE), 0.5);
        let later = || fates.gets.iter().filter(|fate| fate.at >= BEFORE);
        let mut posts = BTreeMap::new();
        for id in arrivals.iter().flatten().filter_map(|arrival| arrival.id) {
            *posts.entry(id).or_insert(0) += 1;
        }
        let there: Vec<Duration> =
            arrivals[1].iter().map(|arrival| arrival.at.saturating_sub(epoch)).filter(|at| *at >= BEFORE).collect();
        Verdict {
            gets_failed: fates.gets.iter().filter(|fate| !fate.is_good()).count(),
            posts_failed: fates.posts_failed,
            posts_repeated: posts.values().filter(|count| **count > 1).count(),
            worst: quantile(later(), 1.0).saturating_sub(usual),
            p99: quantile(later(), 0.99).saturating_sub(usual),
            noticed: later()
                .filter(|fate| !fate.is_good() || fate.took > usual + LATE)
                .map(|fate| fate.at - BEFORE)
                .max()
                .unwrap_or_default(),
            last_there: last_before_pause(&there),
            back_after: there.iter().find(|at| **at >= BEFORE + DURING).map(|at| *at - BEFORE - DURING),
        }
    }
}

/// The last of the times in the fault that a pause follows, from the begin of the fault.
fn last_before_pause(there: &[Duration]) -> Option<Duration> {
    let mut last = BEFORE;
    for at in there {
        if *at - last >= PAUSE {
            break;
        }
        last = *at;
    }
    (last < BEFORE + DURING).then_some(last - BEFORE)
}

fn quantile<'f>(fates: impl Iterator<Item = &'f Fate>, quantile: f64) -> Duration {
    let mut times: Vec<Duration> = fates.map(|fate| fate.took).collect();
    times.sort_unstable();
    let index = (times.len() as f64 * quantile).ceil() as usize;
    times.get(index.saturating_sub(1)).copied().unwrap_or_default()
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |time: Option<Duration>, none: &str| {
            time.map_or_else(|| none.to_owned(), |time| format!("{:.1} s", time.as_secs_f64()))
        };
        write!(
            f,
            "{} | {} | {} | {} | {} | {:.1} s | {} | {}",
            self.gets_failed,
            self.posts_failed,
            self.posts_repeated,
            self.worst.as_millis(),
            self.p99.as_millis(),
            self.noticed.as_secs_f64(),
            seconds(self.last_there, "stays"),
            seconds(self.back_after, "not within 25 s"),
        )
    }
}
