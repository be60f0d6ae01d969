//! The text formats: that of Prometheus (version 0.0.4), and OpenMetrics 1.0, which differ in a few places.

use std::io::Write as _;

use super::{Encoder, Family, Kind, Labels, Value};
use crate::telemetry::latency::{BOUNDS_US, Buckets};

const NEVER_FAILS: &str = "writing to a Vec cannot fail";

pub(super) struct Text {
    out: Vec<u8>,
    is_open_metrics: bool,
    /// The name of the present family in its values.
    name: String,
}

impl Text {
    pub(super) fn prometheus() -> Self {
        Text { out: Vec::new(), is_open_metrics: false, name: String::new() }
    }

    pub(super) fn open_metrics() -> Self {
        Text { is_open_metrics: true, ..Text::prometheus() }
    }

    fn sample(&mut self, suffix: &str, labels: Labels<'_>, bound: Option<&str>) {
        self.out.extend_from_slice(self.name.as_bytes());
        self.out.extend_from_slice(suffix.as_bytes());
        let mut before = b'{';
        for (name, value) in labels.iter().copied().chain(bound.map(|bound| ("le", bound))) {
            self.out.push(before);
            before = b',';
            self.out.extend_from_slice(name.as_bytes());
            self.out.extend_from_slice(b"=\"");
            put_escaped(&mut self.out, value);
            self.out.push(b'"');
        }
        self.out.extend_from_slice(if before == b'{' { b" " } else { b"} " });
    }

    fn durations(&mut self, labels: Labels<'_>, buckets: &Buckets) {
        let mut below = 0;
        for (place, count) in buckets.counts.iter().enumerate() {
            below += count;
            let bound = BOUNDS_US.get(place).map_or("+Inf".to_owned(), |bound| seconds(*bound));
            self.sample("_bucket", labels, Some(&bound));
            writeln!(self.out, "{below}").expect(NEVER_FAILS);
        }
        self.sample("_sum", labels, None);
        writeln!(self.out, "{}", seconds(buckets.sum_us)).expect(NEVER_FAILS);
        self.sample("_count", labels, None);
        writeln!(self.out, "{below}").expect(NEVER_FAILS);
    }
}

impl Encoder for Text {
    fn family(&mut self, family: &Family) {
        let suffix = match family.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        self.name = format!("{}{suffix}", family.name);
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Info if self.is_open_metrics => "info",
            Kind::Info => "gauge",
        };
        // In OpenMetrics a suffix belongs to the values alone.
        let name = if self.is_open_metrics { family.name } else { &self.name };
        writeln!(self.out, "# HELP {name} {}\n# TYPE {name} {kind}", family.help).expect(NEVER_FAILS);
    }

    fn value(&mut self, labels: Labels<'_>, value: Value<'_>) {
        match value {
            Value::Durations(buckets, _) => return self.durations(labels, buckets),
            Value::Whole(value) => {
                self.sample("", labels, None);
                writeln!(self.out, "{value}")
            }
            Value::Real(value) => {
                self.sample("", labels, None);
                writeln!(self.out, "{value}")
            }
        }
        .expect(NEVER_FAILS);
    }

    fn finish(mut self: Box<Self>) -> Vec<u8> {
        if self.is_open_metrics {
            self.out.extend_from_slice(b"# EOF\n");
        }
        self.out
    }
}

/// Microseconds as seconds, exact.
fn seconds(us: u64) -> String {
    let text = format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    let shortened = text.trim_end_matches('0');
    // OpenMetrics wants the bounds of a histogram in one form only: with a decimal point.
    if shortened.ends_with('.') { format!("{shortened}0") } else { shortened.to_owned() }
}

fn put_escaped(out: &mut Vec<u8>, value: &str) {
    for byte in value.bytes() {
        match byte {
            b'\\' | b'"' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            _ => out.push(byte),
        }
    }
}
