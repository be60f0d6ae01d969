//! Outliers: backends that answer probes and yet fail requests, answer nothing, or are slow, unlike the other backends of
//! their cluster.
//!
//! Control looks at the counts of all backends once a second. A backend is compared with the others, because a fault that all
//! backends show is not the fault of one backend: without a database every backend answers 500, and ejecting backends would
//! help no client.
//!
//! The comparison uses the median and the median absolute deviation (MAD) in place of the mean and the standard deviation. In a
//! cluster of three, one bad backend moves the mean so far, and makes the standard deviation so large, that the backend itself
//! lies within three standard deviations for any values; the median and the MAD of the others stay.

use std::sync::Arc;
use std::time::Duration;

use crate::Time;
use crate::load::{STEPS_PER_DOUBLING, Totals};

/// How LoadX finds and ejects outliers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlierPolicy {
    /// The number of failed attempts in a row that eject a backend. Default 5: five failures in a row of a backend that fails one
    /// request in ten by chance happen once in 100,000 requests.
    pub in_a_row: u32,
    /// The number of attempts of the last seconds below which the share of failures and the times of a backend are not
    /// compared. Default 20: with less, one or two failures would decide.
    pub attempts_min: u32,
    /// How many times as long as the others a backend takes to be ejected as slow; `None`: no backend is ejected as slow.
    /// Default 5: the machines of a cluster differ by less.
    pub slow_factor: Option<u32>,
    /// The duration of the first ejection; the second lasts twice as long, the third three times. Default 10 s.
    pub ejection: Duration,
    /// The longest duration of an ejection. Default 300 s.
    pub ejection_max: Duration,
    /// The largest share of the backends of a cluster that may be out of rotation for an outlier to be ejected, in percent.
    /// With more, the remaining backends might not stand the load. Default 50.
    pub out_percent_max: u32,
}

impl Default for OutlierPolicy {
    fn default() -> Self {
        OutlierPolicy {
            in_a_row: 5,
            attempts_min: 20,
            slow_factor: Some(5),
            ejection: Duration::from_secs(10),
            ejection_max: Duration::from_secs(300),
            out_percent_max: 50,
        }
    }
}

impl OutlierPolicy {
    /// The time between two comparisons.
    pub const INTERVAL: Duration = Duration::from_secs(1);
}

/// What counts as a difference even if all others are exactly equal, in parts of all attempts: small clusters of good backends
/// have no deviation.
const FAILURES_DIFFERENCE_MIN: f64 = 0.1;

/// The number of standard deviations of chance that a share of failures must be above the ordinary share.
const SIGMAS: f64 = 4.0;

/// The smallest difference in time that ejects a backend as slow. A backend that takes 2 ms where others take 0.1 ms hurts no
/// client as much as the load that moves to the others.
const SLOW_DIFFERENCE_MIN: Duration = Duration::from_millis(10);

/// The fewest backends of which one can be slow: of two, nothing says which one is ordinary.
const COMPARED_MIN: usize = 3;

/// How much of the counts of earlier seconds remains after a second. The counts are about those of the last five seconds.
const REMAINS: f64 = 0.8;

/// The looks in a row without an ended attempt after which a backend has stopped answering, with `in_a_row` attempts that wait.
/// With `attempts_min` of them, one look of a whole second is enough.
const SILENT_LOOKS: u32 = 2;

/// The attempts at one backend in the last seconds.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    last: Totals,
    /// The counts since which attempts are compared, if that is after the last look.
    compared_from: Option<Totals>,
    ended: f64,
    failed: f64,
    slowness: f64,
    /// The attempts that ended between the last two looks, those of them that failed, and the sum of the times of the others.
    ended_now: u32,
    failed_now: u32,
    slowness_now: u64,
    /// The attempts that were in flight when a head last came or an attempt last ended.
    in_flight_then: u32,
    /// The attempts that other backends have overtaken since then.
    overtaken: u32,
    /// The looks since then.
    silent_looks: u32,
}

impl Tally {
    /// Takes in the counts of one more second.
    pub(crate) fn look(&mut self, totals: Totals) {
        let since = |from: &Totals| {
            let ended = totals.ended.wrapping_sub(from.ended);
            (ended, totals.failed.wrapping_sub(from.failed), totals.slowness.wrapping_sub(from.slowness))
        };
        let (ended, failed, slowness) = since(&self.compared_from.take().unwrap_or(self.last));
        self.ended = self.ended * REMAINS + f64::from(ended);
        self.failed = self.failed * REMAINS + f64::from(failed);
        self.slowness = self.slowness * REMAINS + slowness as f64;
        let (ended, failed, slowness) = since(&self.last);
        let overtaken = totals.overtaken.wrapping_sub(self.last.overtaken);
        let is_idle = totals.in_flight == 0 && overtaken == 0;
        if ended > 0 || totals.heads != self.last.heads || is_idle {
            (self.silent_looks, self.in_flight_then, self.overtaken) = (0, totals.in_flight, 0);
        } else {
            self.overtaken = self.overtaken.saturating_add(overtaken);
            self.silent_looks = self.silent_looks.saturating_add(1);
        }
        (self.ended_now, self.failed_now, self.slowness_now) = (ended, failed, slowness);
        self.last = totals;
    }

