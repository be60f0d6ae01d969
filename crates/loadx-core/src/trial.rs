//! A config on trial: whether LoadX keeps the config or goes back to the former one.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::Time;

/// The terms of a trial.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// How long LoadX looks at the conditions.
    pub watch: Option<Duration>,
    /// The time within which an operator must confirm the config; `None`: LoadX confirms the config itself after `watch`.
    pub confirm_within: Option<Duration>,
    /// LoadX goes back when one of these holds.
    pub conditions: Vec<Condition>,
}

/// A state in which LoadX goes back to the former config, such as `error_rate > 1%`, `app: p99 > 250ms` or
/// `healthy_backends < 2`.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// The cluster; `None` means all clusters together.
    pub cluster: Option<String>,
    /// What is compared with what.
    pub bound: Bound,
}

/// The value that a figure must not pass.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum Bound {
    /// The largest share of failed exchanges, from 0 to 1.
    ErrorRate(f64),
    /// The longest response time of 99 percent of the exchanges.
    P99(Duration),
    /// The smallest number of backends in rotation.
    HealthyBackends(usize),
}

/// The figures since the trial began.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// All clusters together.
    pub all: ClusterFigures,
    /// Each cluster, by name.
    pub clusters: Vec<(String, ClusterFigures)>,
}

/// The figures of a cluster since the trial began.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterFigures {
    /// The exchanges that ended.
    pub requests: u64,
    /// The exchanges that ended with an error.
    pub errors: u64,
    /// The response time that 99 percent of the exchanges did not exceed.
    pub p99: Duration,
    /// The backends in rotation now.
    pub healthy: usize,
}

/// What becomes of a config on trial.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The trial goes on; the next look is due at this time.
    Wait(Time),
    /// LoadX keeps the config.
    Keep,
    /// LoadX goes back to the former config, for this reason.
    GoBack(String),
}

/// A trial that runs.
#[derive(Clone, Debug)]
pub struct Trial {
    began: Time,
    terms: Terms,
    /// Whether the conditions were judged at the end of the watch or later.
    is_judged: bool,
}

impl Trial {
    /// The number of exchanges from which LoadX judges shares and response times before the end of the watch: one failed
    /// request of two says little.
    pub const REQUESTS_MIN: u64 = 20;

    /// The time between two looks at the figures.
    pub const LOOK_INTERVAL: Duration = Duration::from_millis(500);

    /// Begins a trial.
    pub fn new(now: Time, terms: Terms) -> Self {
        Trial { began: now, terms, is_judged: false }
    }

    /// The terms of the trial.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// When the watch ends: by its own limit, otherwise by the limit for the confirmation.
    fn watch_until(&self) -> Time {
        self.began + self.terms.watch.or(self.terms.confirm_within).unwrap_or_default()
    }

    /// When the trial ends by itself.
    pub fn ends(&self) -> Time {
        match self.terms.confirm_within {
            Some(limit) => self.began + limit,
            None => self.watch_until(),
        }
    }

    /// Whether an operator must confirm the config.
    pub fn needs_word(&self) -> bool {
        self.terms.confirm_within.is_some()
    }

    /// Judges the config by the figures since the trial began; without figures, only the limit for the confirmation holds.
    ///
    /// The conditions hold during the watch and at the first look after the watch, however late that look comes: a config that
    /// does badly may also delay the look.
    pub fn judge(&mut self, now: Time, figures: Option<&Figures>) -> Verdict {
        let is_last = now >= self.watch_until();
        if !self.is_judged
            && let Some(figures) = figures
        {
            if let Some(reason) = self.terms.conditions.iter().find_map(|one| one.broken(figures, is_last)) {
                return Verdict::GoBack(reason);
            }
            self.is_judged = is_last;
        }
        let ends = self.ends();
        match self.terms.confirm_within {
            _ if now < ends => Verdict::Wait(ends.min(now + Self::LOOK_INTERVAL)),
            Some(limit) => Verdict::GoBack(format!("nobody confirmed the config within {} s", limit.as_secs_f64())),
            None if self.is_judged => Verdict::Keep,
            None => Verdict::Wait(now + Self::LOOK_INTERVAL),
        }
    }
}

