//! `loadx sim`: simulates a cluster of a config in virtual time.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use loadx_core::Algorithm;
use loadx_core::config::{ClusterConfig, Config};
use loadx_sim::{BackendModel, Outage, Scenario, Service, simulate};

use crate::config_file;
use crate::trouble::{Trouble, print};

/// The options of `loadx sim`.
#[derive(Debug, Args)]
pub(super) struct SimArguments {
    /// The config file with the cluster to simulate
    #[arg(long, short, default_value = "config.json")]
    config: PathBuf,
    /// The cluster to simulate; required if the config has several clusters
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// The algorithm to simulate [default: the algorithm of the config]
    #[arg(long, value_parser = parse_algorithm)]
    algorithm: Option<Algorithm>,
    /// The mean number of requests per second
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// The time during which requests arrive, in seconds
    #[arg(long, default_value_t = 60.0, value_parser = parse_seconds)]
    duration: f64,
    /// The mean time that a backend takes to serve a request, in milliseconds
    #[arg(long, default_value_t = 10.0, value_parser = parse_milliseconds)]
    service_ms: f64,
    /// The distribution of the service times around the mean
    #[arg(long, value_enum, default_value_t = ServiceTimes::Exponential)]
    service: ServiceTimes,
    /// The mean service time of one backend, in milliseconds, such as backend-1=50; repeat the option for more backends
    #[arg(long, value_name = "NAME=MS", value_parser = parse_slow)]
    slow: Vec<(String, f64)>,
    /// The number of requests that a backend serves at the same time
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    parallel: u32,
    /// The number of clients that send requests
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    clients: u32,
    /// An outage of one backend, from one second until another, such as backend-1@20..40; repeat the option for more
    /// outages
    #[arg(long, value_name = "NAME@FROM..UNTIL", value_parser = parse_outage)]
    down: Vec<(String, f64, f64)>,
    /// The seed of arrivals and service times; the same seed gives the same run
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// The distribution of service times.
#[derive(Copy, Clone, Debug, clap::ValueEnum)]
enum ServiceTimes {
    /// Many short times, some long times
    Exponential,
    /// All times are equal
    Fixed,
}

impl From<ServiceTimes> for Service {
    fn from(times: ServiceTimes) -> Self {
        match times {
            ServiceTimes::Exponential => Service::Exponential,
            ServiceTimes::Fixed => Service::Fixed,
        }
    }
}

pub(super) fn sim(arguments: &SimArguments) -> Result<ExitCode, Trouble> {
    let config = config_file::load(&arguments.config)?;
    let scenario = arguments.scenario(&config)?;
    let report = simulate(&scenario).map_err(|error| Trouble::Input(error.to_string()))?;
    let algorithm = scenario.algorithm.as_str();
    print(&format!(
        "{algorithm}, {} requests/s for {} s, seed {}\n{report}",
        arguments.rate, arguments.duration, arguments.seed
    ))?;
    Ok(ExitCode::SUCCESS)
}

impl SimArguments {
    /// The cluster to simulate.
    fn cluster<'c>(&self, config: &'c Config) -> Result<&'c ClusterConfig, Trouble> {
        let found = match (&self.cluster, &config.clusters[..]) {
            (None, [only]) => Some(only),
            (None, _) => None,
            (Some(name), clusters) => clusters.iter().find(|cluster| *cluster.name == **name),
        };
        found.ok_or_else(|| {
            let names: Vec<&str> = config.clusters.iter().map(|cluster| &*cluster.name).collect();
            let help = format!("name one of the clusters with --cluster: {}", names.join(", "));
            if names.is_empty() {
                return Trouble::Input("the config has no cluster\n  help: add \"clusters\"".to_owned());
            }
            Trouble::Input(match &self.cluster {
                Some(name) => format!("there is no cluster named \"{name}\"\n  help: {help}"),
                None => format!("the config has several clusters\n  help: {help}"),
            })
        })
    }

    fn scenario(&self, config: &Config) -> Result<Scenario, Trouble> {
        let cluster = self.cluster(config)?;
        let mut backends: Vec<BackendModel> = cluster
            .backends
            .iter()
            .map(|spec| BackendModel {
                spec: spec.clone(),
                service: Duration::from_secs_f64(self.service_ms / 1_000.0),
                distribution: self.service.into(),
                parallel: self.parallel as usize,
            })
            .collect();
        for (name, ms) in &self.slow {
            let index = named(cluster, name)?;
            backends[index].service = Duration::from_secs_f64(ms / 1_000.0);
        }
        let outages = self.down.iter().map(|(name, from, until)| {
            Ok(Outage {
                backend: named(cluster, name)?,
                from: Duration::from_secs_f64(*from),
                until: Duration::from_secs_f64(*until),
            })
        });
        Ok(Scenario {
            algorithm: self.algorithm.unwrap_or(cluster.algorithm),
            health: cluster.health.clone(),
            attempt: cluster.attempt,
            limits: cluster.limits.clone(),
            hedge: cluster.hedge,
            max_connections: config.max_connections,
            outages: outages.collect::<Result<_, Trouble>>()?,
            backends,
            rate: self.rate,
            duration: Duration::from_secs_f64(self.duration),
            clients: self.clients,
            seed: self.seed,
        })
    }
}

fn named(cluster: &ClusterConfig, name: &str) -> Result<usize, Trouble> {
    let place = cluster.backends.iter().position(|backend| *backend.name == *name);
    place.ok_or_else(|| {
        let names: Vec<&str> = cluster.backends.iter().map(|backend| &*backend.name).collect();
        Trouble::Input(format!("no backend is named \"{name}\"; the config has {}", names.join(", ")))
    })
}

fn parse_algorithm(text: &str) -> Result<Algorithm, String> {
    let all = Algorithm::ALL;
    Algorithm::named(text).ok_or_else(|| format!("the algorithm can be: {}", all.map(Algorithm::as_str).join(", ")))
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    number(text, 0.001, 1e9).ok_or_else(|| "write a number of seconds from 0.001 to 1000000000".to_owned())
}

fn parse_milliseconds(text: &str) -> Result<f64, String> {
    number(text, 0.001, 1e9).ok_or_else(|| "write a number of milliseconds from 0.001 to 1000000000".to_owned())
}

fn number(text: &str, min: f64, max: f64) -> Option<f64> {
    text.parse().ok().filter(|number| (min..=max).contains(number))
}

fn parse_slow(text: &str) -> Result<(String, f64), String> {
    let parsed = text.rsplit_once('=').and_then(|(name, ms)| Some((name.to_owned(), number(ms, 0.001, 1e9)?)));
    parsed.ok_or_else(|| "write NAME=MS, such as backend-1=50".to_owned())
}

fn parse_outage(text: &str) -> Result<(String, f64, f64), String> {
    let parse = || {
        let (name, times) = text.rsplit_once('@')?;
        let (from, until) = times.split_once("..")?;
        Some((name.to_owned(), number(from, 0.0, 1e9)?, number(until, 0.0, 1e9)?))
    };
    parse().ok_or_else(|| "write NAME@FROM..UNTIL in seconds, such as backend-1@20..40".to_owned())
}
