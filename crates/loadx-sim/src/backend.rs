//! A modelled backend: some requests are being served, the others wait in order.

use std::collections::{BTreeSet, VecDeque};

use crate::BackendModel;

/// The number of an exchange within a run, by arrival.
pub(crate) type ExchangeNumber = u64;

/// One backend at one moment.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) model: BackendModel,
    /// Requests that it answered in time.
    pub(crate) answered: u64,
    /// The most exchanges that it had at the same time.
    pub(crate) most_at_once: u32,
    /// How many outages it is in.
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

    /// Takes a request, as one of `in_flight`. Returns whether its service begins at once.
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

    /// A service ends. None when the backend stopped meanwhile, and does not serve this exchange any more.
    pub(crate) fn finish(&mut self, exchange: ExchangeNumber) -> Option<Finished> {
        if !self.serving.remove(&exchange) {
            return None;
        }
        let next = self.waiting.pop_front();
        self.serving.extend(next);
        Some(Finished { next })
    }

    /// Stops. Returns the exchanges that break off.
    pub(crate) fn stop(&mut self) -> Vec<ExchangeNumber> {
        self.outages += 1;
        std::mem::take(&mut self.serving).into_iter().chain(self.waiting.drain(..)).collect()
    }

    pub(crate) fn start(&mut self) {
        self.outages -= 1;
    }
}

/// What follows when a service ends.
#[derive(Debug)]
pub(crate) struct Finished {
    /// The exchange whose service begins now.
    pub(crate) next: Option<ExchangeNumber>,
}
