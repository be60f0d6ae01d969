//! Makes the policies for failing backends of the keys of `resilience`.

use std::time::Duration;

use super::checker::Checker;
use super::reader::{At, Problem, Typed as _};
use super::resilience_file::{
    FileBreaker, FileHedge, FileLimits, FileOutliers, FileResilience, FileResilienceKeys, FileRetries, OrOff,
    WholeOrAuto,
};
use crate::{
    BackendLimit, BreakerPolicy, BudgetPolicy, HedgePolicy, LimitPolicy, OutlierPolicy, RetryPolicy, Statuses,
};

/// What LoadX does when the backends of a cluster fail.
#[derive(Clone, Debug)]
pub(super) struct Resilience {
    pub(super) outliers: Option<OutlierPolicy>,
    pub(super) retry: RetryPolicy,
    pub(super) limits: LimitPolicy,
    pub(super) slow_start: Option<Duration>,
    pub(super) breaker: Option<BreakerPolicy>,
    pub(super) hedge: Option<HedgePolicy>,
}

impl Resilience {
    fn off() -> Self {
        Resilience {
            outliers: None,
            retry: RetryPolicy::off(),
            limits: LimitPolicy::default(),
            slow_start: None,
            breaker: None,
            hedge: None,
        }
    }
}

impl Checker<'_> {
    /// The policies of a cluster: its own key, or the key of the file.
    pub(super) fn resilience(
        &mut self,
        of_cluster: Option<&At<FileResilience>>,
        of_file: Option<&At<FileResilience>>,
    ) -> Resilience {
        match of_cluster.or(of_file).map(|typed| &typed.value) {
            None | Some(FileResilience::Standard) => Resilience {
                outliers: Some(OutlierPolicy::default()),
                retry: RetryPolicy::default(),
                ..Resilience::off()
            },
            Some(FileResilience::Off) => Resilience::off(),
            Some(FileResilience::Object(keys)) => self.resilience_keys(keys),
        }
    }

    fn resilience_keys(&mut self, keys: &FileResilienceKeys) -> Resilience {
        let outliers = match keys.outliers.as_ref().map(|typed| (typed, &typed.value)) {
            None => Some(OutlierPolicy::default()),
            Some((_, OrOff::Off)) => None,
            Some((at, OrOff::Object(typed))) => {
                let has_max = typed.place_of("max_ejection_time").is_some();
                if has_max && typed.max_ejection_time.0 < typed.ejection_time.0 {
                    let message = "\"max_ejection_time\" is shorter than \"ejection_time\"";
                    self.fault(at.place, Problem::new(message, "raise \"max_ejection_time\", or remove it"));
                }
                Some(outliers(typed))
            }
        };
        let hedge = match keys.retries.as_ref().map(|typed| &typed.value) {
            Some(OrOff::Object(typed)) => typed.hedge.as_ref().map(|typed| hedge(&typed.value)),
            _ => None,
        };
        let retry = match keys.retries.as_ref().map(|typed| &typed.value) {
            None => RetryPolicy::default(),
            Some(OrOff::Off) => RetryPolicy::off(),
            Some(OrOff::Object(typed)) => retries(typed),
        };
        let limits = keys.limits.as_ref().map(|typed| self.limits(typed)).unwrap_or_default();
        let breaker = keys.breaker.as_ref().map(|typed| breaker(&typed.value));
        let slow_start = keys.slow_start.as_ref().map(|typed| typed.value.duration());
        Resilience { outliers, retry, limits, slow_start, breaker, hedge }
    }

    fn limits(&mut self, at: &At<FileLimits>) -> LimitPolicy {
        let typed = &at.value;
        let has_limit = ["requests_per_backend", "requests"].iter().any(|key| typed.place_of(key).is_some());
        if !has_limit {
            let message = "\"limits\" has neither \"requests_per_backend\" nor \"requests\": nothing is limited";
            self.fault(at.place, Problem::new(message, "add \"requests_per_backend\": \"auto\", or a number"));
        }
        LimitPolicy {
            per_backend: typed.requests_per_backend.as_ref().map(|limit| match limit.value {
                WholeOrAuto::Whole(limit) => BackendLimit::Fixed(limit),
                WholeOrAuto::Auto => BackendLimit::Adaptive,
            }),
            per_cluster: typed.requests.as_ref().map(|limit| limit.value.0 as u32),
            queue: typed.queue.0 as usize,
            queue_time: typed.queue_time.duration(),
            client_field: typed.fair_by.as_ref().map(|field| field.value.0.to_ascii_lowercase().into()),
        }
    }
}

fn outliers(typed: &FileOutliers) -> OutlierPolicy {
    OutlierPolicy {
        in_a_row: typed.failures_in_a_row.0 as u32,
        attempts_min: typed.min_requests.0 as u32,
        slow_factor: Some(typed.slow_factor.0 as u32).filter(|factor| *factor > 0),
        ejection: typed.ejection_time.duration(),
        ejection_max: typed.max_ejection_time.duration().max(typed.ejection_time.duration()),
        out_percent_max: typed.max_out_percent.0 as u32,
    }
}

fn hedge(typed: &FileHedge) -> HedgePolicy {
    HedgePolicy { percentile: typed.percentile.0 as u8, delay_min: typed.min_delay.duration() }
}

fn breaker(typed: &FileBreaker) -> BreakerPolicy {
    BreakerPolicy {
        failed_percent: typed.failed_percent.0 as u32,
        attempts_min: typed.min_requests.0 as u32,
        open: typed.open_time.duration(),
    }
}

fn retries(typed: &FileRetries) -> RetryPolicy {
    let default = RetryPolicy::default();
    let statuses = typed.statuses.as_ref().map_or(default.statuses, |typed| {
        let mut statuses = Statuses::default();
        typed.value.iter().for_each(|status| statuses.add(status.value.0 as u16));
        statuses
    });
    RetryPolicy {
        statuses,
        resends_max: typed.max.0 as u32,
        non_idempotent: typed.non_idempotent,
        budget: BudgetPolicy {
            percent: typed.budget_percent.0 as u32,
            per_second_min: typed.budget_per_second.0 as u32,
        },
    }
}