impl Condition {
    /// The figure that passes the bound, in words; `None` if no figure does, or if too few exchanges ended to tell.
    fn broken(&self, figures: &Figures, is_last: bool) -> Option<String> {
        let of = match &self.cluster {
            None => &figures.all,
            Some(name) => &figures.clusters.iter().find(|(other, _)| other == name)?.1,
        };
        let is_enough = of.requests >= if is_last { 1 } else { Trial::REQUESTS_MIN };
        let what = match self.bound {
            Bound::ErrorRate(max) => {
                let rate = of.errors as f64 / of.requests.max(1) as f64;
                let told = || format!("{} of {} requests failed ({:.2} %)", of.errors, of.requests, 100.0 * rate);
                (is_enough && rate > max).then(told)?
            }
            Bound::P99(max) => {
                (is_enough && of.p99 > max).then(|| format!("p99 is {:.1} ms", 1_000.0 * of.p99.as_secs_f64()))?
            }
            Bound::HealthyBackends(min) => (of.healthy < min).then(|| format!("healthy backends: {}", of.healthy))?,
        };
        Some(format!("{what}, and the condition is \"{self}\""))
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(cluster) = &self.cluster {
            write!(f, "{cluster}: ")?;
        }
        match self.bound {
            Bound::ErrorRate(max) => write!(f, "error_rate > {}%", 100.0 * max),
            Bound::P99(max) => write!(f, "p99 > {}ms", 1_000.0 * max.as_secs_f64()),
            Bound::HealthyBackends(min) => write!(f, "healthy_backends < {min}"),
        }
    }
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "\"{text}\" is no condition; write \"error_rate > 1%\", \"p99 > 250ms\" or \"healthy_backends < 2\", with \
                 the name of a cluster and a colon before if the condition concerns one cluster"
            )
        };
        let (cluster, rest) = match text.rsplit_once(':') {
            Some((cluster, rest)) if !cluster.trim().is_empty() => (Some(cluster.trim().to_owned()), rest),
            Some(_) => return Err(bad()),
            None => (None, text),
        };
        let (figure, value) = rest.split_once(['<', '>']).ok_or_else(bad)?;
        let (figure, sign, value) = (figure.trim(), rest.as_bytes()[figure.len()], value.trim());
        let bound = match (figure, sign) {
            ("error_rate", b'>') => share(value).map(Bound::ErrorRate),
            ("p99", b'>') => span(value).map(Bound::P99),
            ("healthy_backends", b'<') => value.parse().ok().map(Bound::HealthyBackends),
            _ => None,
        };
        Ok(Condition { cluster, bound: bound.ok_or_else(bad)? })
    }
}

/// A share such as `1%` or `0.01`.
fn share(text: &str) -> Option<f64> {
    let (number, unit) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
    let share = number.trim().parse::<f64>().ok()? / unit;
    (0.0..=1.0).contains(&share).then_some(share)
}