    /// Forgets the former seconds.
    pub(crate) fn clear(&mut self) {
        *self = Tally { last: self.last, in_flight_then: self.last.in_flight, ..Tally::default() };
    }

    /// Forgets the former seconds and what has happened since. The counts between two looks stay whole, for the circuit breaker.
    pub(crate) fn forget(&mut self, totals: Totals) {
        self.clear();
        self.compared_from = Some(totals);
    }

    /// The attempts that ended between the last two looks.
    pub(crate) fn ended_now(&self) -> u32 {
        self.ended_now
    }

    /// The attempts that failed between the last two looks.
    pub(crate) fn failed_now(&self) -> u32 {
        self.failed_now
    }

    /// The attempts that were no failures between the last two looks, and the sum of the times to the heads of their responses on
    /// the logarithmic scale.
    pub(crate) fn successes_now(&self) -> (u32, u64) {
        (self.ended_now.saturating_sub(self.failed_now), self.slowness_now)
    }

    fn share_of_failures(&self) -> f64 {
        self.failed / self.ended.max(1.0)
    }

    /// The mean of the times to the heads of responses, on the logarithmic scale.
    fn mean_slowness(&self) -> f64 {
        self.slowness / (self.ended - self.failed).max(1.0)
    }

    /// The attempts that began since a head last came or an attempt last ended, and have not ended, or were overtaken.
    fn unanswered(&self) -> u32 {
        self.last.in_flight.saturating_sub(self.in_flight_then) + self.overtaken
    }
}

/// What makes a backend an outlier.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fault {
    /// Several attempts in a row failed.
    InARow { count: u32, last: Arc<str> },
    /// No attempt ends any more.
    Silent { waiting: u32, seconds: u32 },
    /// The share of failed attempts, and that of the others.
    Fails { share: f64, ordinary: f64 },
    /// The time to the head of a response, and that of the others.
    Slow { time: Duration, ordinary: Duration },
}

impl Fault {
    /// The reason for logs and pages.
    pub(crate) fn reason(&self) -> Arc<str> {
        match self {
            Fault::InARow { count, last } => format!("{count} requests in a row failed, the last: {last}"),
            Fault::Silent { waiting, seconds } => {
                format!("no answer for {seconds} s, and {waiting} more requests wait, while other backends answer")
            }
            Fault::Fails { share, ordinary } => {
                let percent = |share: f64| (share * 100.0).round();
                format!("{} % of the requests failed; at other backends {} %", percent(*share), percent(*ordinary))
            }
            Fault::Slow { time, ordinary } => {
                let ms = |time: &Duration| time.as_secs_f64() * 1e3;
                format!("responses take {:.0} ms; those of other backends {:.1} ms", ms(time), ms(ordinary))
            }
        }
        .into()
    }
}

/// The worst outlier among `tallies`, the tallies of the backends in rotation: its position, and what makes the backend an
/// outlier.
pub(crate) fn worst(tallies: &[&Tally], policy: &OutlierPolicy) -> Option<(usize, Fault)> {
    silent(tallies, policy).or_else(|| failing(tallies, policy)).or_else(|| slow(tallies, policy))
}

/// The backend with most requests of those that stopped answering while most others answer.
fn silent(tallies: &[&Tally], policy: &OutlierPolicy) -> Option<(usize, Fault)> {
    let answering = tallies.iter().filter(|tally| tally.ended_now >= policy.in_a_row).count();
    if answering * 2 < tallies.len() {
        return None;
    }
    let is_silent = |tally: &Tally| {
        let enough = if tally.silent_looks >= SILENT_LOOKS { policy.in_a_row } else { policy.attempts_min };
        tally.silent_looks > 0 && tally.unanswered() >= enough
    };
    let silent = tallies.iter().enumerate().filter(|(_, tally)| is_silent(tally));
    let (position, tally) = silent.max_by_key(|(_, tally)| tally.unanswered())?;
    let seconds = tally.silent_looks * OutlierPolicy::INTERVAL.as_secs() as u32;
    Some((position, Fault::Silent { waiting: tally.unanswered(), seconds }))
}

