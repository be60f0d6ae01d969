//! Words that depend on numbers.

use loadx_core::config::Config;

/// The count with its noun, in the plural unless the count is 1.
pub(super) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// What a config comes to: backends and algorithm, or clusters and routes where there are many.
pub(super) fn summary(config: &Config) -> String {
    let backends = count(config.backends().count(), "backend");
    match &config.clusters[..] {
        [only] if config.routes.len() == 1 => format!("{backends}, {}", only.algorithm.as_str()),
        clusters => {
            format!("{}, {}, {backends}", count(config.routes.len(), "route"), count(clusters.len(), "cluster"))
        }
    }
}
