//! A second attempt beside one that has not been answered yet.

use std::sync::Arc;

use loadx_core::{Choice, ConnectFailure, ConnectFailureKind, Ended, Failure, Pick, View};

use super::{REPLAY, Run};
use crate::backend::ExchangeNumber;

impl Run<'_> {
    /// Makes a second attempt beside the present one, if that one still waits.
    pub(super) fn hedge(&mut self, number: ExchangeNumber, attempt: usize) {
        let view = self.cluster.view();
        let Some(exchange) = self.exchanges.get_mut(&number) else { return };
        let Some(present) = exchange.pick.as_ref().map(|pick| pick.backend().id()) else { return };
        let is_due = exchange.attempts.failures() == attempt && exchange.attempts.has_other(&view, present, REPLAY);
        if !is_due || view.gate().is_busy() {
            return;
        }
        let (entropy, key) = (self.chances.entropy(!number), view.key(exchange.client));
        let choice = exchange.attempts.choose_beside(Arc::clone(&view), self.now, entropy, key, present);
        let Choice::Picked(pick) = choice else { return };
        if !view.retry_budget().take() {
            return;
        }
        self.retries += 1;
        let (position, in_flight) = (self.positions[&pick.backend().id()], pick.backend().in_flight());
        exchange.second = Some(pick);
        if self.backends[position].is_stopped() {
            let refused = ConnectFailure { kind: ConnectFailureKind::Refused, reason: "connection refused".into() };
            self.ends_second(number, position, &Failure::Connect(refused));
        } else if self.backends[position].arrive(number, in_flight) {
            self.serve(position, number);
        }
    }

    /// Ends the second attempt of an exchange if the attempt is at this backend. Returns whether it was.
    pub(super) fn ends_second(&mut self, number: ExchangeNumber, backend: usize, failure: &Failure) -> bool {
        let Some(exchange) = self.exchanges.get_mut(&number) else { return false };
        let asked = |pick: &mut Pick<Arc<View>>| self.positions[&pick.backend().id()] == backend;
        let Some(pick) = exchange.second.take_if(asked) else { return false };
        let (id, took) = (pick.backend().id(), self.now.since(pick.at()));
        if let Some(observation) = pick.finish(Ended::unanswered(failure.outcome(), took)) {
            self.observe(id, &observation);
        }
        true
    }
}
