//! What LoadX does when the backends of a cluster fail.

use super::words::{list, seconds};
use crate::{BackendLimit, BreakerPolicy, HedgePolicy, LimitPolicy, OutlierPolicy, RetryPolicy};

pub(super) fn outliers(policy: Option<&OutlierPolicy>) -> String {
    let Some(policy) = policy else { return "off".to_owned() };
    let slow = match policy.slow_factor {
        Some(factor) => format!("slow from {factor} times the others on"),
        None => "none for slowness".to_owned(),
    };
    format!(
        "{} failures in a row, shares from {} requests on, {slow}, out for {} to {}, at most {} % out",
        policy.in_a_row,
        policy.attempts_min,
        seconds(policy.ejection),
        seconds(policy.ejection_max),
        policy.out_percent_max
    )
}

pub(super) fn retries(policy: &RetryPolicy, hedge: Option<HedgePolicy>) -> String {
    if policy.resends_max == 0 {
        return "only of requests that no backend has seen".to_owned();
    }
    let methods = if policy.non_idempotent { "every method" } else { "idempotent methods" };
    let hedge = hedge.map_or_else(String::new, |hedge| {
        format!(", a second backend after {} % of the times and {}", hedge.percentile, seconds(hedge.delay_min))
    });
    format!(
        "{} times at most, {methods}, statuses {}, budget {} % and {} per second{hedge}",
        policy.resends_max,
        list(policy.statuses.iter().map(|status| status.to_string()), "none"),
        policy.budget.percent,
        policy.budget.per_second_min
    )
}

pub(super) fn limits(policy: &LimitPolicy) -> String {
    let per_backend = policy.per_backend.map(|limit| match limit {
        BackendLimit::Fixed(limit) => format!("{limit} requests per backend"),
        BackendLimit::Adaptive => "as many requests per backend as it works on without a queue".to_owned(),
    });
    let per_cluster = policy.per_cluster.map(|limit| format!("{limit} requests in all"));
    let limits: Vec<String> = per_backend.into_iter().chain(per_cluster).collect();
    if limits.is_empty() {
        return "none".to_owned();
    }
    let clients = policy.client_field.as_deref().unwrap_or("address");
    let queue_time = seconds(policy.queue_time);
    let limits = limits.join(", ");
    format!("{limits}; {} wait for {queue_time} at most, in turns by {clients}", policy.queue)
}

pub(super) fn breaker(policy: Option<&BreakerPolicy>) -> String {
    let Some(policy) = policy else { return "none".to_owned() };
    format!(
        "opens for {} when {} % of {} requests or more fail",
        seconds(policy.open),
        policy.failed_percent,
        policy.attempts_min
    )
}
