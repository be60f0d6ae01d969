//! The search for the highest rate that a server bears.

use crate::{Latency, Report};

/// A condition on the results, such as `p99 < 50ms`.
#[derive(Clone, Debug, PartialEq)]
pub struct Goal {
    measure: Measure,
    /// In milliseconds.
    limit: f64,
    typed: String,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Measure {
    Average,
    P50,
    P90,
    P95,
    P99,
    P99_9,
    Maximum,
}

const MEASURES: [(&str, Measure); 8] = [
    ("average", Measure::Average),
    ("p50", Measure::P50),
    ("p90", Measure::P90),
    ("p95", Measure::P95),
    ("p99", Measure::P99),
    ("p99.9", Measure::P99_9),
    ("maximum", Measure::Maximum),
    ("max", Measure::Maximum),
];

impl Goal {
    /// Reads a condition: a response time, `<`, and a time in µs, ms or s.
    ///
    /// # Errors
    /// When the text is no condition: the reason, with an example.
    pub fn parse(text: &str) -> Result<Goal, String> {
        let bad = |what: String| format!("{what}; write something like 'p99 < 50ms'");
        let (measure, limit) = text.split_once('<').ok_or_else(|| bad("the condition has no <".to_owned()))?;
        let limit = limit.strip_prefix('=').unwrap_or(limit).trim();
        let measure = measure.trim();
        let known = MEASURES.iter().find(|(name, _)| *name == measure).ok_or_else(|| {
            let names: Vec<&str> = MEASURES.iter().map(|(name, _)| *name).collect();
            bad(format!("no response time is named \"{measure}\" (known: {})", names.join(", ")))
        })?;
        let digits = limit.trim_end_matches(|character: char| character.is_alphabetic() || character == 'µ').trim();
        let unit = match limit[digits.len()..].trim() {
            "us" | "µs" => 0.001,
            "ms" => 1.0,
            "s" => 1_000.0,
            unit => return Err(bad(format!("\"{unit}\" is no unit of time (known: us, ms, s)"))),
        };
        let limit: f64 = digits.parse().map_err(|_| bad(format!("\"{digits}\" is no number")))?;
        match limit > 0.0 && limit.is_finite() {
            true => Ok(Goal { measure: known.1, limit: limit * unit, typed: text.trim().to_owned() }),
            false => Err(bad("the time must be above 0".to_owned())),
        }
    }

    /// Why a run at a rate does not meet the condition; `None` if the run does.
    pub fn miss(&self, report: &Report) -> Option<String> {
        let Latency { average, p50, p90, p95, p99, p99_9, maximum, .. } = report.response_times;
        let found = match self.measure {
            Measure::Average => average,
            Measure::P50 => p50,
            Measure::P90 => p90,
            Measure::P95 => p95,
            Measure::P99 => p99,
            Measure::P99_9 => p99_9,
            Measure::Maximum => maximum,
        };
        if report.requests == 0 {
            return Some("no request ended".to_owned());
        }
        if report.failed > 0 {
            return Some(format!("{} of {} requests failed", report.failed, report.requests));
        }
        if let Some(schedule) = report.schedule.filter(|schedule| !schedule.is_kept()) {
            return Some(format!(
                "the rate was not kept: {:.1} of {} requests/s were sent",
                schedule.sent_rate, schedule.rate
            ));
        }
        (found >= self.limit)
            .then(|| format!("{} was {found:.3} ms", self.typed.split('<').next().unwrap_or_default().trim()))
    }
}

impl std::fmt::Display for Goal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.typed)
    }
}

/// The rates to try: doubles while the goal is met, and then halves the range in which the highest rate lies.
#[derive(Clone, Debug)]
pub struct Search {
    /// The highest rate that met the goal.
    met: f64,
    /// The lowest rate that did not.
    missed: Option<f64>,
    next: f64,
}

/// The search ends when the range is this small, as a share of its rate.
const PRECISION: f64 = 0.02;

/// The highest rate to try. No single machine sends more.
const RATE_MAX: f64 = 10_000_000.0;

/// The lowest rate to try.
const RATE_MIN: f64 = 1.0;

impl Search {
    /// A search that begins with this rate.
    pub fn new(first: f64) -> Self {
        Search { met: 0.0, missed: None, next: first.clamp(RATE_MIN, RATE_MAX) }
    }

    /// The rate to try next; `None` at the end of the search.
    pub fn next(&self) -> Option<f64> {
        let range_is_small = self.missed.is_some_and(|missed| missed - self.met <= PRECISION * missed);
        let is_over = range_is_small || self.met >= RATE_MAX || self.missed.is_some_and(|missed| missed <= RATE_MIN);
        (!is_over).then_some(self.next)
    }

    /// Takes the result of the rate that [`next`](Search::next) told.
    pub fn tell(&mut self, met: bool) {
        match met {
            true => self.met = self.next,
            false => self.missed = Some(self.next),
        }
        self.next = match self.missed {
            None => (self.met * 2.0).min(RATE_MAX),
            Some(missed) if self.met == 0.0 => (missed / 4.0).max(RATE_MIN),
            Some(missed) => f64::midpoint(self.met, missed),
        };
    }

    /// The highest rate that met the goal; `None` if none did.
    pub fn found(&self) -> Option<f64> {
        (self.met > 0.0).then_some(self.met)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_finds_the_highest_rate_in_few_steps() {
        for (first, highest) in [(1_000.0, 12_345.0), (100.0, 1_000_000.0), (1_000.0, 3.0), (50.0, 50.0)] {
            let mut search = Search::new(first);
            let mut steps = 0;
            while let Some(rate) = search.next() {
                search.tell(rate <= highest);
                steps += 1;
                assert!(steps < 40, "{search:?}");
            }
            let found = search.found().unwrap();
            assert!(found <= highest && found > highest * 0.96, "{found} of {highest}");
        }
        let mut search = Search::new(8.0);
        while search.next().is_some() {
            search.tell(false);
        }
        assert_eq!(search.found(), None);
    }

    #[test]
    fn goals_are_read_or_explained() {
        let goal = |text: &str| Goal::parse(text).map(|goal| (goal.measure, goal.limit));
        assert_eq!(goal("p99 < 50ms"), Ok((Measure::P99, 50.0)));
        assert_eq!(goal("p99.9<=1.5 s"), Ok((Measure::P99_9, 1_500.0)));
        assert_eq!(goal("max < 250us"), Ok((Measure::Maximum, 0.25)));
        for (text, reason) in [
            ("p99", "has no <"),
            ("p98 < 1ms", "no response time is named \"p98\""),
            ("p99 < 50", "\"\" is no unit"),
            ("p99 < ms", "\"\" is no number"),
            ("p99 < 0ms", "above 0"),
            ("p99 < 5min", "\"min\" is no unit"),
        ] {
            let fault = goal(text).unwrap_err();
            assert!(fault.contains(reason) && fault.contains("'p99 < 50ms'"), "{fault}");
        }
    }
}
