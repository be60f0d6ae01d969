//! What `loadx top` knows: the last tick, the last minute, and what the operator chose.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The seconds of the sparklines.
const SECONDS: usize = 60;

/// A tick comes each second; after this time without one, the figures are old.
const SILENCE: Duration = Duration::from_secs(3);

/// A column to sort by.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    /// As in the config.
    #[default]
    Config,
    Rate,
    Errors,
    Average,
    InFlight,
    State,
}

impl Sort {
    const ALL: [Sort; 6] = [Sort::Config, Sort::Rate, Sort::Errors, Sort::Average, Sort::InFlight, Sort::State];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Sort::Config => "the config",
            Sort::Rate => "requests",
            Sort::Errors => "errors",
            Sort::Average => "average",
            Sort::InFlight => "in flight",
            Sort::State => "state",
        }
    }
}

/// A backend in the table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) cluster: String,
    pub(super) name: String,
    pub(super) state: String,
    pub(super) is_admitted: bool,
    pub(super) is_drained: bool,
    pub(super) reason: String,
    pub(super) rate: f64,
    pub(super) errors: f64,
    /// In milliseconds.
    pub(super) average: Option<f64>,
    pub(super) in_flight: u64,
    pub(super) weight: u64,
    /// The share of the requests of the cluster.
    pub(super) share: Option<f64>,
}

/// The backend that the operator chose.
pub(super) struct Chosen {
    pub(super) cluster: String,
    pub(super) backend: String,
    pub(super) is_drained: bool,
}

/// What `loadx top` shows.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) tick: Value,
    /// Requests per second, of the last minute.
    pub(super) rates: VecDeque<u64>,
    /// The same of each backend, by cluster and name.
    of_backends: HashMap<(String, String), VecDeque<u64>>,
    pub(super) sort: Sort,
    filter: String,
    is_typing: bool,
    /// The chosen backend, by cluster and name.
    choice: Option<(String, String)>,
    /// What happened to the last change, until the operator goes on.
    pub(super) told: String,
    /// When the last tick came.
    heard: Option<Instant>,
}

impl View {
    pub(super) fn take(&mut self, tick: Value) {
        self.tick = tick;
        self.heard = Some(Instant::now());
        let rate = self.figure("rate");
        remember(&mut self.rates, rate);
        for row in self.all_rows() {
            remember(self.of_backends.entry((row.cluster, row.name)).or_default(), row.rate);
        }
    }

    /// For how long LoadX has told nothing, if that is longer than it should be.
    pub(super) fn silence(&self) -> Option<Duration> {
        self.heard.map(|heard| heard.elapsed()).filter(|silence| *silence >= SILENCE)
    }

    /// A figure of all requests.
    pub(super) fn figure(&self, key: &str) -> f64 {
        self.tick["total"]["figures"][key].as_f64().unwrap_or_default()
    }

    /// A fact about LoadX, as text.
    pub(super) fn fact(&self, key: &str) -> String {
        match &self.tick["state"][key] {
            Value::String(text) => printable(text),
            Value::Null => String::new(),
            other => other.to_string(),
        }
    }

    pub(super) fn number(&self, key: &str) -> u64 {
        self.tick["state"][key].as_u64().unwrap_or_default()
    }

    /// The last events, the newest first.
    pub(super) fn events(&self) -> Vec<(bool, String)> {
        let events = self.tick["events"].as_array().map_or(&[][..], Vec::as_slice);
        let event = |event: &Value| {
            let text = printable(event["text"].as_str().unwrap_or_default());
            (event["warning"].as_bool().unwrap_or_default(), text)
        };
        events.iter().rev().map(event).collect()
    }

