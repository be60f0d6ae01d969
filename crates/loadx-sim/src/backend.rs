//! A modelled backend: some requests are being served, the others wait in order.

use std::collections::VecDeque;
use std::time::Duration;

use loadx_core::Rng;

use crate::BackendModel;

/// Names an exchange within a run.
pub(crate) type ExchangeId = usize;

/// One backend at one moment.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) model: BackendModel,
    /// How many outages it is in.
    outages: u32,
    serving: Vec<ExchangeId>,
    waiting: VecDeque<ExchangeId>,
}

impl Backend {
    pub(crate) fn new(model: BackendModel) -> Self {
        Backend { model, outages: 0, serving: Vec::new(), waiting: VecDeque::new() }
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.outages > 0
    }

    /// Takes a request; true when its service begins at once.
    pub(crate) fn arrive(&mut self, exchange: ExchangeId) -> bool {
        let at_once = self.serving.len() < self.model.parallel;
        if at_once {
            self.serving.push(exchange);
        } else {
            self.waiting.push_back(exchange);
        }
        at_once
    }

    /// A request is done; the one whose service begins now. None of it holds when the backend went down
    /// meanwhile: then it is not serving this exchange any more.
    pub(crate) fn finish(&mut self, exchange: ExchangeId) -> Option<Finished> {
        let place = self.serving.iter().position(|served| *served == exchange)?;
        self.serving.swap_remove(place);
        let next = self.waiting.pop_front();
        self.serving.extend(next);
        Some(Finished { next })
    }

    /// Goes down; the exchanges that break off.
    pub(crate) fn go(&mut self) -> Vec<ExchangeId> {
        self.outages += 1;
        self.serving.drain(..).chain(self.waiting.drain(..)).collect()
    }

    pub(crate) fn come_back(&mut self) {
        self.outages -= 1;
    }

    /// How long the next service takes.
    pub(crate) fn service_time(&self, rng: &mut impl Rng) -> Duration {
        exponential(self.model.service, rng)
    }
}

/// What follows when a request is done.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) next: Option<ExchangeId>,
}

/// A time drawn from the exponential distribution of this mean.
pub(crate) fn exponential(mean: Duration, rng: &mut impl Rng) -> Duration {
    mean.mul_f64(-(1.0 - rng.unit()).ln())
}
