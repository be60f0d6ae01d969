//! Exposes metrics in the formats of Prometheus and OpenMetrics.
//!
//! `families` names the metrics. `counted` and `process` give values to an [`Exposition`], and so does control for what it knows;
//! `text` and `protobuf` write the formats, and `format` chooses one for a request.

mod counted;
mod families;
mod format;
mod process;
mod protobuf;
mod text;

use hdrhistogram::Histogram;

pub(crate) use families::{Family, Kind};
pub use format::MetricsFormat;

use super::latency::Buckets;

/// All metrics by name, for those that have values.
pub(crate) mod family {
    pub(crate) use super::families::*;
}

/// The labels of a value.
pub(crate) type Labels<'l> = &'l [(&'static str, &'l str)];

/// A value.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Value<'v> {
    Whole(u64),
    Real(f64),
    /// Durations: the counts by fixed bounds, and where there is one the finer histogram, both in microseconds.
    Durations(&'v Buckets, Option<&'v Histogram<u64>>),
}

/// A format that takes families one after the other, each with its values.
trait Encoder {
    fn family(&mut self, family: &Family);
    fn value(&mut self, labels: Labels<'_>, value: Value<'_>);
    fn finish(self: Box<Self>) -> Vec<u8>;
}

/// Collects metrics.
pub(crate) struct Exposition(Box<dyn Encoder>);

impl Exposition {
    pub(crate) fn new(format: MetricsFormat) -> Self {
        Exposition(match format {
            MetricsFormat::Text => Box::new(text::Text::prometheus()),
            MetricsFormat::OpenMetrics => Box::new(text::Text::open_metrics()),
            MetricsFormat::Protobuf => Box::<protobuf::Protobuf>::default(),
        })
    }

    /// Begins a family. Its values follow; all labels of a value distinguish it from the others.
    pub(crate) fn family(&mut self, family: &Family) -> &mut Self {
        self.0.family(family);
        self
    }

    pub(crate) fn value(&mut self, labels: Labels<'_>, value: Value<'_>) {
        self.0.value(labels, value);
    }

    pub(crate) fn whole(&mut self, labels: Labels<'_>, value: impl TryInto<u64>) {
        self.value(labels, Value::Whole(value.try_into().unwrap_or(u64::MAX)));
    }

    pub(crate) fn real(&mut self, labels: Labels<'_>, value: f64) {
        self.value(labels, Value::Real(value));
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests;
