//! What the documents say is so.

use serde_json::Value;

use crate::cases::{requests, responses};
use crate::support::loadx;

const CONFIG: &str = include_str!("../../../../docs/config.md");
const HTTP: &str = include_str!("../../../../docs/http.md");
const README: &str = include_str!("../../../../README.md");

fn has_row(key: &str, property: &Value, required: bool) {
    let row = CONFIG.lines().find(|line| line.starts_with(&format!("| `{key}` |")));
    let row = row.unwrap_or_else(|| panic!("docs/config.md has no row for {key}"));
    assert!(row.contains(property["description"].as_str().unwrap()), "{row}");
    match &property["default"] {
        Value::Null if required => assert!(row.contains("| required |"), "{row}"),
        Value::Null => assert!(row.contains("| – |"), "{row}"),
        Value::Array(list) if !list.is_empty() => assert!(row.contains("loopback and private networks"), "{row}"),
        default => assert!(row.contains(&format!("| `{default}` |")), "{row}"),
    }
}

#[test]
fn the_config_reference_has_every_key_with_its_default() {
    let schema: Value = serde_json::from_str(&loadx(&["schema"]).stdout).unwrap();
    let mut keys = 0;
    for object in [&schema, &schema["properties"]["backend_servers"]["items"]] {
        let required = object["required"].as_array().unwrap();
        for (key, property) in object["properties"].as_object().unwrap() {
            has_row(key, property, required.iter().any(|name| name == key));
            keys += 1;
        }
    }
    assert_eq!(CONFIG.lines().filter(|line| line.starts_with("| `")).count(), keys, "a row without a key");
}

#[test]
fn every_config_in_the_documents_is_good() {
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("config.json");
    let mut seen = 0;
    for document in [CONFIG, README] {
        for block in document.split("```json\n").skip(1) {
            std::fs::write(&path, block.split("```").next().unwrap()).unwrap();
            let output = loadx(&["check", path.to_str().unwrap()]);
            assert_eq!(output.code, Some(0), "{output:?}");
            seen += 1;
        }
    }
    assert_eq!(seen, 2);
}

/// The names of all tests that go through the public doors, with their files, and those of the simulation.
fn tests() -> Vec<String> {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let simulation = here.join("../loadx-proxy/tests/simulation/main.rs");
    let mut files = vec![("simulation".to_owned(), simulation)];
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
fn the_rules_of_http_name_what_proves_them() {
    let rows: Vec<&str> = HTTP.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| rule ")).collect();
    let proofs: Vec<&str> = rows.iter().map(|row| row.trim_end_matches(" |").rsplit(" | ").next().unwrap()).collect();
    let cases: Vec<&str> =
        requests().iter().map(|case| case.name).chain(responses().iter().map(|case| case.name)).collect();
    for case in &cases {
        let quoted = format!("\"{case}\"");
        assert!(proofs.iter().any(|proof| proof.contains(&quoted)), "docs/http.md has no row for the case {quoted}");
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