    fn all_rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        let clusters = self.tick["state"]["clusters"].as_array().map_or(&[][..], Vec::as_slice);
        for cluster in clusters {
            let of_cluster = cluster["figures"]["rate"].as_f64().unwrap_or_default();
            for backend in cluster["backends"].as_array().map_or(&[][..], Vec::as_slice) {
                let text = |key: &str| printable(backend[key].as_str().unwrap_or_default());
                let figure = |key: &str| backend["figures"][key].as_f64();
                let rate = figure("rate").unwrap_or_default();
                rows.push(Row {
                    cluster: printable(cluster["name"].as_str().unwrap_or_default()),
                    name: text("name"),
                    state: text("state"),
                    is_admitted: backend["admitted"].as_bool().unwrap_or_default(),
                    is_drained: backend["drained"].as_bool().unwrap_or_default(),
                    reason: text("reason"),
                    rate,
                    errors: figure("errors").unwrap_or_default(),
                    average: figure("average"),
                    in_flight: backend["in_flight"].as_u64().unwrap_or_default(),
                    weight: backend["weight"].as_u64().unwrap_or_default(),
                    share: (of_cluster > 0.0).then(|| rate / of_cluster),
                });
            }
        }
        rows
    }

    /// The backends that the filter lets through, sorted.
    pub(super) fn rows(&self) -> Vec<Row> {
        let mut rows = self.all_rows();
        let wanted = self.filter.to_lowercase();
        rows.retain(|row| format!("{} {}", row.cluster, row.name).to_lowercase().contains(&wanted));
        let by = |value: fn(&Row) -> f64| move |a: &Row, b: &Row| value(b).total_cmp(&value(a));
        match self.sort {
            Sort::Config => {}
            Sort::Rate => rows.sort_by(by(|row| row.rate)),
            Sort::Errors => rows.sort_by(by(|row| row.errors)),
            Sort::Average => rows.sort_by(by(|row| row.average.unwrap_or_default())),
            Sort::InFlight => rows.sort_by(by(|row| row.in_flight as f64)),
            // Those that need an operator first.
            Sort::State => rows.sort_by_key(|row| (row.is_admitted, row.is_drained)),
        }
        rows
    }

    /// The requests per second of a backend in the last minute.
    pub(super) fn history(&self, row: &Row) -> Vec<u64> {
        let known = self.of_backends.get(&(row.cluster.clone(), row.name.clone()));
        known.map(|rates| rates.iter().copied().collect()).unwrap_or_default()
    }

    /// The position of the chosen backend among `rows`.
    pub(super) fn position(&self, rows: &[Row]) -> Option<usize> {
        let (cluster, name) = self.choice.as_ref()?;
        rows.iter().position(|row| row.cluster == *cluster && row.name == *name)
    }

    pub(super) fn choose_by(&mut self, steps: isize) {
        self.told.clear();
        let rows = self.rows();
        let Some(last) = rows.len().checked_sub(1) else { return };
        let position = self.position(&rows).map_or(0, |at| at.saturating_add_signed(steps).min(last));
        self.choice = Some((rows[position].cluster.clone(), rows[position].name.clone()));
    }

    pub(super) fn chosen(&self) -> Option<Chosen> {
        let rows = self.rows();
        let row = &rows[self.position(&rows)?];
        Some(Chosen { cluster: row.cluster.clone(), backend: row.name.clone(), is_drained: row.is_drained })
    }

    pub(super) fn sort_by_next(&mut self) {
        let at = Sort::ALL.iter().position(|sort| *sort == self.sort).unwrap_or_default();
        self.sort = Sort::ALL[(at + 1) % Sort::ALL.len()];
    }

    pub(super) fn begin_filter(&mut self) {
        self.is_typing = true;
    }

    pub(super) fn end_filter(&mut self, keeps: bool) {
        self.is_typing = false;
        if !keeps {
            self.filter.clear();
        }
    }

    /// The filter, while the operator types it.
    pub(super) fn filter_mut(&mut self) -> Option<&mut String> {
        self.is_typing.then_some(&mut self.filter)
    }

    /// The filter for the screen.
    pub(super) fn filter_line(&self) -> String {
        match (self.is_typing, self.filter.is_empty()) {
            (true, _) => format!("/{}_", self.filter),
            (false, true) => String::new(),
            (false, false) => format!("/{}", self.filter),
        }
    }

    pub(super) fn tell(&mut self, text: &str) {
        self.told = printable(&text.replace('\n', " "));
    }

    /// The tick in one line.
    pub(super) fn line(&self) -> String {
        format!(
            "{} requests/s, {} errors/s, p50 {} ms, p99 {} ms, {} of {} backends in rotation, {} connections: {}",
            self.figure("rate"),
            self.figure("errors"),
            self.figure("p50"),
            self.figure("p99"),
            self.number("admitted"),
            self.number("backends"),
            self.number("connections"),
            self.fact("word"),
        )
    }
}

fn remember(values: &mut VecDeque<u64>, value: f64) {
    if values.len() == SECONDS {
        values.pop_front();
    }
    values.push_back(value.round() as u64);
}

/// Without characters that could change a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}
