//! The messages of Prometheus in Protocol Buffers (`io.prometheus.client`), each with its length before it. A histogram is told
//! twice, with fixed bounds and as a native histogram; the server takes what it wants.

use hdrhistogram::Histogram;
use prost::Message;

use super::{Encoder, Family, Kind, Labels, Value};
use crate::telemetry::latency::{BOUNDS_US, Buckets};

/// The resolution of native histograms: 2^3 buckets each time a duration doubles, which makes a bucket 9 % wide.
const SCHEMA: i32 = 3;

#[derive(Default)]
pub(super) struct Protobuf {
    out: Vec<u8>,
    present: Option<MetricFamily>,
}

impl Protobuf {
    fn flush(&mut self) {
        // A family without values may not be told.
        if let Some(family) = self.present.take().filter(|family| !family.metric.is_empty()) {
            family.encode_length_delimited(&mut self.out).expect("a Vec has room");
        }
    }
}

impl Encoder for Protobuf {
    fn family(&mut self, family: &Family) {
        self.flush();
        let (suffix, kind) = match family.kind {
            Kind::Counter => ("_total", MetricType::Counter),
            Kind::Gauge => ("", MetricType::Gauge),
            Kind::Info => ("_info", MetricType::Gauge),
            Kind::Histogram => ("", MetricType::Histogram),
        };
        self.present = Some(MetricFamily {
            name: Some(format!("{}{suffix}", family.name)),
            help: Some(family.help.to_owned()),
            r#type: Some(kind.into()),
            metric: Vec::new(),
        });
    }

    fn value(&mut self, labels: Labels<'_>, value: Value<'_>) {
        let Some(family) = &mut self.present else { return };
        let label = |(name, value): &(&str, &str)| LabelPair {
            name: Some((*name).to_owned()),
            value: Some((*value).to_owned()),
        };
        let mut metric = Metric { label: labels.iter().map(label).collect(), ..Metric::default() };
        let number = match value {
            Value::Whole(whole) => whole as f64,
            Value::Real(real) => real,
            Value::Durations(buckets, histogram) => {
                metric.histogram = Some(durations(buckets, histogram));
                family.metric.push(metric);
                return;
            }
        };
        match family.r#type() {
            MetricType::Counter => metric.counter = Some(Counter { value: Some(number) }),
            _ => metric.gauge = Some(Gauge { value: Some(number) }),
        }
        family.metric.push(metric);
    }

    fn finish(mut self: Box<Self>) -> Vec<u8> {
        self.flush();
        self.out
    }
}

fn durations(buckets: &Buckets, fine: Option<&Histogram<u64>>) -> HistogramValue {
    let mut below = 0;
    let bucket = BOUNDS_US.iter().zip(buckets.counts).map(|(bound, count)| {
        below += count;
        Bucket { cumulative_count: Some(below), upper_bound: Some(*bound as f64 / 1e6) }
    });
    let mut value = HistogramValue {
        sample_count: Some(buckets.total()),
        sample_sum: Some(buckets.sum_us as f64 / 1e6),
        bucket: bucket.collect(),
        ..HistogramValue::default()
    };
    if let Some(fine) = fine {
        make_native(fine, &mut value);
    }
    value
}

/// Adds the native histogram: the counts of the buckets that are not empty, as runs of neighbours (spans), each count as the
/// difference from the count before.
///
/// A duration within 1 % of the bound between two buckets may count on the other side of the bound: that is the precision of
/// `fine`.
fn make_native(fine: &Histogram<u64>, value: &mut HistogramValue) {
    let mut counts: Vec<(i32, u64)> = Vec::new();
    for step in fine.iter_recorded() {
        let seconds = fine.median_equivalent(step.value_iterated_to()) as f64 / 1e6;
        let index = (seconds.log2() * f64::from(1 << SCHEMA)).ceil() as i32;
        match counts.last_mut() {
            Some((last, count)) if *last == index => *count += step.count_since_last_iteration(),
            _ => counts.push((index, step.count_since_last_iteration())),
        }
    }
    let (mut next, mut former) = (0, 0);
    for (index, count) in counts {
        match value.positive_span.last_mut() {
            Some(span) if index == next => span.length = span.length.map(|length| length + 1),
            _ => value.positive_span.push(BucketSpan { offset: Some(index - next), length: Some(1) }),
        }
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        value.positive_delta.push(count - former);
        (next, former) = (index + 1, count);
    }
    if value.positive_span.is_empty() {
        // An empty span marks a native histogram without observations.
        value.positive_span.push(BucketSpan { offset: Some(0), length: Some(0) });
    }
    value.schema = Some(SCHEMA);
    value.zero_threshold = Some(0.0);
    value.zero_count = Some(0);
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct MetricFamily {
    #[prost(string, optional, tag = "1")]
    pub(super) name: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(super) help: Option<String>,
    #[prost(enumeration = "MetricType", optional, tag = "3")]
    pub(super) r#type: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    pub(super) metric: Vec<Metric>,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub(super) enum MetricType {
    Counter = 0,
    Gauge = 1,
    Histogram = 4,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Metric {
    #[prost(message, repeated, tag = "1")]
    pub(super) label: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    pub(super) gauge: Option<Gauge>,
    #[prost(message, optional, tag = "3")]
    pub(super) counter: Option<Counter>,
    #[prost(message, optional, tag = "7")]
    pub(super) histogram: Option<HistogramValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct LabelPair {
    #[prost(string, optional, tag = "1")]
    pub(super) name: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(super) value: Option<String>,
}

#[derive(Copy, Clone, PartialEq, Message)]
pub(super) struct Gauge {
    #[prost(double, optional, tag = "1")]
    pub(super) value: Option<f64>,
}

#[derive(Copy, Clone, PartialEq, Message)]
pub(super) struct Counter {
    #[prost(double, optional, tag = "1")]
    pub(super) value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct HistogramValue {
    #[prost(uint64, optional, tag = "1")]
    pub(super) sample_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub(super) sample_sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    pub(super) bucket: Vec<Bucket>,
    #[prost(sint32, optional, tag = "5")]
    pub(super) schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    pub(super) zero_threshold: Option<f64>,
    #[prost(uint64, optional, tag = "7")]
    pub(super) zero_count: Option<u64>,
    #[prost(message, repeated, tag = "12")]
    pub(super) positive_span: Vec<BucketSpan>,
    #[prost(sint64, repeated, packed = "false", tag = "13")]
    pub(super) positive_delta: Vec<i64>,
}

#[derive(Copy, Clone, PartialEq, Message)]
pub(super) struct Bucket {
    #[prost(uint64, optional, tag = "1")]
    pub(super) cumulative_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub(super) upper_bound: Option<f64>,
}

#[derive(Copy, Clone, PartialEq, Eq, Message)]
pub(super) struct BucketSpan {
    #[prost(sint32, optional, tag = "1")]
    pub(super) offset: Option<i32>,
    #[prost(uint32, optional, tag = "2")]
    pub(super) length: Option<u32>,
}
