//! Makes the policy of probes of the keys of `health`, and of those for all clusters.

use std::sync::Arc;

use super::checker::Checker;
use super::file::FileConfig;
use super::health_file::{FileHealth, StatusRange};
use super::reader::{At, Place, Problem, Typed as _};
use super::resilience::Resilience;
use super::routing_values::{HealthWord, ProbeMethodWord, ProtocolWord, StartWord};
use super::values::{Seconds, Whole};
use crate::{HealthPolicy, HttpProbe, Probe, ProbeMethod, StatusRanges};

impl Checker<'_> {
    /// How LoadX probes the backends of a cluster; `typed` is the `health` of the cluster.
    pub(super) fn health(
        &mut self,
        file: &FileConfig,
        typed: Option<&At<FileHealth>>,
        protocol: ProtocolWord,
        resilience: &Resilience,
    ) -> HealthPolicy {
        if let Some(typed) = typed {
            self.health_keys(&typed.value, protocol, typed.place);
        }
        let typed = typed.map(|typed| &typed.value);
        let span =
            |seconds: Option<&At<Seconds>>, default: Seconds| seconds.map_or(default, |typed| typed.value).duration();
        let count = |count: Option<&At<Whole<1, 100>>>, default: Whole<1, 100>| {
            count.map_or(default, |typed| typed.value).0 as u32
        };
        let interval = span(typed.and_then(|typed| typed.interval.as_ref()), file.health_check_interval);
        let timeout = span(typed.and_then(|typed| typed.timeout.as_ref()), file.health_check_timeout);
        // A short interval without a timeout also shortens the timeout: probes of one backend never overlap.
        let own_timeout =
            typed.is_some_and(|typed| typed.timeout.is_some()) || file.place_of("health_check_timeout").is_some();
        let default = HealthPolicy::default();
        HealthPolicy {
            interval,
            fast_interval: typed
                .and_then(|typed| typed.fast_interval.as_ref())
                .map_or(default.fast_interval, |typed| typed.value.duration()),
            timeout: if own_timeout { timeout } else { timeout.min(interval) },
            rise: count(typed.and_then(|typed| typed.rise.as_ref()), file.health_check_rise),
            fall: count(typed.and_then(|typed| typed.fall.as_ref()), file.health_check_fall),
            probe: self.probe(file, typed),
            port: typed.and_then(|typed| typed.port.as_ref()).map(|port| port.value.0 as u16),
            starts_up: typed.is_none_or(|typed| typed.start == StartWord::Up),
            outliers: resilience.outliers.clone(),
            breaker: resilience.breaker.clone(),
            slow_start: resilience.slow_start,
        }
    }

    fn probe(&mut self, file: &FileConfig, typed: Option<&FileHealth>) -> Probe {
        let path = typed.and_then(|typed| typed.path.as_ref()).or(file.health_check_path.as_ref());
        let default = path.map_or_else(HttpProbe::default, |path| HttpProbe::get(&path.value.0));
        let Some(typed) = typed else { return Probe::Http(Box::new(default)) };
        match typed.probe {
            HealthWord::Off => Probe::Off,
            HealthWord::Grpc => {
                let service = typed.service.as_ref().map_or("", |service| service.value.0.as_str());
                Probe::Grpc { service: service.into() }
            }
            HealthWord::Tcp => Probe::Connect,
            HealthWord::Http => {
                let ranges = |typed: &At<Vec<_>>| StatusRanges(self.ranges(typed));
                Probe::Http(Box::new(HttpProbe {
                    method: typed.method.as_ref().map_or(ProbeMethod::Get, |typed| method(typed.value)),
                    host: typed.host.as_ref().map(|host| host.value.0.as_str().into()),
                    accepts: typed.statuses.as_ref().map_or(default.accepts, ranges),
                    content: typed.body.as_ref().map(|text| text.value.0.as_str().into()),
                    fields: self.probe_fields(typed),
                    ..default
                }))
            }
        }
    }

    fn ranges(&mut self, typed: &At<Vec<At<StatusRange>>>) -> Vec<(u16, u16)> {
        if typed.value.is_empty() && typed.place.text(self.source).trim_start_matches('[').trim_start().starts_with(']')
        {
            let message = "\"statuses\" is empty: no backend could be healthy";
            self.fault(typed.place, Problem::new(message, "write the healthy statuses, such as [\"200-299\"]"));
        }
        typed.value.iter().map(|range| (range.value.0, range.value.1)).collect()
    }

    fn probe_fields(&mut self, typed: &FileHealth) -> Vec<(Arc<str>, Arc<str>)> {
        self.names_differ("headers", typed.headers.as_ref());
        let mut fields = Vec::new();
        for (name, value) in typed.headers.iter().flat_map(|table| &table.value.0) {
            if name.value.eq_ignore_ascii_case("host") {
                let problem = Problem::new("\"headers\" cannot have Host", "use \"host\" of \"health\"");
                self.fault(name.place, problem);
            } else if self.may_edit(&name.value, name.place) {
                fields.push((name.value.as_str().into(), value.value.0.as_str().into()));
            }
        }
        fields
    }

    /// Adds a fault for each key that another kind of probe would need.
    fn health_keys(&mut self, typed: &FileHealth, protocol: ProtocolWord, place: Place) {
        let is_grpc = typed.probe == HealthWord::Grpc;
        if is_grpc && protocol != ProtocolWord::Http2 {
            let message = "the probe \"grpc\" needs HTTP/2 to the backends";
            self.fault(place, Problem::new(message, "add \"protocol\": \"h2\" to the cluster"));
        }
        if let (false, Some(service)) = (is_grpc, &typed.service) {
            let message = "\"service\" names a service of gRPC, and the probe is another";
            self.fault(service.place, Problem::new(message, "add \"probe\": \"grpc\", or remove \"service\""));
        }
        if typed.probe != HealthWord::Http {
            for key in ["path", "method", "host", "headers", "statuses", "body"] {
                if let Some(place) = typed.place_of(key) {
                    let message = format!("\"{key}\" belongs to a probe of HTTP, and the probe is another");
                    let help = format!("remove \"{key}\", or remove \"probe\": http is the default");
                    self.fault(place, Problem::new(message, help));
                }
            }
        }
        let is_head = typed.method.as_ref().is_some_and(|method| method.value == ProbeMethodWord::Head);
        if let (true, Some(body)) = (is_head, &typed.body) {
            let message = "\"body\" asks for content, and responses to HEAD have none";
            self.fault(body.place, Problem::new(message, "remove \"body\", or the method HEAD"));
        }
        if typed.start == StartWord::Down && typed.probe == HealthWord::Off {
            let message = "\"start\": \"down\" waits for a good probe, and there are no probes";
            self.fault(place, Problem::new(message, "remove \"start\", or \"probe\": \"off\""));
        }
        let (fast, interval) = (typed.fast_interval.as_ref(), typed.interval.as_ref());
        if let (Some(fast), Some(interval)) = (fast, interval)
            && fast.value.duration() > interval.value.duration()
        {
            let message = "\"fast_interval\" is longer than \"interval\"";
            self.fault(fast.place, Problem::new(message, "lower \"fast_interval\", or remove it"));
        }
    }
}

fn method(word: ProbeMethodWord) -> ProbeMethod {
    match word {
        ProbeMethodWord::Get => ProbeMethod::Get,
        ProbeMethodWord::Head => ProbeMethod::Head,
        ProbeMethodWord::Options => ProbeMethod::Options,
        ProbeMethodWord::Post => ProbeMethod::Post,
    }
}
