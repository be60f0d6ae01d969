//! Why requests were served as they were: the last ones that failed, were sent again, or asked for an explanation.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use loadx_core::PickExplanation;
use serde::Serialize;

use crate::limits::EXPLANATIONS_MAX;
use crate::telemetry::Record;

/// The explanation of one request.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The id of the request, as in the access log and in X-Request-Id.
    pub id: String,
    /// When the request ended, in milliseconds since 1970.
    pub at: u64,
    /// The address of the client.
    pub client: String,
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The host.
    pub host: String,
    /// The name of the listener.
    pub listener: Option<String>,
    /// The name of the matched route.
    pub route: Option<String>,
    /// The routes that did not match, with the reasons; only when the request asked for an explanation.
    pub not_taken: Vec<RouteNotTaken>,
    /// The name of the cluster.
    pub cluster: Option<String>,
    /// The attempts, in their order.
    pub attempts: Vec<AttemptExplanation>,
    /// The status that the client got; 499 for a client that left.
    pub status: u16,
    /// The side at fault, if the request failed.
    pub fault: Option<&'static str>,
    /// The kind of the error, if the request failed.
    pub error_kind: Option<&'static str>,
    /// The error in words.
    pub error: Option<String>,
    /// The time in the queue of the cluster, in milliseconds.
    pub queue_ms: f64,
    /// The time until connections to backends were open, in milliseconds.
    pub connect_ms: f64,
    /// The time from the head of the request to the end, in milliseconds.
    pub duration_ms: f64,
}

/// A route that did not match.
#[derive(Clone, Debug, Serialize)]
pub struct RouteNotTaken {
    /// The name of the route.
    pub route: String,
    /// What did not match.
    pub why: String,
}

/// One attempt.
#[derive(Clone, Debug, Serialize)]
pub struct AttemptExplanation {
    /// The name of the backend.
    pub backend: String,
    /// Why the backend was picked; only when the request asked for an explanation.
    pub why: Option<String>,
    /// How many backends were in rotation; only when the request asked for an explanation.
    pub in_rotation: Option<usize>,
    /// The backends that were looked at; only when the request asked for an explanation.
    pub candidates: Vec<CandidateExplanation>,
    /// Why the attempt failed; `None` for the attempt that was answered.
    pub failure: Option<String>,
}

/// A backend that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct CandidateExplanation {
    /// The name of the backend.
    pub backend: String,
    /// What counted for or against the backend.
    pub score: String,
    /// Why the backend was passed over; `None` for the picked one, and for those as good.
    pub passed_over: Option<&'static str>,
    /// Whether the pick went here.
    pub is_picked: bool,
}

/// What an exchange notes for its explanation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes {
    pub(crate) not_taken: Vec<RouteNotTaken>,
    pub(crate) attempts: Vec<AttemptExplanation>,
}

impl Notes {
    /// Notes that the last attempt is a second one beside the first.
    pub(crate) fn beside(&mut self) {
        if let Some(why) = self.attempts.last_mut().and_then(|attempt| attempt.why.as_mut()) {
            why.push_str("; a second attempt beside the first, which had no answer in time");
        }
    }

    /// Notes an attempt at a backend.
    pub(crate) fn attempt(&mut self, backend: &str, picked: Option<PickExplanation>) {
        let candidates = picked.iter().flat_map(|picked| &picked.candidates).map(|candidate| CandidateExplanation {
            backend: candidate.name.clone(),
            score: candidate.score.clone(),
            passed_over: candidate.passed_over,
            is_picked: candidate.is_picked,
        });
        self.attempts.push(AttemptExplanation {
            backend: backend.to_owned(),
            in_rotation: picked.as_ref().map(|picked| picked.in_rotation),
            candidates: candidates.collect(),
            why: picked.map(|picked| picked.why),
            failure: None,
        });
    }

    /// Notes how an attempt at a backend failed.
    pub(crate) fn failure(&mut self, backend: &str, failure: String) {
        match self.attempts.last_mut().filter(|attempt| attempt.failure.is_none() && attempt.backend == backend) {
            Some(attempt) => attempt.failure = Some(failure),
            None => {
                self.attempt(backend, None);
                self.attempts.last_mut().expect("it was just added").failure = Some(failure);
            }
        }
    }
}

/// The last explanations of one worker.
#[derive(Debug, Default)]
pub(crate) struct Explanations {
    /// Those that operators asked for: many failures at the same time do not push them out.
    asked: RefCell<VecDeque<Explanation>>,
    /// Those of requests that failed or were sent again.
    failed: RefCell<VecDeque<Explanation>>,
}

impl Explanations {
    /// Keeps the explanation of a request that asked for one.
    pub(crate) fn keep_asked(&self, record: &Record<'_>, notes: Notes) {
        keep(&self.asked, Explanation::new(record, notes));
    }

    /// Keeps the explanation of a request that failed or was sent again.
    pub(crate) fn keep_failed(&self, record: &Record<'_>, notes: Notes) {
        keep(&self.failed, Explanation::new(record, notes));
    }

    pub(crate) fn list(&self) -> Vec<Explanation> {
        self.asked.borrow().iter().chain(&*self.failed.borrow()).cloned().collect()
    }
}

fn keep(kept: &RefCell<VecDeque<Explanation>>, explanation: Explanation) {
    let mut kept = kept.borrow_mut();
    if kept.len() == EXPLANATIONS_MAX {
        kept.pop_front();
    }
    kept.push_back(explanation);
}

impl Explanation {
    /// The explanation of a request that has ended.
    fn new(record: &Record<'_>, notes: Notes) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (method, target) = record.request.line();
        let Notes { not_taken, mut attempts } = notes;
        if let Some(backend) = record.backend.filter(|_| attempts.iter().all(|attempt| attempt.failure.is_some()))
            && record.error.is_none()
        {
            // The attempt that was answered after others had failed.
            let backend = backend.name().to_owned();
            attempts.push(AttemptExplanation {
                backend,
                why: None,
                in_rotation: None,
                candidates: Vec::new(),
                failure: None,
            });
        }
        let kind = record.error_kind();
        let ms = |time: Duration| time.as_micros() as f64 / 1_000.0;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Explanation {
            id: record.request.id().to_string(),
            at: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            client: record.request.client().to_string(),
            method: text(method),
            target: text(target),
            host: text(record.request.host().unwrap_or_default()),
            listener: record.request.listener_name().map(str::to_owned),
            route: record.request.route().map(str::to_owned),
            not_taken,
            cluster: record.cluster.map(|cluster| cluster.name.to_string()),
            attempts,
            status: record.status,
            fault: kind.map(|kind| kind.fault().as_str()),
            error_kind: kind.map(loadx_core::ErrorKind::as_str),
            error: record.error.map(|cause| cause.message.to_owned()),
            queue_ms: ms(record.waits.queue),
            connect_ms: ms(record.waits.connect),
            duration_ms: ms(record.took()),
        }
    }
}
