//! The random numbers of a run, in independent streams: the numbers of one stream do not depend on the other streams.
//! The same seed gives every algorithm the same arrivals, clients and service times, so that results are comparable.

use std::time::Duration;

use loadx_core::{Rng as _, SplitMix64};

use crate::backend::ExchangeNumber;
use crate::{BackendModel, Service};

/// The streams of random numbers of one run.
#[derive(Debug)]
pub(crate) struct Chances {
    arrivals: SplitMix64,
    clients: SplitMix64,
    /// The stream for the core: jitter between probes.
    pub(crate) control: SplitMix64,
    /// The seed of the stream of each exchange.
    exchanges: u64,
}

impl Chances {
    pub(crate) fn new(seed: u64) -> Self {
        let mut seeds = SplitMix64::new(seed);
        let mut stream = || SplitMix64::new(seeds.next_u64());
        Chances { arrivals: stream(), clients: stream(), control: stream(), exchanges: stream().next_u64() }
    }

    /// The time from one arrival to the next: requests arrive as a Poisson process.
    pub(crate) fn gap(&mut self, rate: f64) -> Duration {
        exponential(Duration::from_secs_f64(1.0 / rate), self.arrivals.unit())
    }

    /// The client of the next request, of `count`.
    pub(crate) fn client(&mut self, count: u32) -> u32 {
        self.clients.below(u64::from(count.max(1))) as u32
    }

    /// Random bits for the picks of an exchange.
    pub(crate) fn entropy(&self, exchange: ExchangeNumber) -> u64 {
        self.stream(exchange).next_u64()
    }

    /// The service time of an exchange at a backend. An exchange with a long service time at one backend has a long
    /// service time at every backend.
    pub(crate) fn service(&self, exchange: ExchangeNumber, model: &BackendModel) -> Duration {
        service(self.stream(exchange), model)
    }

    /// The service time of the second attempt of an exchange, which does not depend on that of the first: a cluster hedges
    /// because its backends are late at times, not because some requests take long everywhere.
    pub(crate) fn second_service(&self, exchange: ExchangeNumber, model: &BackendModel) -> Duration {
        service(self.stream(!exchange), model)
    }

    fn stream(&self, exchange: ExchangeNumber) -> SplitMix64 {
        SplitMix64::new(SplitMix64::new(self.exchanges ^ exchange).next_u64())
    }
}

fn service(mut stream: SplitMix64, model: &BackendModel) -> Duration {
    match model.distribution {
        Service::Fixed => model.service,
        Service::Exponential => {
            stream.next_u64();
            exponential(model.service, stream.unit())
        }
    }
}

/// The value of the exponential distribution with this mean at `unit`, from [0, 1).
fn exponential(mean: Duration, unit: f64) -> Duration {
    mean.mul_f64(-(1.0 - unit).ln())
}
