//! The formats, and the choice of one for a request.

/// A format of metrics.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum MetricsFormat {
    /// The text format of Prometheus, version 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The messages of Prometheus in Protocol Buffers, which alone have native histograms.
    Protobuf,
}

impl MetricsFormat {
    /// The value of Content-Type.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            MetricsFormat::Text => "text/plain; version=0.0.4; charset=utf-8",
            MetricsFormat::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            MetricsFormat::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }

    /// The format with this name in a query; `None` for another name.
    pub fn of_name(name: &str) -> Option<Self> {
        match name {
            "prometheus" => Some(MetricsFormat::Text),
            "openmetrics" => Some(MetricsFormat::OpenMetrics),
            "protobuf" => Some(MetricsFormat::Protobuf),
            _ => None,
        }
    }

    /// The format that Accept (RFC 9110, section 12.5.1) wants most; `None` if Accept names none of these.
    pub fn of_accept<'a>(values: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let ranges = values.filter_map(|value| std::str::from_utf8(value).ok()).flat_map(|value| value.split(','));
        let mut best: Option<(f32, Self)> = None;
        for range in ranges {
            let mut parts = range.split(';').map(str::trim);
            let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
            let parameter = |name: &str| {
                let mut pairs = range.split(';').skip(1).filter_map(|pair| pair.split_once('='));
                pairs
                    .find(|(key, _)| key.trim().eq_ignore_ascii_case(name))
                    .map(|(_, value)| value.trim().trim_matches('"'))
            };
            let format = match media_type.as_str() {
                "text/plain" => MetricsFormat::Text,
                "application/openmetrics-text" => MetricsFormat::OpenMetrics,
                "application/vnd.google.protobuf"
                    if parameter("proto") == Some("io.prometheus.client.MetricFamily")
                        && parameter("encoding") == Some("delimited") =>
                {
                    MetricsFormat::Protobuf
                }
                _ => continue,
            };
            let weight = parameter("q").and_then(|q| q.parse().ok()).unwrap_or(1.0_f32);
            // Of equal weights the first counts.
            if weight > 0.0 && best.is_none_or(|(most, _)| weight > most) {
                best = Some((weight, format));
            }
        }
        best.map(|(_, format)| format)
    }
}
