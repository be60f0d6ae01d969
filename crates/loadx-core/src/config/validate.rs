//! From file types to the values that run, and the faults that only show when values meet.

use std::collections::BTreeSet;

use super::file::{FileBackend, FileConfig};
use super::reader::{At, Place, Problem};
use super::{AccessLogConfig, ClientLimits, Config, Faults, HostPort, Signature, Timeouts};
use crate::{BackendSpec, HealthPolicy};

/// The most backends of one config; every one is probed and held in every view.
const BACKENDS_MAX: usize = 20_000;

pub(super) fn validate(source: &str, file: FileConfig, faults: &mut Faults) -> Config {
    Checker { source, faults }.config(file)
}

struct Checker<'c> {
    source: &'c str,
    faults: &'c mut Faults,
}

impl Checker<'_> {
    fn config(&mut self, file: FileConfig) -> Config {
        Config {
            listen: HostPort { host: file.proxy_host.0, port: file.proxy_port.0 as u16 },
            workers: file.workers.map(|workers| workers.value.0 as usize),
            max_connections: file.max_connections.0 as usize,
            algorithm: file.algorithm,
            backends: self.backends(&file.backend_servers),
            health: HealthPolicy {
                interval: file.health_check_interval.duration(),
                timeout: file.health_check_timeout.duration(),
                rise: file.health_check_rise.0 as u32,
                fall: file.health_check_fall.0 as u32,
                path: file.health_check_path.0.into(),
            },
            timeouts: Timeouts {
                request_head: file.request_head_timeout.duration(),
                exchange: file.exchange_timeout.map(|timeout| timeout.value.duration()),
                connect: file.connection_timeout.duration(),
                request: file.request_timeout.duration(),
                keepalive: file.keepalive_timeout.duration(),
                backend_keepalive: file.backend_keepalive_timeout.duration(),
                tunnel: file.tunnel_timeout.duration(),
                shutdown_grace: file.shutdown_grace.duration(),
            },
            client_limits: ClientLimits {
                requests_per_connection: file.max_requests_per_connection.0,
                body_max: file.max_body_size.map(|size| size.value.0),
                body_rate_min: file.min_body_rate.0,
            },
            signature: Signature { via: file.via.map(|via| via.value.0), forwarded: file.forwarded },
            access_log: file.enable_logging.then(|| AccessLogConfig {
                format: file.log_format,
                file: file.log_file.map(|path| path.value.0.into()),
            }),
            metrics: file.enable_metrics,
            trusted_proxies: file.trusted_proxies.into_iter().map(|network| network.value.0).collect(),
            endpoints_allow: file.endpoints_allow.into_iter().map(|network| network.value.0).collect(),
        }
    }

    fn backends(&mut self, typed: &At<Vec<At<FileBackend>>>) -> Vec<BackendSpec> {
        // Entries that were told to be bad are not here, so the text is asked.
        if typed.place.text(self.source).trim_start_matches('[').trim_start().starts_with(']') {
            let help = "add one: {\"host\": \"localhost\", \"port\": 8001}";
            self.fault(typed.place, Problem::new("\"backend_servers\" is empty: nobody could answer", help));
        }
        if typed.value.len() > BACKENDS_MAX {
            let message = format!("\"backend_servers\" has {} entries; {BACKENDS_MAX} are possible", typed.value.len());
            self.fault(typed.place, Problem::new(message, "split them over several LoadX"));
        }
        let specs: Vec<BackendSpec> = typed.value.iter().map(|backend| spec(&backend.value)).collect();
        let mut by_authority = BTreeSet::new();
        let mut by_name = BTreeSet::new();
        for (spec, entry) in specs.iter().zip(&typed.value) {
            let authority = spec.authority().to_ascii_lowercase();
            if !by_authority.insert(authority) {
                let message = format!("{} is listed twice", spec.authority());
                let help = "remove one; to send it more requests, raise its \"weight\"";
                self.fault(entry.place, Problem::new(message, help));
            } else if !by_name.insert(spec.name.clone()) {
                let message = format!("two backends are named \"{}\"", spec.name);
                let place = entry.value.name.as_ref().map_or(entry.place, |name| name.place);
                self.fault(place, Problem::new(message, "give each backend a name of its own"));
            }
        }
        specs
    }

    fn fault(&mut self, place: Place, problem: Problem) {
        place.fault(self.source, self.faults, problem);
    }
}

fn spec(backend: &FileBackend) -> BackendSpec {
    let unnamed = BackendSpec::new(&backend.host.value.0, backend.port.value.0 as u16);
    let name = backend.name.as_ref().map(|name| name.value.0.as_str().into());
    BackendSpec { name: name.unwrap_or_else(|| unnamed.name.clone()), weight: backend.weight.0 as u32, ..unnamed }
}
