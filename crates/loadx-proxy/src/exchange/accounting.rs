//! What an exchange leaves behind: its counts, its line in the log, its spans, and its explanation.

use loadx_core::{Backend, Failure, FaultOf, Pick, Time};
use loadx_http::grpc::Status;

use super::hedge::Beside;
use super::{Answer, Exchange, ServedBy};
use crate::net::{Network, PipeOf};
use crate::shared::LocalView;
use crate::sides::{BodySink as _, BodySource as _, Ending, RequestSource, ResponseSink};
use crate::telemetry::{AttemptEnd, AttemptSpan, Cause, Record, Request};

impl<N: Network, R: RequestSource<PipeOf<N>>, W: ResponseSink<PipeOf<N>>> Exchange<'_, N, R, W> {
    /// Counts and logs the exchange.
    pub(super) fn account(&mut self, now: Time, status: u16, ending: Ending, error: Option<Cause<'_>>) {
        self.accounted = true;
        let record = Record {
            request: Request::Accepted(self.incoming),
            began: self.incoming.began,
            ended: now,
            switched_at: self.progress.switched_at.get(),
            status,
            grpc: self.incoming.grpc.map(|_| {
                // A call that broke off has no status of its own.
                self.progress.grpc.get().unwrap_or(match (status, ending) {
                    (499, _) => Status::CANCELLED,
                    (200, Ending::BrokenOff) => Status::UNAVAILABLE,
                    (status, _) => Status::of_http(status),
                })
            }),
            head_at: self.progress.head_at.get(),
            waits: self.progress.waits.get(),
            received: self.client.request.body().content(),
            // A departure of the client (499) and the end of a tunnel (101) are no failures of LoadX or a backend.
            broke_off: ending == Ending::BrokenOff && !matches!(status, 499 | 101),
            content: self.client.response.body().content(),
            backend: self.served_by.as_ref().map(ServedBy::backend),
            cluster: Some(&self.incoming.plan.clusters[self.forwarded.cluster]),
            tries: self.tries,
            error,
        };
        self.worker.account(&record);
        let has_failed = self.tries > 1 || record.error_kind().is_some();
        if has_failed || self.incoming.explain.is_some() {
            self.keep_explanation(&record, has_failed);
        }
    }

    /// Keeps the explanation of a request that failed, was sent again, or asked for one.
    #[cold]
    fn keep_explanation(&self, record: &Record<'_>, has_failed: bool) {
        match &self.incoming.explain {
            Some(notes) => self.worker.explanations.keep_asked(record, notes.take()),
            None if has_failed => self.worker.explanations.keep_failed(record, self.failures.take()),
            None => {}
        }
    }

    /// Notes an attempt that has ended for the spans of the request, if the request has spans.
    #[cold]
    pub(super) fn note_span(&self, pick: &Pick<LocalView>, attempt: &Result<Answer<N>, Failure>, ended: Time) {
        let status = match attempt {
            Ok(answer) => answer.status,
            Err(Failure::Status { status }) => *status,
            Err(_) => 0,
        };
        let end = match attempt {
            Err(Failure::Overtaken) => AttemptEnd::Overtaken,
            Err(failure) => AttemptEnd::Failed(failure.kind().as_str()),
            Ok(_) => AttemptEnd::Answered,
        };
        self.add_span(pick.backend(), (pick.at(), ended), status, end);
    }

    /// Notes a second attempt beside the last one that did not get the better of it.
    #[cold]
    pub(super) fn note_overtaken(&mut self, now: Time) {
        let Some(Beside { served_by, began }) = self.take_overtaken() else { return };
        let backend = served_by.backend();
        if let Some(notes) = &self.incoming.explain {
            let mut notes = notes.borrow_mut();
            notes.attempt(backend.name(), None);
            notes.failure(backend.name(), Failure::Overtaken.to_string());
        }
        self.add_span(backend, (began, now), 0, AttemptEnd::Overtaken);
    }

    fn add_span(&self, backend: &Backend, (began, ended): (Time, Time), status: u16, end: AttemptEnd) {
        if let Some(spans) = self.incoming.trace.as_ref().and_then(|trace| trace.spans.as_ref()) {
            spans.attempts.borrow_mut().push(AttemptSpan {
                backend: backend.name().to_owned(),
                address: backend.addresses().first().map(ToString::to_string).unwrap_or_default(),
                began,
                ended,
                status,
                end,
            });
        }
    }

    /// Notes why a backend was picked.
    #[cold]
    pub(super) fn explain(&self, pick: &Pick<LocalView>, is_beside: bool) {
        let view = pick.view();
        let key = view.key(self.incoming.client);
        let query = self.attempts.query(pick.at(), self.incoming.id.bits(), key);
        self.incoming.note(|notes| {
            notes.attempt(pick.backend().name(), Some(view.explain(pick.index(), &query)));
            if is_beside {
                notes.beside();
            }
        });
    }

    /// Counts a failed attempt in the figures of its backend.
    #[cold]
    pub(super) fn count_failure(&self, failure: &Failure) {
        if let Some(served_by) = &self.served_by {
            let name = served_by.backend().name();
            let notes = self.incoming.explain.as_deref().unwrap_or(&self.failures);
            notes.borrow_mut().failure(name, failure.of_attempt());
            // A client that left or broke the rules says nothing about the backend, and a faster one neither.
            if failure.kind().fault() != FaultOf::Client && !matches!(failure, Failure::Overtaken) {
                self.worker.metrics.borrow_mut().record_failure(served_by.backend(), failure.kind());
            }
        }
    }
}
