//! Settings that together multiply the load of the backends, most of all when they fail.

use loadx_core::config::{ClusterConfig, Config};
use loadx_core::route::Action;
use loadx_core::{BackendLimit, HealthPolicy, Probe};

use super::trap::Trap;

/// The share of the requests that may be sent again beyond which an outage noticeably adds load to what is left, in percent.
const BUDGET_PERCENT_SAFE: u32 = 50;

/// The requests that may be sent again in a second, however few requests there are, beyond which the share does not matter.
const BUDGET_PER_SECOND_SAFE: u32 = 100;

/// The least memory with which LoadX can serve, in bytes.
const MEMORY_SAFE: u64 = 64 * 1024 * 1024;

/// The probes of one cluster in a second beyond which they are a load of their own.
const PROBES_PER_SECOND_SAFE: f64 = 200.0;

pub(super) fn traps(config: &Config) -> impl Iterator<Item = Trap> + '_ {
    let clusters = config.clusters.iter().flat_map(|cluster| {
        [
            large_budget(cluster),
            hedges_often(cluster),
            hedges_nothing(cluster),
            many_probes(cluster),
            limit_of_one(cluster),
        ]
    });
    clusters.flatten().chain(mirrors_to_itself(config)).chain(little_memory(config))
}

fn large_budget(cluster: &ClusterConfig) -> Option<Trap> {
    let retry = &cluster.attempt.retry;
    let most = retry.budget.percent.min(100 * retry.resends_max);
    let per_second = if retry.resends_max == 0 { 0 } else { retry.budget.per_second_min };
    let (how_much, help) = if most > BUDGET_PERCENT_SAFE {
        (format!("{most} % to its requests"), "set \"budget_percent\" in \"retries\" to 20, the default, or less")
    } else if per_second > BUDGET_PER_SECOND_SAFE {
        (format!("{per_second} requests a second"), "set \"budget_per_second\" in \"retries\" to 3, the default")
    } else {
        return None;
    };
    Some(Trap::warning(
        format!(
            "the retries of the cluster \"{}\" may add {how_much} while backends fail: backends that fail under too much load get \
             more of it",
            cluster.name
        ),
        help,
    ))
}

fn hedges_often(cluster: &ClusterConfig) -> Option<Trap> {
    let hedge = cluster.hedge?;
    let often = 100 - u32::from(hedge.percentile);
    (often > cluster.attempt.retry.budget.percent).then(|| {
        Trap::warning(
            format!(
                "\"hedge\" of the cluster \"{}\" wants a second backend for {often} % of the requests, and the budget of its \
                 retries is {} %: retries will find the budget empty",
                cluster.name, cluster.attempt.retry.budget.percent
            ),
            "raise \"percentile\", such as to 95",
        )
    })
}

fn hedges_nothing(cluster: &ClusterConfig) -> Option<Trap> {
    let is_h2 = cluster.transport.protocol == loadx_core::config::BackendProtocol::Http2;
    let retry = &cluster.attempt.retry;
    let reason = match () {
        () if cluster.hedge.is_none() => return None,
        () if is_h2 => "LoadX hedges only over HTTP/1.1",
        () if retry.resends_max == 0 => "\"max\" in \"retries\" is 0",
        () if cluster.limits.per_cluster == Some(1) => "\"requests\" in \"limits\" is 1",
        () if cluster.backends.len() < 2 && !cluster.resolve_each => "it has one backend",
        () => return None,
    };
    Some(Trap::warning(
        format!("\"hedge\" of the cluster \"{}\" has no effect: {reason}", cluster.name),
        "remove \"hedge\"",
    ))
}

fn many_probes(cluster: &ClusterConfig) -> Option<Trap> {
    let interval = cluster.health.interval.min(cluster.health.fast_interval);
    let is_fast = interval < HealthPolicy::default().fast_interval;
    let interval = if is_fast { interval } else { cluster.health.interval };
    let per_second = cluster.backends.len() as f64 / interval.as_secs_f64();
    (cluster.health.probe != Probe::Off && per_second > PROBES_PER_SECOND_SAFE).then(|| {
        Trap::warning(
            format!(
                "the cluster \"{}\" has {} backends and an interval of {} s: {per_second:.0} probes in a second",
                cluster.name,
                cluster.backends.len(),
                interval.as_secs_f64()
            ),
            "raise \"interval\" or \"fast_interval\" in \"health\" of the cluster, or \"health_check_interval\"",
        )
    })
}

/// A limit of the cluster that the limits of its backends can never reach.
fn limit_of_one(cluster: &ClusterConfig) -> Option<Trap> {
    let (Some(all), Some(BackendLimit::Fixed(one))) = (cluster.limits.per_cluster, cluster.limits.per_backend) else {
        return None;
    };
    let together: u64 = cluster.backends.iter().map(|backend| u64::from(one) * u64::from(backend.weight)).sum();
    (u64::from(all) > together && !cluster.resolve_each).then(|| {
        Trap::warning(
            format!(
                "\"requests\" ({all}) in \"limits\" of the cluster \"{}\" has no effect: its backends take {together} requests \
                 at the same time",
                cluster.name
            ),
            "remove \"requests\", or raise \"requests_per_backend\"",
        )
    })
}

/// A limit of memory that LoadX itself needs.
fn little_memory(config: &Config) -> Option<Trap> {
    let most = config.memory_max.filter(|most| *most < MEMORY_SAFE)?;
    Some(Trap::warning(
        format!(
            "\"max_memory\" ({most} bytes) is about what LoadX needs without any client: it may refuse every request"
        ),
        "write 67108864 (64 MiB) or more",
    ))
}

/// Routes that send a copy of each request to the cluster that answers.
fn mirrors_to_itself(config: &Config) -> impl Iterator<Item = Trap> + '_ {
    config.routes.iter().filter_map(|route| {
        let Action::Forward(forward) = &route.action else { return None };
        let mirror = forward.mirror.filter(|mirror| forward.split.iter().any(|share| share.cluster == *mirror))?;
        Some(Trap::warning(
            format!(
                "the route {} mirrors to the cluster \"{}\" that answers: its backends get each request twice",
                route.name, config.clusters[mirror].name
            ),
            "remove \"mirror\", or name another cluster",
        ))
    })
}