/// The backend with the largest share of failures, if the share stands out.
fn failing(tallies: &[&Tally], policy: &OutlierPolicy) -> Option<(usize, Fault)> {
    let compared = enough(tallies, |tally| tally.ended, policy);
    let shares: Vec<f64> = compared.iter().map(|position| tallies[*position].share_of_failures()).collect();
    let (ordinary, spread) = ordinary(&shares)?;
    let worst = (0..shares.len()).max_by(|a, b| shares[*a].total_cmp(&shares[*b]))?;
    let (position, share) = (compared[worst], shares[worst]);
    let by_chance = {
        // A backend without a failure so far has not shown that it never fails.
        let chance = ordinary.max(0.01);
        SIGMAS * (chance * (1.0 - chance).max(0.0) / tallies[position].ended).sqrt()
    };
    let stands_out = share > ordinary + spread.max(FAILURES_DIFFERENCE_MIN).max(by_chance);
    (compared.len() > 1 && stands_out).then_some((position, Fault::Fails { share, ordinary }))
}

/// The slowest backend, if its times stand out.
fn slow(tallies: &[&Tally], policy: &OutlierPolicy) -> Option<(usize, Fault)> {
    let difference_min = f64::from(policy.slow_factor?).log2() * STEPS_PER_DOUBLING;
    let compared = enough(tallies, |tally| tally.ended - tally.failed, policy);
    let means: Vec<f64> = compared.iter().map(|position| tallies[*position].mean_slowness()).collect();
    let (ordinary, spread) = ordinary(&means)?;
    let slowest = (0..means.len()).max_by(|a, b| means[*a].total_cmp(&means[*b]))?;
    let (time, usual) = (crate::load::at_scale(means[slowest]), crate::load::at_scale(ordinary));
    let stands_out = means[slowest] - ordinary > spread.max(difference_min) && time > usual + SLOW_DIFFERENCE_MIN;
    let found = compared.len() >= COMPARED_MIN && stands_out;
    found.then_some((compared[slowest], Fault::Slow { time, ordinary: usual }))
}

/// The positions of the tallies with enough attempts.
fn enough(tallies: &[&Tally], count: impl Fn(&Tally) -> f64, policy: &OutlierPolicy) -> Vec<usize> {
    (0..tallies.len()).filter(|position| count(tallies[*position]) >= f64::from(policy.attempts_min)).collect()
}

/// The ordinary value, and how far from it a value may be: the median, and three times what would be the standard deviation if
/// the values were normally distributed (1.4826 MAD). Of an even number, the lower one is the median: fewer failures are
/// the better measure.
fn ordinary(values: &[f64]) -> Option<(f64, f64)> {
    let median = median(values.to_vec())?;
    let deviation = self::median(values.iter().map(|value| (value - median).abs()).collect())?;
    Some((median, 3.0 * 1.4826 * deviation))
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    let middle = values.len().checked_sub(1)? / 2;
    Some(*values.select_nth_unstable_by(middle, f64::total_cmp).1)
}

/// The ejections of one backend as an outlier.
#[derive(Debug, Default)]
pub(crate) struct Ejections {
    /// The present ejection: its end, its duration and its reason.
    present: Option<Ejection>,
    /// How many durations the next ejection lasts, without the first.
    grown: u32,
    /// When the last ejection ended.
    over_since: Option<Time>,
}

#[derive(Clone, Debug)]
pub(crate) struct Ejection {
    pub(crate) since: Time,
    pub(crate) until: Time,
    pub(crate) reason: Arc<str>,
}

impl Ejections {
    /// Begins an ejection; returns its duration. Each ejection lasts longer than the one before, and each time of
    /// `policy.ejection` in rotation takes one such step back.
    pub(crate) fn begin(&mut self, now: Time, reason: Arc<str>, policy: &OutlierPolicy) -> Duration {
        if let Some(since) = self.over_since.take() {
            let good = now.since(since).as_nanos() / policy.ejection.as_nanos().max(1);
            self.grown = self.grown.saturating_sub(u32::try_from(good).unwrap_or(u32::MAX));
        }
        let duration = (policy.ejection * (self.grown + 1)).min(policy.ejection_max.max(policy.ejection));
        if duration < policy.ejection_max {
            self.grown += 1;
        }
        self.present = Some(Ejection { since: now, until: now + duration, reason });
        duration
    }

    /// Ends the present ejection.
    pub(crate) fn end(&mut self, now: Time) {
        self.present = None;
        self.over_since = Some(now);
    }

    pub(crate) fn present(&self) -> Option<&Ejection> {
        self.present.as_ref()
    }

    /// When the last ejection ended; `None` while an ejection lasts and before the first.
    pub(crate) fn over_since(&self) -> Option<Time> {
        self.over_since
    }
}

#[cfg(test)]
mod tests;
