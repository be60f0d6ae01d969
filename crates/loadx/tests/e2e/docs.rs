//! The documents agree with LoadX.

use serde_json::Value;

use crate::cases::{requests, responses};
use crate::h2_backend_cases;
use crate::h2_cases;
use crate::support::loadx;

const CONFIG: &str = include_str!("../../../../docs/config.md");
const FAILURES: &str = include_str!("../../../../docs/failures.md");
const HTTP: &str = include_str!("../../../../docs/http.md");
const HTTP2: &str = include_str!("../../../../docs/http2.md");
const HTTPS: &str = include_str!("../../../../docs/https.md");
const ROUTING: &str = include_str!("../../../../docs/routing.md");
const README: &str = include_str!("../../../../README.md");

/// Adds a row of the reference for each key of an object of the schema and of its inner objects.
fn rows(object: &Value, rows: &mut Vec<(String, String, String)>) {
    let required = object["required"].as_array().map_or(&[][..], Vec::as_slice);
    for (key, property) in object["properties"].as_object().into_iter().flatten() {
        let default = match &property["default"] {
            Value::Null if required.iter().any(|name| name == key) => "| required |".to_owned(),
            Value::Null => "| – |".to_owned(),
            Value::Array(list) if !list.is_empty() => "loopback and private networks".to_owned(),
            default => format!("| `{default}` |"),
        };
        let description = property["description"].as_str().unwrap_or_default().to_owned();
        rows.push((format!("| `{key}` |"), default, description));
        let inner = [property, &property["items"], &property["additionalProperties"]];
        for object in inner {
            self::rows(object, rows);
            for choice in object["anyOf"].as_array().into_iter().flatten() {
                self::rows(choice, rows);
            }
        }
    }
}

#[test]
fn the_config_reference_has_every_key_with_its_default() {
    let schema: Value = serde_json::from_str(&loadx(&["schema"]).stdout).unwrap();
    let mut wanted = Vec::new();
    rows(&schema, &mut wanted);
    wanted.sort();
    wanted.dedup();
    let lines: Vec<&str> = CONFIG.lines().filter(|line| line.starts_with("| `")).collect();
    for (key, default, description) in &wanted {
        let fits = |line: &&&str| line.starts_with(key) && line.contains(default) && line.contains(description);
        assert!(lines.iter().any(|line| fits(&line)), "docs/config.md lacks {key} {default} {description}");
    }
    assert_eq!(lines.len(), wanted.len(), "a row without a key, or a key with two rows");
}

#[test]
fn every_config_in_the_documents_is_good() {
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("config.json");
    let mut seen = 0;
    for document in [CONFIG, FAILURES, HTTPS, README, ROUTING] {
        for block in
            document.split("```json\n").chain(document.split("```jsonc\n")).filter(|block| block.starts_with('{'))
        {
            std::fs::write(&path, block.split("```").next().unwrap()).unwrap();
            let output = loadx(&["check", path.to_str().unwrap()]);
            assert_eq!(output.code, Some(0), "{output:?}");
            seen += 1;
        }
    }
    assert!(seen >= 3, "{seen}");
}

#[test]
fn every_example_is_good() {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples");
    let files: Vec<_> = std::fs::read_dir(examples).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= 4, "{files:?}");
    for file in files {
        let output = loadx(&["check", file.to_str().unwrap()]);
        assert_eq!(output.code, Some(0), "{output:?}");
        assert!(!output.stderr.contains("warning"), "{output:?}");
    }
}

/// The names of all tests of the public interfaces, with their files, and those of the simulation and of connections of HTTP/2.
fn tests() -> Vec<String> {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let simulation = here.join("../loadx-proxy/tests/simulation/main.rs");
    let connection = here.join("../loadx-http/src/h2/connection/tests.rs");
    let client = here.join("../loadx-http/src/h2/connection/tests/client.rs");
    let mut files = [("simulation", simulation), ("connection", connection), ("client", client)]
        .map(|(name, path)| (name.to_owned(), path))
        .to_vec();
    for entry in std::fs::read_dir(here.join("tests/e2e")).unwrap() {
        let path = entry.unwrap().path();
        if let Some(name) = path.file_name().unwrap().to_str().unwrap().strip_suffix(".rs") {
            files.push((name.to_owned(), path));
        }
    }
    let mut tests = Vec::new();
    for (file, path) in files {
        let text = std::fs::read_to_string(path).unwrap();
        let names = text.split("#[test]\nfn ").skip(1).map(|rest| rest.split('(').next().unwrap());
        tests.extend(names.map(|name| format!("{file}::{name}")));
    }
    tests
}

#[test]
fn the_rules_of_http_name_their_tests() {
    let (requests, responses) = (requests(), responses());
    let cases: Vec<&str> =
        requests.iter().map(|case| case.name).chain(responses.iter().map(|case| case.name)).collect();
    compare_rules("docs/http.md", HTTP, &cases);
    let of_backends = h2_backend_cases::cases().into_iter().map(|(name, ..)| name);
    let cases: Vec<&str> = h2_cases::cases().into_iter().map(|(name, ..)| name).chain(of_backends).collect();
    compare_rules("docs/http2.md", HTTP2, &cases);
}

/// Each case has a row, and each row has a proof that exists.
fn compare_rules(name: &str, document: &str, cases: &[&str]) {
    // What follows the rules are measurements.
    let document = document.split("\n## Speed\n").next().unwrap();
    let is_row = |line: &&str| line.starts_with("| ") && !line.starts_with("| rule ") && !line.starts_with("| attack ");
    let rows: Vec<&str> = document.lines().filter(is_row).collect();
    let proofs: Vec<&str> = rows.iter().map(|row| row.trim_end_matches(" |").rsplit(" | ").next().unwrap()).collect();
    for case in cases {
        let quoted = format!("\"{case}\"");
        assert!(proofs.iter().any(|proof| proof.contains(&quoted)), "{name} has no row for the case {quoted}");
    }
    let tests = tests();
    for proof in proofs {
        for case in proof.split('"').skip(1).step_by(2) {
            assert!(cases.contains(&case), "there is no case \"{case}\"");
        }
        for test in proof.split('`').skip(1).step_by(2) {
            assert!(tests.iter().any(|other| other == test), "there is no test {test}");
        }
        assert!(proof.contains('"') || proof.contains('`'), "a rule without proof: {proof}");
    }
}
