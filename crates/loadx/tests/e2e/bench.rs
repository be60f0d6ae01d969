//! `loadx bench`: open loops, time limits, Ctrl-C, and the progress bar.

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Origin, Output, Terminal, eventually, loadx, start};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn url(origin: &Origin) -> String {
    format!("http://{}/", origin.address())
}

/// A file for results, in a temporary folder.
struct Results(TempDir);

impl Results {
    fn new() -> Self {
        Results(TempDir::new().unwrap())
    }

    fn path(&self) -> String {
        self.0.path().join("results.json").to_str().unwrap().to_owned()
    }

    fn read(&self) -> Value {
        serde_json::from_str(&std::fs::read_to_string(self.path()).unwrap()).unwrap()
    }
}

/// Runs a bench to its end; returns its output and its results.
fn bench(origin: &Origin, arguments: &[&str]) -> (Output, Value) {
    let results = Results::new();
    let (url, path) = (url(origin), results.path());
    let output = loadx(&[&["bench", "--url", &url, "-o", &path], arguments].concat());
    assert_eq!(output.code, Some(0), "{output:?}");
    (output, results.read())
}

fn number(results: &Value, key: &str) -> f64 {
    results[key].as_f64().unwrap_or_else(|| panic!("{key} is no number: {results}"))
}

#[test]
fn a_rate_counts_response_times_from_the_schedule() {
    let origin = Origin::answering(OK);
    let arguments = ["-n", "1000", "-c", "1", "--rate", "1000000"];
    let (output, results) = bench(&origin, &arguments);
    assert_eq!((&results["requests"], &results["failed"]), (&1000.into(), &0.into()), "{results}");
    assert_eq!(results["rate"], 1_000_000.0);
    assert!(output.stdout.contains("  schedule     1000000 requests/s, "), "{output:?}");
    // All requests are due almost at once and wait for one connection. If response times counted from the sending,
    // their sum could not exceed the time of the run.
    let added_up = number(&results["response_times"], "average") * number(&results, "requests");
    let run = number(&results, "duration_seconds") * 1_000.0;
    assert!(added_up > 2.0 * run, "response times of {added_up} ms in a run of {run} ms: {results}");
    assert!(number(&results, "started_late") > 0.0, "{results}");
}

#[test]
fn a_rate_sends_no_request_before_the_request_is_due() {
    let origin = Origin::answering(OK);
    let (_, results) = bench(&origin, &["-n", "21", "-c", "4", "--rate", "200"]);
    assert_eq!(results["requests"], 21);
    let due = 1.0 + 200.0 * number(&results, "duration_seconds");
    assert!(number(&results, "requests") <= due + 0.5, "more requests than {due}: {results}");
}

#[test]
fn every_request_of_a_schedule_is_sent_or_told() {
    let origin = Origin::answering(OK);
    let (output, results) = bench(&origin, &["-c", "2", "--rate", "1000000", "--duration", "0.05"]);
    assert_eq!(number(&results, "requests") + number(&results, "unsent"), 50_000.0, "{results}");
    assert!(output.stdout.contains(&format!("started late, {} not sent", results["unsent"])), "{output:?}");
}

#[test]
fn a_duration_ends_a_run_that_has_no_number_of_requests() {
    let origin = Origin::answering(OK);
    let (_, results) = bench(&origin, &["-c", "2", "--duration", "0.1"]);
    assert_eq!((&results["failed"], &results["interrupted"]), (&0.into(), &false.into()), "{results}");
    assert_eq!(results["duration_limit_seconds"], 0.1);
    assert_eq!(number(&results, "requests"), origin.requests().len() as f64);
    assert!(number(&results, "requests") >= 1.0, "{results}");
}

#[test]
fn a_number_of_requests_ends_a_run_that_has_time_left() {
    let origin = Origin::answering(OK);
    let (_, results) = bench(&origin, &["-n", "7", "-c", "2", "--duration", "86400"]);
    assert_eq!((&results["requests"], &results["failed"]), (&7.into(), &0.into()), "{results}");
}

