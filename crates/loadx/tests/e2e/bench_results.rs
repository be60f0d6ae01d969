//! What `loadx bench` makes of its results.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::tls::text;
use crate::support::{Origin, Output, eventually, loadx};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

struct Bench {
    origin: Origin,
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        Bench { origin: Origin::answering(OK), folder: TempDir::new().unwrap() }
    }

    fn file(&self, name: &str) -> String {
        text(&self.folder.path().join(name)).to_owned()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let url = format!("http://{}/", self.origin.address());
        loadx(&[&["bench", &url], arguments].concat())
    }

    fn results(&self, arguments: &[&str]) -> (Output, Value) {
        let file = self.file("results.json");
        let output = self.run(&[&["-o", &file], arguments].concat());
        (output, serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap())
    }
}

#[test]
fn threads_share_the_work() {
    let bench = Bench::new();
    let (output, results) = bench.results(&["-n", "103", "-c", "7", "--threads", "3"]);
    assert_eq!((output.code, &results["successful"], &results["threads"]), (Some(0), &json!(103), &json!(3)));
    assert_eq!((bench.origin.requests().len(), bench.origin.connections()), (103, 7));
    let (_, results) = bench.results(&["--duration", "0.2", "-c", "6", "--threads", "3", "--rate", "300"]);
    let told = results["requests"].as_u64().unwrap() + results["unsent"].as_u64().unwrap();
    assert_eq!(told, 60, "{results}");
}

#[test]
fn a_rate_shows_the_times_since_requests_were_sent_beside_the_corrected_ones() {
    let (output, results) = Bench::new().results(&["-n", "1000", "-c", "1", "--rate", "1000000"]);
    assert!(output.stdout.contains("since sent, without the time"), "{output:?}");
    assert!(output.stdout.contains("NOT KEPT"), "{output:?}");
    let average = |key: &str| results[key]["average"].as_f64().unwrap();
    assert!(average("response_times") > 2.0 * average("response_times_since_sent"), "{results}");
    assert_eq!(results["distribution"].as_array().unwrap().len(), 24);
    assert!(results["schedule"]["sent_rate"].as_f64().unwrap() < 900_000.0, "{results}");
    let (_, closed) = Bench::new().results(&["-n", "10"]);
    assert_eq!((&closed["response_times_since_sent"], &closed["schedule"]), (&Value::Null, &Value::Null));
}

#[test]
fn the_warm_up_does_not_count() {
    let bench = Bench::new();
    let (_, results) = bench.results(&["--duration", "0.2", "--warm-up", "0.2", "-c", "1", "--rate", "100"]);
    assert_eq!(results["requests"], 20, "{results}");
    assert_eq!(bench.origin.requests().len(), 40);
}

#[test]
fn repeated_runs_are_compared_with_their_confidence() {
    let bench = Bench::new();
    let file = bench.file("before.json");
    assert_eq!(bench.run(&["-n", "50", "--runs", "3", "-o", &file]).code, Some(0));
    let before: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!((before["runs"].as_array().unwrap().len(), &before["requests"]), (3, &json!(150)));
    let output = bench.run(&["-n", "50", "--runs", "3", "--compare", &file]);
    assert!(output.stdout.contains("averages of 3 and 3 runs"), "{output:?}");

    // Results that are certainly better than any that this run can have, and results that are certainly worse.
    let changed = |factor: f64| {
        let mut results = before.clone();
        for run in results["runs"].as_array_mut().unwrap() {
            for key in ["average", "p50", "p90", "p99"] {
                run["response_times"][key] = json!(1_000.0 * factor);
            }
            run["requests_per_second"] = json!(1_000_000.0 / factor);
        }
        std::fs::write(bench.file("changed.json"), results.to_string()).unwrap();
        bench.run(&["-n", "50", "--runs", "3", "--compare", &bench.file("changed.json"), "--fail-if-worse", "10"])
    };
    let worse = changed(0.000_000_1);
    assert_eq!(worse.code, Some(1), "{worse:?}");
    assert!(worse.stdout.contains("worse than 10 % allow: requests/s: -"), "{worse:?}");
    let better = changed(100_000.0);
    assert_eq!(better.code, Some(0), "{better:?}");
}

