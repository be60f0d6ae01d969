//! `loadx ctl explain`: prints explanations for people.

use std::fmt::Write as _;

use serde_json::Value;

const NEVER_FAILS: &str = "writing to a String cannot fail";

/// The list of the known requests.
pub(super) fn list(all: &[Value]) -> String {
    if all.is_empty() {
        return "no request has failed, was sent again, or asked for an explanation lately\n".to_owned();
    }
    let mut text = String::new();
    for one in all {
        writeln!(
            text,
            "{}  {:<18} {} {:<28} {:>8.1} ms  {}",
            when(one),
            shown(&one["id"]),
            one["status"],
            format!("{} {}", shown(&one["method"]), shown(&one["target"])),
            one["duration_ms"].as_f64().unwrap_or_default(),
            one["error"].as_str().map_or_else(|| tries(one), printable),
        )
        .expect(NEVER_FAILS);
    }
    text
}

fn tries(one: &Value) -> String {
    match one["attempts"].as_array().map_or(0, Vec::len) {
        0 | 1 => String::new(),
        count => format!("{count} attempts"),
    }
}

/// The explanation of one request.
pub(super) fn one(explanation: &Value) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: &str| writeln!(text, "{label:<10} {value}").expect(NEVER_FAILS);
    let text_of = |key: &str| shown(&explanation[key]);
    line("request", &format!("{} {} for host {}", text_of("method"), text_of("target"), text_of("host")));
    line("from", &format!("{} at {}, listener {}", text_of("client"), when(explanation), text_of("listener")));
    line("route", &text_of("route"));
    for other in list_of(&explanation["not_taken"]) {
        line("", &format!("not {}: {}", shown(&other["route"]), shown(&other["why"])));
    }
    line("cluster", &text_of("cluster"));
    let queue = explanation["queue_ms"].as_f64().unwrap_or_default();
    if queue > 0.0 {
        line("waited", &format!("{queue:.1} ms in the queue of the cluster"));
    }
    for (number, attempt) in list_of(&explanation["attempts"]).iter().enumerate() {
        let of = attempt["in_rotation"].as_u64().map_or_else(String::new, |count| format!(" (of {count} in rotation)"));
        line(&format!("attempt {}", number + 1), &format!("{}{of}", shown(&attempt["backend"])));
        if let Some(why) = attempt["why"].as_str() {
            line("", &format!("because: {}", printable(why)));
        }
        for candidate in list_of(&attempt["candidates"]) {
            let verdict = match (candidate["is_picked"].as_bool(), candidate["passed_over"].as_str()) {
                (Some(true), _) => "picked",
                (_, Some(reason)) => reason,
                _ => "as good",
            };
            line("", &format!("  {:<24} {:<28} {verdict}", shown(&candidate["backend"]), shown(&candidate["score"])));
        }
        if let Some(failure) = attempt["failure"].as_str() {
            line("", &format!("failed: {}", printable(failure)));
        }
    }
    for backend in list_of(&explanation["out_of_rotation"]) {
        line(
            "out now",
            &format!(
                "{}: {}, {} (since {} s)",
                shown(&backend["backend"]),
                shown(&backend["state"]),
                shown(&backend["reason"]),
                backend["since_seconds"]
            ),
        );
    }
    let connect = explanation["connect_ms"].as_f64().unwrap_or_default();
    if connect > 0.0 {
        line("connected", &format!("in {connect:.1} ms, all attempts together"));
    }
    let took = explanation["duration_ms"].as_f64().unwrap_or_default();
    line("answer", &format!("{} after {took:.1} ms", explanation["status"]));
    if let Some(kind) = explanation["error_kind"].as_str() {
        let error = explanation["error"].as_str().map_or_else(String::new, |error| format!(": {}", printable(error)));
        line("fault of", &format!("{} ({kind}){error}", text_of("fault")));
    }
    text
}

fn list_of(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| "-".to_owned(), printable)
}

/// Without characters that could change a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

fn when(one: &Value) -> String {
    let at = one["at"].as_i64().and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
    at.map_or_else(|| "-".to_owned(), |at| at.round(jiff::Unit::Second).unwrap_or(at).to_string())
}