/// Interrupts a bench with one connection once the origin, which answers `answered` requests, has the next one.
fn interrupted(answered: usize, arguments: &[&str]) -> (Output, Value) {
    let origin = Origin::start(move |connection| {
        for _ in 0..answered {
            connection.request();
            connection.send(OK);
        }
        // Reads requests and never answers, until the client closes the connection.
        while connection.request().is_some() {}
    });
    let results = Results::new();
    let (url, path) = (url(&origin), results.path());
    let bench = start(&[&["bench", "--url", &url, "-o", &path, "-c", "1"], arguments].concat());
    eventually("the last request arrives", || (origin.requests().len() == answered + 1).then_some(()));
    bench.interrupt();
    (bench.output(), results.read())
}

#[test]
fn ctrl_c_keeps_the_results_so_far() {
    let (output, results) = interrupted(5, &["-n", "100"]);
    assert_eq!(output.code, Some(130), "{output:?}");
    assert!(output.stdout.starts_with("5 requests to http://"), "{output:?}");
    assert!(output.stdout.contains("interrupted  requests under way, which are not counted above: 1"), "{output:?}");
    assert_eq!((&results["requests"], &results["successful"]), (&5.into(), &5.into()), "{results}");
    assert_eq!((&results["interrupted"], &results["unfinished"]), (&true.into(), &1.into()), "{results}");
}

#[test]
fn ctrl_c_tells_what_a_stalled_server_kept_from_being_sent() {
    let (output, results) = interrupted(0, &["--rate", "1000000", "--duration", "86400"]);
    assert_eq!(output.code, Some(130), "{output:?}");
    assert_eq!((&results["requests"], &results["unfinished"]), (&0.into(), &1.into()), "{results}");
    assert!(number(&results, "unsent") > 0.0, "{results}");
}

#[test]
fn results_of_an_earlier_version_can_be_compared() {
    let origin = Origin::answering(OK);
    let results = Results::new();
    let (url, path) = (url(&origin), results.path());
    loadx(&["bench", "-n", "9", "-c", "1", "--url", &url, "-o", &path]);
    let mut before = results.read();
    for key in ["rate", "duration_limit_seconds", "started_late", "unsent", "interrupted", "unfinished"] {
        assert!(before.as_object_mut().unwrap().remove(key).is_some(), "{key}");
    }
    std::fs::write(results.path(), before.to_string()).unwrap();
    let (output, _) = bench(&origin, &["-n", "9", "-c", "1", "--compare", &path]);
    assert!(output.stdout.contains("compared") && !output.stdout.contains("not the same load"), "{output:?}");
    let (output, _) = bench(&origin, &["-n", "9", "-c", "1", "--rate", "1000", "--compare", &path]);
    assert!(output.stdout.contains("9 requests at concurrency 1 and 1000 requests/s to"), "{output:?}");
}

#[test]
fn the_progress_bar_is_drawn_only_where_a_terminal_shows_everything() {
    const BAR: &str = "/64 requests";
    let origin = Origin::answering(OK);
    let url = url(&origin);
    let run = |terminal: Terminal, variables: &[(&str, &str)]| {
        terminal.run(variables, &["bench", "-n", "64", "-c", "2", "--url", &url])
    };
    let shown = run(Terminal::Both, &[]);
    assert!(shown.contains(BAR), "{shown:?}");
    assert!(run(Terminal::Both, &[("NO_COLOR", "")]).contains(BAR), "an empty NO_COLOR asks for nothing");
    for (terminal, variables) in [
        (Terminal::Both, vec![("NO_COLOR", "1")]),
        (Terminal::Both, vec![("TERM", "dumb")]),
        (Terminal::OnlyStderr, vec![]),
        (Terminal::OnlyStdout, vec![]),
    ] {
        let shown = run(terminal, &variables);
        assert!(!shown.contains(BAR) && !shown.contains('\x1b'), "{terminal:?}, {variables:?}: {shown:?}");
        assert_eq!(shown.contains("64 requests to"), terminal != Terminal::OnlyStderr, "{shown:?}");
    }
}
