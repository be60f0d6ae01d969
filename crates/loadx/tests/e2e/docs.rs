//! What the documents say is so.

use serde_json::Value;

use crate::support::loadx;

const CONFIG: &str = include_str!("../../../../docs/config.md");
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
