//! The results in tables: medians, and ratios within each round with their spread.

use std::fmt::Write as _;
use std::time::Duration;

use super::contender::Contender;
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
    /// Under the load generator of LoadX.
    pub(super) samples: Vec<Sample>,
    /// Under wrk.
    pub(super) by_wrk: Vec<Sample>,
    /// System calls per request, by name, if they were counted.
    pub(super) calls: Vec<(String, f64)>,
}

impl Column {
    pub(super) fn new(name: String) -> Self {
        Column { name, samples: Vec::new(), by_wrk: Vec::new(), calls: Vec::new() }
    }

    fn under(&self, load: Under) -> &[Sample] {
        match load {
            Under::Own => &self.samples,
            Under::Wrk => &self.by_wrk,
        }
    }
}

/// The load of a sample.
#[derive(Copy, Clone, Debug)]
enum Under {
    Own,
    Wrk,
}

/// A line of the budget: the largest allowed ratio of LoadX's CPU to that of the best of some contenders.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    /// The names of the contenders.
    of: Vec<String>,
    most: f64,
}

impl Budget {
    pub(super) fn new(of: &[Contender], most: f64) -> Self {
        Budget { of: of.iter().map(Contender::name).collect(), most }
    }
}

/// All rounds of one case; the first column is LoadX.
#[derive(Clone, Debug)]
pub(super) struct Comparison {
    pub(super) case: String,
    pub(super) about: String,
    pub(super) columns: Vec<Column>,
    pub(super) budget: Vec<Budget>,
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
    /// The ratios of LoadX's CPU per request to that of `column`, by round; `None` if there are no samples under this load.
    fn ratios(&self, column: &Column, load: Under) -> Option<Spread> {
        let (ours, theirs) = (self.columns[0].under(load), column.under(load));
        let ratios = ours.iter().zip(theirs).map(|(ours, theirs)| ours.cpu_us() / theirs.cpu_us());
        (!theirs.is_empty()).then(|| Spread::of(ratios))
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

    /// The rows of the table: one for each contender, and one for each line of the budget.
    pub(super) fn rows(&self) -> String {
        let mut rows = String::new();
        for (index, column) in self.columns.iter().enumerate() {
            let about = if index == 0 { format!("**{}**: {}", self.case, self.about) } else { String::new() };
            let _ = write!(rows, "| {about} | {} |", column.name);
            for load in [Under::Own, Under::Wrk] {
                let samples = column.under(load);
                if samples.is_empty() {
                    rows.push_str("  |  |  |");
                    continue;
                }
                let median = |value: fn(&Sample) -> f64| Spread::of(samples.iter().map(value)).median;
                let errors: u64 = samples.iter().map(|sample| sample.errors).sum();
                let failed = if errors > 0 { format!(" ({errors} failed)") } else { String::new() };
                let ratio = match self.ratios(column, load).filter(|_| index > 0) {
                    Some(spread) => format!("{:.2} ({:.2}–{:.2})", spread.median, spread.least, spread.most),
                    None => String::new(),
                };
                let (cpu, user) = (median(Sample::cpu_us), median(|sample| sample.user_us));
                let _ = write!(rows, " {cpu:.1} ({user:.1}) | {:.0}{failed} | {ratio} |", median(|one| one.per_second));
            }
            rows.push_str("  |\n");
        }
        self.budget.iter().for_each(|budget| self.put_verdict(budget, &mut rows));
        rows
    }

    /// A line of the budget is met when it is met under each load.
    fn put_verdict(&self, Budget { of, most }: &Budget, rows: &mut String) {
        let best = |load: Under| {
            let named = self.columns.iter().filter(|column| of.contains(&column.name));
            let ratios = named.filter_map(|column| Some(self.ratios(column, load)?.median));
            // The best of the contenders has the least CPU, and so the largest ratio.
            ratios.max_by(f64::total_cmp)
        };
        let ratios = [best(Under::Own), best(Under::Wrk)];
        if ratios.iter().all(Option::is_none) {
            return;
        }
        let told = |ratio: Option<f64>| ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let verdict = if ratios.iter().flatten().all(|ratio| ratio <= most) { "met" } else { "**not met**" };
        let _ = writeln!(
            rows,
            "|  | *budget: {}* |  |  | {} |  |  | {} | {most:.2}: {verdict} |",
            of.join(" or "),
            told(ratios[0]),
            told(ratios[1])
        );
    }
}

pub(super) const HEADER: &str = "\
| case | proxy | own load: CPU µs/request (user) | requests/s | LoadX / the proxy, by round | wrk: CPU µs/request (user) | requests/s | LoadX / the proxy, by round | budget |
|---|---|---|---|---|---|---|---|---|
";
