use hdrhistogram::Histogram;
use prost::Message as _;

use super::families::ALL;
use super::protobuf::{HistogramValue, MetricFamily};
use super::*;
use crate::telemetry::latency::Latency;

fn example(format: MetricsFormat, took_us: &[u64]) -> Vec<u8> {
    let (mut buckets, mut latency) = (Buckets::default(), Latency::small());
    for took in took_us {
        buckets.record(*took);
        latency.record(*took);
    }
    let mut out = Exposition::new(format);
    out.family(&family::BUILD).whole(&[("version", "1.2.3")], 1_u64);
    out.family(&family::REQUESTS).whole(&[("listener", "a\"b\\c\nd"), ("code", "2xx")], 7_u64);
    out.family(&family::BACKEND_UP).real(&[], 0.5);
    out.family(&family::ROUTE_DURATION).value(&[("route", "r")], Value::Durations(&buckets, Some(&latency.histogram)));
    out.finish()
}

#[test]
fn text_has_the_documented_form() {
    let text = String::from_utf8(example(MetricsFormat::Text, &[250, 251, 61_000_000])).unwrap();
    let start = "# HELP loadx_build_info The version of LoadX.\n# TYPE loadx_build_info gauge\n\
                 loadx_build_info{version=\"1.2.3\"} 1\n# HELP loadx_requests_total ";
    assert!(text.starts_with(start), "{text}");
    assert!(text.contains("\nloadx_requests_total{listener=\"a\\\"b\\\\c\\nd\",code=\"2xx\"} 7\n"), "{text}");
    assert!(text.contains("\nloadx_backend_up 0.5\n"), "{text}");
    let name = "loadx_route_request_duration_seconds";
    for (suffix, labels, value) in [
        ("bucket", ",le=\"0.0001\"", "0"),
        ("bucket", ",le=\"0.00025\"", "1"),
        ("bucket", ",le=\"0.0005\"", "2"),
        ("bucket", ",le=\"60.0\"", "2"),
        ("bucket", ",le=\"+Inf\"", "3"),
        ("sum", "", "61.000501"),
        ("count", "", "3"),
    ] {
        let line = format!("\n{name}_{suffix}{{route=\"r\"{labels}}} {value}\n");
        assert!(text.contains(&line), "{line}: {text}");
    }
}

#[test]
fn open_metrics_names_counters_without_their_suffix() {
    let text = String::from_utf8(example(MetricsFormat::OpenMetrics, &[])).unwrap();
    assert!(text.contains("# TYPE loadx_build info\nloadx_build_info{"), "{text}");
    assert!(text.contains("# TYPE loadx_requests counter\nloadx_requests_total{"), "{text}");
    assert!(text.ends_with("\n# EOF\n"), "{text}");
}

/// The counts of a native histogram by the upper bound of their bucket, as a reader decodes them.
fn native(histogram: &HistogramValue) -> Vec<(f64, i64)> {
    let (mut index, mut count, mut all) = (0, 0, Vec::new());
    let mut deltas = histogram.positive_delta.iter();
    for span in &histogram.positive_span {
        index += span.offset();
        for _ in 0..span.length() {
            count += deltas.next().expect("each bucket has a count");
            all.push((f64::from(index) / 8.0, count));
            index += 1;
        }
    }
    assert_eq!(deltas.next(), None);
    all.into_iter().map(|(power, count)| (power.exp2(), count)).collect()
}

#[test]
fn native_histograms_count_each_duration_in_its_bucket() {
    let took_us = [1, 1, 90, 3_000, 3_010, 500_000, 500_100, 70_000_000];
    let bytes = example(MetricsFormat::Protobuf, &took_us);
    let mut rest = &bytes[..];
    let mut families = Vec::new();
    while !rest.is_empty() {
        families.push(MetricFamily::decode_length_delimited(&mut rest).expect("the message is whole"));
    }
    assert_eq!(families.len(), 4);
    assert_eq!(families[1].name(), "loadx_requests_total");
    assert_eq!(families[1].metric[0].counter.unwrap().value(), 7.0);
    let histogram = families[3].metric[0].histogram.as_ref().unwrap();
    assert_eq!((histogram.sample_count(), histogram.bucket[1].cumulative_count()), (8, 3));
    let buckets = native(histogram);
    assert_eq!(buckets.iter().map(|(_, count)| count).sum::<i64>(), 8);
    for took in took_us {
        let seconds = took as f64 / 1e6;
        let holds = |(bound, count): &(f64, i64)| {
            *count > 0 && seconds <= bound * 1.01 && seconds > bound / 2_f64.powf(1.0 / 8.0) / 1.01
        };
        assert!(buckets.iter().any(holds), "{took}: {buckets:?}");
    }
}

#[test]
fn an_empty_histogram_is_native_all_the_same() {
    let mut value = Exposition::new(MetricsFormat::Protobuf);
    let (buckets, fine) = (Buckets::default(), Histogram::<u64>::new(2).unwrap());
    value.family(&family::ROUTE_DURATION).value(&[], Value::Durations(&buckets, Some(&fine)));
    let family = MetricFamily::decode_length_delimited(&value.finish()[..]).unwrap();
    assert_eq!(family.metric[0].histogram.as_ref().unwrap().positive_span.len(), 1);
}

#[test]
fn accept_chooses_the_format() {
    let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6";
    let prometheus =
        format!("{protobuf},application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2");
    for (accept, format) in [
        (prometheus.as_str(), Some(MetricsFormat::Protobuf)),
        ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5,*/*;q=0.1", Some(MetricsFormat::OpenMetrics)),
        ("text/plain", Some(MetricsFormat::Text)),
        ("text/plain;q=0.1, application/openmetrics-text;q=0.2", Some(MetricsFormat::OpenMetrics)),
        ("application/vnd.google.protobuf;proto=other;encoding=delimited", None),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", None),
        ("text/plain;q=0", None),
        ("*/*", None),
        ("", None),
        (";;,=,\"", None),
    ] {
        assert_eq!(MetricsFormat::of_accept([accept.as_bytes()].into_iter()), format, "{accept}");
    }
}

#[test]
fn names_follow_the_conventions_and_the_documentation_has_each() {
    let documentation = include_str!("../../../../../docs/metrics.md");
    let mut known = std::collections::BTreeSet::new();
    for Family { name, kind, help } in ALL {
        let ends_well = match kind {
            Kind::Counter | Kind::Info => !name.ends_with("_total") && !name.ends_with("_info"),
            Kind::Histogram => name.ends_with("_seconds"),
            Kind::Gauge => true,
        };
        assert!(ends_well && known.insert(name), "{name}");
        assert!(help.ends_with('.') && !help.contains('\n'), "{help}");
        let suffix = match kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        let kind = format!("{kind:?}").to_lowercase();
        let row = format!("| `{name}{suffix}` | {kind} | {help} |");
        assert!(documentation.lines().any(|line| line == row), "docs/metrics.md lacks:\n{row}");
    }
}