/// A time span such as `250ms`, `1.5s` or `2m`.
///
/// # Errors
/// `None` without a unit, and for spans longer than a day.
pub fn span(text: &str) -> Option<Duration> {
    let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3_600.0)];
    let (number, unit) = units.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))?;
    let seconds = number.trim().parse::<f64>().ok()? * unit;
    (0.0..=86_400.0).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    fn figures(requests: u64, errors: u64, p99_ms: u64, healthy: usize) -> Figures {
        let all = ClusterFigures { requests, errors, p99: Duration::from_millis(p99_ms), healthy };
        Figures { clusters: vec![("app".to_owned(), all.clone())], all }
    }

    fn trial(watch: u64, confirm: Option<u64>, conditions: &[&str]) -> Trial {
        let terms = Terms {
            watch: (watch > 0).then(|| Duration::from_secs(watch)),
            confirm_within: confirm.map(Duration::from_secs),
            conditions: conditions.iter().map(|text| text.parse().unwrap()).collect(),
        };
        Trial::new(at(0), terms)
    }

    #[test]
    fn conditions_are_read_and_shown_alike() {
        for text in ["error_rate > 1%", "app: p99 > 250ms", "a:b: healthy_backends < 2", "error_rate > 0%"] {
            assert_eq!(text.parse::<Condition>().unwrap().to_string(), text);
        }
        assert_eq!("p99>1.5s".parse::<Condition>().unwrap().to_string(), "p99 > 1500ms");
        assert_eq!("error_rate > 0.25".parse::<Condition>().unwrap().to_string(), "error_rate > 25%");
        for text in
            ["", "p99", "p99 < 1s", "p99 > 250", "error_rate > 101%", "healthy_backends > 1", ": p99 > 1s", "x > 1"]
        {
            assert!(text.parse::<Condition>().unwrap_err().contains("is no condition"), "{text}");
        }
    }

    #[test]
    fn a_config_that_does_well_is_kept_at_the_end_of_the_watch() {
        let mut trial = trial(30, None, &["error_rate > 1%"]);
        assert_eq!(trial.judge(at(1_000), Some(&figures(1_000, 10, 1, 1))), Verdict::Wait(at(1_500)));
        assert_eq!(trial.judge(at(29_900), Some(&figures(9_000, 90, 1, 1))), Verdict::Wait(at(30_000)));
        assert_eq!(trial.judge(at(30_000), Some(&figures(9_000, 90, 1, 1))), Verdict::Keep);
    }

    #[test]
    fn a_config_that_does_badly_goes_back_with_the_figure() {
        let go_back = |conditions: &[&str], figures: Figures| match trial(30, None, conditions)
            .judge(at(5_000), Some(&figures))
        {
            Verdict::GoBack(reason) => reason,
            other => panic!("{other:?}"),
        };
        let told = go_back(&["error_rate > 1%"], figures(200, 3, 1, 1));
        assert_eq!(told, "3 of 200 requests failed (1.50 %), and the condition is \"error_rate > 1%\"");
        let told = go_back(&["error_rate > 1%", "app: p99 > 250ms"], figures(200, 0, 251, 1));
        assert_eq!(told, "p99 is 251.0 ms, and the condition is \"app: p99 > 250ms\"");
        let told = go_back(&["healthy_backends < 2"], figures(0, 0, 0, 1));
        assert_eq!(told, "healthy backends: 1, and the condition is \"healthy_backends < 2\"");
    }

    #[test]
    fn few_requests_are_judged_only_at_the_end() {
        let mut trial = trial(30, None, &["error_rate > 1%"]);
        assert!(matches!(trial.judge(at(1_000), Some(&figures(2, 1, 1, 1))), Verdict::Wait(_)));
        assert!(matches!(trial.judge(at(30_000), Some(&figures(2, 1, 1, 1))), Verdict::GoBack(_)));
        assert_eq!(trial.judge(at(30_000), Some(&figures(0, 0, 0, 1))), Verdict::Keep);
    }

    #[test]
    fn without_a_confirmation_the_config_goes_back() {
        let mut trial = trial(10, Some(60), &["error_rate > 1%"]);
        assert!(matches!(trial.judge(at(5_000), Some(&figures(100, 50, 1, 1))), Verdict::GoBack(_)));
        assert!(matches!(trial.judge(at(10_200), Some(&figures(100, 0, 1, 1))), Verdict::Wait(_)));
        assert!(
            matches!(trial.judge(at(20_000), Some(&figures(100, 50, 1, 1))), Verdict::Wait(_)),
            "the watch is over"
        );
        let Verdict::GoBack(reason) = trial.judge(at(60_000), Some(&figures(0, 0, 0, 0))) else {
            panic!("the time is over")
        };
        assert_eq!(reason, "nobody confirmed the config within 60 s");
    }

    #[test]
    fn without_a_watch_the_conditions_hold_until_the_confirmation() {
        let mut trial = trial(0, Some(60), &["error_rate > 1%"]);
        assert!(matches!(trial.judge(at(50_000), Some(&figures(100, 50, 1, 1))), Verdict::GoBack(_)));
    }

    #[test]
    fn a_late_look_judges_and_without_figures_nothing_is_kept() {
        let mut late = trial(10, None, &["error_rate > 1%"]);
        assert!(matches!(late.judge(at(15_000), Some(&figures(5, 5, 1, 1))), Verdict::GoBack(_)));
        let mut blind = trial(10, None, &["healthy_backends < 1"]);
        assert_eq!(blind.judge(at(10_000), None), Verdict::Wait(at(10_500)));
        assert_eq!(blind.judge(at(10_500), Some(&figures(0, 0, 0, 1))), Verdict::Keep);
    }
}
