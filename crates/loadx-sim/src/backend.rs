//! A modelled backend: it serves some requests and keeps the others waiting in order.

use std::collections::{BTreeSet, VecDeque};

use crate::BackendModel;

/// The number of an exchange within a run, by arrival.
pub(crate) type ExchangeNumber = u64;

/// The state of one backend.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) model: BackendModel,
    /// The requests that the backend answered in time.
    pub(crate) answered: u64,
    /// The most exchanges that the backend had at the same time.
    pub(crate) most_at_once: u32,
    /// The number of outages that the backend is in now.
    outages: u32,
    serving: BTreeSet<ExchangeNumber>,
    waiting: VecDeque<ExchangeNumber>,
}

impl Backend {
    pub(crate) fn new(model: BackendModel) -> Self {
        Backend { model, answered: 0, most_at_once: 0, outages: 0, serving: BTreeSet::new(), waiting: VecDeque::new() }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.outages > 0
    }

    /// Adds a request, as one of `in_flight`. Returns whether its service begins at once.
    pub(crate) fn arrive(&mut self, exchange: ExchangeNumber, in_flight: u32) -> bool {
        self.most_at_once = self.most_at_once.max(in_flight);
        let at_once = self.serving.len() < self.model.parallel;
        if at_once {
            self.serving.insert(exchange);
        } else {
            self.waiting.push_back(exchange);
        }
        at_once
    }

    /// Ends a service. `None` when the backend stopped in the meantime and no longer serves this exchange.
    pub(crate) fn finish(&mut self, exchange: ExchangeNumber) -> Option<Finished> {
        if !self.serving.remove(&exchange) {
            return None;
        }
        let next = self.waiting.pop_front();
        self.serving.extend(next);
        Some(Finished { next })
    }

    /// Stops the backend. Returns the exchanges that fail.
    pub(crate) fn stop(&mut self) -> Vec<ExchangeNumber> {
        self.outages += 1;
        std::mem::take(&mut self.serving).into_iter().chain(self.waiting.drain(..)).collect()
    }

    pub(crate) fn start(&mut self) {
        self.outages -= 1;
    }
}

/// The result of the end of a service.
#[derive(Debug)]
pub(crate) struct Finished {
    /// The exchange whose service begins now.
    pub(crate) next: Option<ExchangeNumber>,
}
