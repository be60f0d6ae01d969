//! The other backend that may answer in place of the present one.

use loadx_core::{Attempts, Backend, GrpcStatuses, Replay, RetryBudget};

use super::{Progress, ServedBy};
use crate::shared::LocalView;

/// When the present attempt is given up, so that another backend answers. When a method returns true, the attempt must end:
/// for a status, a request was taken out of the budget.
pub(super) struct Alternative<'a> {
    present: &'a Backend,
    budget: &'a RetryBudget,
    attempts: &'a Attempts,
    replay: Replay,
    grpc_statuses: GrpcStatuses,
    /// The backends that are in rotation now.
    view: &'a dyn Fn() -> LocalView,
}

impl<'a> Alternative<'a> {
    pub(super) fn new(
        served_by: &'a ServedBy,
        attempts: &'a Attempts,
        replay: Replay,
        grpc_statuses: GrpcStatuses,
        view: &'a dyn Fn() -> LocalView,
    ) -> Self {
        let budget = served_by.view.retry_budget();
        Alternative { present: served_by.backend(), budget, attempts, replay, grpc_statuses, view }
    }

    /// See [`Backend::note_head`].
    pub(super) fn note_head(&self) {
        self.present.note_head();
    }

    /// Whether another backend can be asked now: only the present attempt has the content that was relayed since the attempt
    /// began.
    fn exists(&self, progress: &Progress) -> bool {
        !progress.began_upload.get() && self.attempts.has_other(&(self.view)(), self.present.id(), self.replay)
    }

    /// Whether a response with this status is not passed on.
    pub(super) fn replaces_status(&self, status: u16, progress: &Progress) -> bool {
        status >= 400
            && self.attempts.retried_statuses().contains(status)
            && self.attempts.is_repeatable(self.replay)
            && self.exists(progress)
            && self.budget.take()
    }

    /// Whether a call of gRPC with this status is made again.
    pub(super) fn replaces_grpc_status(&self, number: u8, progress: &Progress) -> bool {
        self.grpc_statuses.contains(number) && self.exists(progress) && self.budget.take()
    }

    /// Whether the request need not wait for the present backend any longer, because control found that the backend no longer
    /// answers. The budget is not asked: the other backends get no more requests than if the present one had been ejected
    /// before.
    pub(super) fn ends_waiting(&self, progress: &Progress) -> bool {
        self.present.is_given_up() && self.attempts.is_repeatable(self.replay) && self.exists(progress)
    }
}