#[test]
fn the_page_needs_nothing_else() {
    let bench = Bench::new();
    let file = bench.file("page.html");
    let output = bench.run(&["--duration", "2.2", "--rate", "50", "--html", &file]);
    assert!(output.stdout.contains("the report is in "), "{output:?}");
    let page = std::fs::read_to_string(&file).unwrap();
    assert!(page.contains("<svg") && page.contains("since the scheduled moment"), "{page}");
    for foreign in ["src=", "href=", "<script", "@import", "url("] {
        assert!(!page.contains(foreign), "{foreign}");
    }
}

#[test]
fn the_highest_rate_is_searched() {
    let bench = Bench::new();
    let step = ["--duration", "0.1", "--warm-up", "0.01", "-c", "2"];
    let (file, arguments) = (bench.file("results.json"), ["--find-max", "p99 < 10s", "--rate", "20"]);
    // Two connections alone bear no rate of ten million, and each step misses its schedule in the end. On a busy machine the load
    // generator itself may be late by more than a millisecond at every rate; then no rate is found.
    let output = eventually("the machine lets a rate be kept", || {
        let output = bench.run(&[&["-o", &file], &arguments[..], &step[..]].concat());
        assert!(output.code == Some(0) || output.stdout.contains("the rate was not kept"), "{output:?}");
        (output.code == Some(0)).then_some(output)
    });
    let results: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let found = output.stdout.lines().find_map(|line| line.strip_prefix("highest rate   ")).unwrap();
    assert!(results["rate"].as_f64().unwrap() >= 20.0 && found.ends_with(" requests/s"), "{output:?}");
    let impossible = bench.run(&[&["--find-max", "p99 < 0.001us"], &step[..]].concat());
    assert_eq!(impossible.code, Some(1), "{impossible:?}");
    assert!(impossible.stdout.contains("no rate meets the condition"), "{impossible:?}");
}

#[test]
fn the_documentation_has_every_key_of_the_results() {
    let (_, results) = Bench::new().results(&["-n", "20", "--rate", "1000", "--runs", "2"]);
    let documentation = include_str!("../../../../docs/bench.md");
    let check = |value: &Value| {
        for key in value.as_object().unwrap().keys() {
            assert!(documentation.contains(&format!("`{key}`")), "docs/bench.md lacks {key}");
        }
    };
    for value in
        [&results, &results["schedule"], &results["timeline"][0], &results["distribution"][0], &results["runs"][0]]
    {
        check(value);
    }
    check(&results["response_times"]);
}

#[test]
fn requests_are_counted_after_the_warm_up() {
    let bench = Bench::new();
    let (_, results) = bench.results(&["-n", "30", "-c", "2", "--warm-up", "0.2"]);
    assert_eq!(results["requests"], 30, "{results}");
    assert!(bench.origin.requests().len() > 30);
}

#[test]
fn repeated_runs_follow_each_other_in_the_timeline() {
    let (_, results) = Bench::new().results(&["--duration", "1.2", "--rate", "100", "--runs", "2"]);
    let timeline = results["timeline"].as_array().unwrap();
    assert!(timeline.len() >= 2, "{results}");
    let most = timeline.iter().map(|moment| moment["requests_per_second"].as_f64().unwrap()).fold(0.0, f64::max);
    assert!(most <= 130.0, "runs must not lie over each other: {results}");
}

#[test]
fn a_file_of_results_is_replaced_only_by_results() {
    let bench = Bench::new();
    let file = bench.file("results.json");
    std::fs::write(&file, "former").unwrap();
    let refused = bench.run(&["-n", "5", "-o", &file, "--find-max", "p99 < 0.001us", "--duration", "0.05"]);
    assert!(refused.code != Some(0), "{refused:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "former");
    let impossible =
        bench.run(&["-o", &file, "--find-max", "p99 < 0.001us", "--duration", "0.05", "--warm-up", "0.01"]);
    assert_eq!(impossible.code, Some(1), "{impossible:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "former");
    let (_, results) = bench.results(&["-n", "5"]);
    assert_eq!(results["requests"], 5);
    let left = std::fs::read_dir(bench.folder.path()).unwrap().count();
    assert_eq!(left, 1, "no draft is left");
}

#[test]
fn without_responses_there_are_no_response_times() {
    let address = crate::support::unused_address();
    let output = loadx(&["bench", "-n", "5", &format!("http://{address}/")]);
    assert_eq!(output.code, Some(1));
    assert!(!output.stdout.contains("p99") && output.stdout.contains("connection refused"), "{output:?}");
    for url in ["http://user:secret@localhost/", "http://a<b/"] {
        let output = loadx(&["bench", url]);
        assert_eq!(output.code, Some(2), "{output:?}");
    }
}
