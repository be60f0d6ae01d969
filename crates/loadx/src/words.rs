//! Words that depend on numbers.

use loadx_core::config::Config;

/// The count with its noun, in the plural unless the count is 1.
pub(crate) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// A summary of a config: backends and algorithm, or routes, clusters and backends if there are several clusters or
/// routes.
pub(crate) fn summary(config: &Config) -> String {
    let backends = count(config.backends().count(), "backend");
    match &config.clusters[..] {
        [only] if config.routes.len() == 1 => format!("{backends}, {}", only.algorithm.as_str()),
        clusters => {
            format!("{}, {}, {backends}", count(config.routes.len(), "route"), count(clusters.len(), "cluster"))
        }
    }
}
