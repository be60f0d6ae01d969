//! The results in tables: medians, and ratios within each round with their spread.

use std::fmt::Write as _;
use std::time::Duration;

use crate::processes::Used;

/// The result of one contender in one round of one case.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) user_us: f64,
    pub(super) system_us: f64,
    pub(super) per_second: f64,
    pub(super) errors: u64,
    /// The memory of the contender at the end, in bytes.
    pub(super) resident: u64,
}

impl Sample {
    pub(super) fn new(used: Used, done: u64, took: Duration, errors: u64) -> Sample {
        let per_request = |seconds: f64| seconds * 1e6 / done.max(1) as f64;
        Sample {
            user_us: per_request(used.user),
            system_us: per_request(used.system),
            per_second: done as f64 / took.as_secs_f64(),
            errors,
            resident: 0,
        }
    }

    pub(super) fn cpu_us(&self) -> f64 {
        self.user_us + self.system_us
    }
}

/// All rounds of one contender.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) samples: Vec<Sample>,
    /// System calls per request, by name, if they were counted.
    pub(super) calls: Vec<(String, f64)>,
}

/// All rounds of one case; the first column is LoadX.
#[derive(Clone, Debug)]
pub(super) struct Comparison {
    pub(super) case: String,
    pub(super) about: String,
    pub(super) columns: Vec<Column>,
    /// The name of a contender, and the largest allowed ratio of LoadX's CPU to its CPU.
    pub(super) budget: Vec<(String, f64)>,
}

/// The median, the least and the most of some values.
#[derive(Copy, Clone, Debug)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) most: f64,
}

impl Spread {
    pub(super) fn of(values: impl Iterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        let (low, high) = (at(values.len().saturating_sub(1) / 2), at(values.len() / 2));
        Spread { median: (low + high) / 2.0, least: at(0), most: at(values.len().saturating_sub(1)) }
    }
}

impl Comparison {
    /// The ratios of LoadX's CPU per request to that of column `index`, by round.
    fn ratios(&self, index: usize) -> Spread {
        let (ours, theirs) = (&self.columns[0].samples, &self.columns[index].samples);
        Spread::of(ours.iter().zip(theirs).map(|(ours, theirs)| ours.cpu_us() / theirs.cpu_us()))
    }

    /// The counted system calls, one line per contender.
    pub(super) fn calls(&self) -> String {
        let mut lines = String::new();
        for column in self.columns.iter().filter(|column| !column.calls.is_empty()) {
            let all: f64 = column.calls.iter().map(|(_, count)| count).sum();
            let often = column.calls.iter().filter(|(_, count)| *count >= 0.01);
            let listed: Vec<_> = often.map(|(name, count)| format!("{name} {count:.2}")).collect();
            let _ =
                writeln!(lines, "calls per request, {}, {}: {all:.2} ({})", self.case, column.name, listed.join(", "));
        }
        lines
    }

    /// The rows of the table.
    pub(super) fn rows(&self) -> String {
        let mut rows = String::new();
        for (index, column) in self.columns.iter().enumerate() {
            let median = |value: fn(&Sample) -> f64| Spread::of(column.samples.iter().map(value)).median;
            let errors: u64 = column.samples.iter().map(|sample| sample.errors).sum();
            let about = if index == 0 { format!("**{}**: {}", self.case, self.about) } else { String::new() };
            let (ratio, budget) = if index == 0 {
                (String::new(), String::new())
            } else {
                let spread = self.ratios(index);
                let ratio = format!("{:.2} ({:.2}–{:.2})", spread.median, spread.least, spread.most);
                let allowed = self.budget.iter().find(|(name, _)| *name == column.name);
                let verdict = |allowed: f64| if spread.median <= allowed { "met" } else { "**not met**" };
                (ratio, allowed.map_or(String::new(), |(_, allowed)| format!("{allowed:.2}: {}", verdict(*allowed))))
            };
            let failed = if errors > 0 { format!(" ({errors} failed)") } else { String::new() };
            let _ = writeln!(
                rows,
                "| {about} | {} | {:.1} | {:.2} | {:.1} | {:.0}{failed} | {ratio} | {budget} |",
                column.name,
                median(Sample::cpu_us),
                median(|sample| sample.user_us),
                median(|sample| sample.system_us),
                median(|sample| sample.per_second),
            );
        }
        rows
    }
}

pub(super) const HEADER: &str = "\
| case | proxy | CPU µs/request | user | system | requests/s | CPU of LoadX / CPU of the proxy, by round | budget |
|---|---|---|---|---|---|---|---|
";
