//! The options of `loadx bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use loadx_load::{Goal, Plan, Protocol, Reuse, Target};

use super::limits::{CONCURRENCY_DEFAULT, CONCURRENCY_OF_SEARCH, REQUESTS_DEFAULT, STEP, STEP_WARM_UP};
use super::{requests, tls};
use crate::trouble::Trouble;

/// The options of `loadx bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchArguments {
    /// URLs to send the requests to, in turn [default: http://localhost:8080]
    #[arg(value_name = "URL", value_parser = Target::parse, conflicts_with = "url")]
    pub(super) urls: Vec<Target>,
    /// URL to send the requests to; the same as URL without the option
    #[arg(long, value_name = "URL", value_parser = Target::parse)]
    url: Option<Target>,
    /// Path to request instead of the path of the URL
    #[arg(long)]
    pub(super) path: Option<String>,
    /// File with requests, which are sent in turn
    ///
    /// Each line is a request: a URL or a path (of the server of URL), with a method before it if the method is not GET, or a
    /// JSON object with "method", "url", "headers" (an object) and "body".
    #[arg(long, value_name = "FILE", conflicts_with_all = ["path", "method", "data"])]
    pub(super) requests_file: Option<PathBuf>,
    /// Method of the requests [default: GET, or POST with --data]
    #[arg(long, short = 'X')]
    pub(super) method: Option<String>,
    /// Field to send, such as "Authorization: Bearer abc"; may be given several times
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE", value_parser = requests::parse_field)]
    pub(super) fields: Vec<(String, String)>,
    /// Content of the requests; @FILE sends the content of a file
    #[arg(long, value_name = "TEXT", alias = "body")]
    pub(super) data: Option<String>,
    /// Unix socket of the server, in place of a TCP connection
    #[arg(long, value_name = "PATH")]
    pub(super) unix: Option<PathBuf>,
    /// Do not check the certificates of the servers
    #[arg(long, conflicts_with = "ca")]
    pub(super) insecure: bool,
    /// File with the certificates of the authorities to trust, in place of those of the system
    #[arg(long, value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
    /// Speak HTTP/2; without TLS, from the first byte
    #[arg(long)]
    http2: bool,
    /// Number of requests at the same time on one connection of HTTP/2
    #[arg(long, value_name = "COUNT", default_value_t = 10, requires = "http2")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000))]
    streams: u32,
    /// Open a connection for each request
    #[arg(long, conflicts_with = "http2")]
    pub(super) no_keep_alive: bool,
    /// Number of requests to send, after the warm-up [default: 1000, or no limit with --duration]
    #[arg(long, short = 'n', value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,
    /// Number of seconds to send requests
    ///
    /// The run then waits for the responses to the requests that are under way. With --requests too, the run ends at
    /// the limit that comes first.
    #[arg(long, short, value_name = "SECONDS", value_parser = parse_seconds)]
    duration: Option<f64>,
    /// Number of seconds at the start, before those of --duration, whose requests do not count
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    warm_up: Option<f64>,
    /// Number of requests under way at the same time, each on a connection of its own [default: 10, or 100 with --find-max]
    ///
    /// With --rate this is the most: a request waits when all connections are busy.
    #[arg(long, short, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=50_000))]
    concurrency: Option<u32>,
    /// Number of threads that send
    #[arg(long, short, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
    /// Number of requests to send per second, on a fixed schedule
    ///
    /// Each response time counts from the moment that the schedule gives, and so includes the time that the request
    /// waited for a free connection. The times since requests were sent stand beside them. Without --rate each connection sends
    /// its next request as soon as the response to its last request is complete. A server that stalls then gets fewer
    /// requests, and the response times show little of the stall.
    #[arg(long, value_name = "PER_SECOND", value_parser = parse_rate)]
    pub(super) rate: Option<f64>,
    /// Search the highest rate that meets a condition, such as 'p99 < 50ms', without failed requests
    ///
    /// Tries rates, each for --duration seconds (5 by default) after --warm-up (1 by default), beginning with --rate (1000 by
    /// default).
    #[arg(long, value_name = "CONDITION", value_parser = Goal::parse, conflicts_with_all = ["requests", "runs", "compare", "html"])]
    pub(super) find_max: Option<Goal>,
    /// Number of times to repeat the run: only repeated runs tell a difference from chance
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(super) runs: u32,
    /// Number of seconds after which a request without a complete response fails
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0, value_parser = parse_seconds)]
    timeout: f64,
    /// Write the results to this file, as JSON
    #[arg(long, short, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// Write a report with plots to this file, as HTML
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
    /// Compare the results with the results in this file, which an earlier run wrote with --output
    #[arg(long, value_name = "FILE")]
    pub(super) compare: Option<PathBuf>,
    /// Exit with status 1 when a figure of --compare is worse by more than so many percent
    ///
    /// With repeated runs on both sides only a difference counts that is certain (95 %).
    #[arg(long, value_name = "PERCENT", requires = "compare", value_parser = parse_percent)]
    pub(super) fail_if_worse: Option<f64>,
}

impl BenchArguments {
    /// The plan that the options describe.
    pub(super) fn plan(&self) -> Result<Plan, Trouble> {
        let (origins, mix) = requests::requests(self)?;
        let is_search = self.find_max.is_some();
        let default = if is_search { CONCURRENCY_OF_SEARCH } else { CONCURRENCY_DEFAULT };
        let concurrency = self.concurrency.unwrap_or(default) as usize;
        let warm_up = self.warm_up.map(Duration::from_secs_f64);
        let warm_up = warm_up.unwrap_or(if is_search { STEP_WARM_UP } else { Duration::ZERO });
        let duration = self.duration.map(|seconds| Duration::from_secs_f64(seconds) + warm_up);
        let tls = if origins.iter().any(|origin| origin.tls) { Some(tls::config(self, self.http2)?) } else { None };
        let first = mix[0].clone();
        Ok(Plan {
            protocol: match self.http2 {
                true => Protocol::Http2 { streams: self.streams as usize },
                false => Protocol::Http1,
            },
            tls,
            requests: self.requests.or(duration.is_none().then_some(REQUESTS_DEFAULT)),
            duration,
            warm_up,
            rate: self.rate,
            reuse: if self.no_keep_alive { Reuse::PerRequest } else { Reuse::Kept },
            timeout: Duration::from_secs_f64(self.timeout),
            threads: usize::from(self.threads),
            mix: mix.into(),
            ..Plan::endless(origins[0].clone(), first, concurrency)
        }
        .with_origins(origins))
    }

    /// The URLs of the requests.
    pub(super) fn targets(&self) -> Vec<Target> {
        match &self.url {
            Some(url) => vec![url.clone()],
            None if self.urls.is_empty() => Target::parse("http://localhost:8080").into_iter().collect(),
            None => self.urls.clone(),
        }
    }

    /// How long the search tries each rate.
    pub(super) fn step(&self) -> Duration {
        self.duration.map_or(STEP, Duration::from_secs_f64)
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.001..=10_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("write a number of requests per second from 0.001 to 10000000".to_owned()),
    }
}

fn parse_percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').trim().parse() {
        Ok(percent) if (0.0..=1_000.0).contains(&percent) => Ok(percent),
        _ => Err("write a number of percent from 0 to 1000".to_owned()),
    }
}

pub(crate) fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.001..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("write a number of seconds from 0.001 to 86400".to_owned()),
    }
}
