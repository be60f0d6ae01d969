//! Values as text. Free text stands in quotes, so that neither a comma in a value nor a value such as "none" is taken for
//! something else.

use std::time::Duration;

use ipnet::IpNet;

/// A text in quotes; control characters are escaped.
pub(super) fn quote(text: &str) -> String {
    format!("{text:?}")
}

pub(super) fn quoted<T: AsRef<str>>(texts: &[T]) -> String {
    list(texts.iter().map(|text| quote(text.as_ref())), "any")
}

/// The values with commas; `none` stands for an empty list.
pub(super) fn list(values: impl Iterator<Item = String>, none: &str) -> String {
    let values: Vec<String> = values.collect();
    if values.is_empty() { none.to_owned() } else { values.join(", ") }
}

pub(super) fn networks(networks: &[IpNet], none: &str) -> String {
    list(networks.iter().map(ToString::to_string), none)
}

/// A time in seconds, as the config has times.
pub(super) fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

pub(super) fn limit(time: Option<Duration>) -> String {
    time.map_or_else(|| "none".to_owned(), seconds)
}

/// The part of a whole. One digit hides small changes, so the weights must stand beside it.
pub(in super::super) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}
