//! What LoadX does when the backends of a cluster fail.

use super::words::{list, seconds};
use crate::{LimitPolicy, OutlierPolicy, RetryPolicy};

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

pub(super) fn retries(policy: &RetryPolicy) -> String {
    if policy.resends_max == 0 {
        return "only of requests that no backend has seen".to_owned();
    }
    let methods = if policy.non_idempotent { "every method" } else { "idempotent methods" };
    format!(
        "{} times at most, {methods}, statuses {}, budget {} % and {} per second",
        policy.resends_max,
        list(policy.statuses.iter().map(|status| status.to_string()), "none"),
        policy.budget.percent,
        policy.budget.per_second_min
    )
}

pub(super) fn limits(policy: &LimitPolicy) -> String {
    let Some(per_backend) = policy.per_backend else { return "none".to_owned() };
    let clients = policy.client_field.as_deref().unwrap_or("address");
    let queue_time = seconds(policy.queue_time);
    format!("{per_backend} requests per backend; {} wait for {queue_time} at most, in turns by {clients}", policy.queue)
}
