//! `loadx certs` and `loadx explain-tls`.

use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::tls::{Authority, connect, text};
use crate::support::{LoadX, Origin, eventually, loadx};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// LoadX that gets certificates for these names; no authority of the internet answers.
fn site(origin: &Origin, folder: &TempDir, names: &[&str]) -> LoadX {
    LoadX::of(&json!({
        "listeners": [{ "address": "127.0.0.1:0", "name": "secure", "tls": { "auto": names } }],
        "acme": { "directory": "https://127.0.0.1:1/dir" },
        "certificate_folder": text(&folder.path().join("certs")),
        "clusters": { "web": { "backends": [origin.address().to_string()] } },
    }))
}

fn certs(site: &LoadX, arguments: &[&str]) -> crate::support::Output {
    let config = site.config_path();
    loadx(&[&["certs", "--config", text(&config)], arguments].concat())
}

#[test]
fn local_certificates_are_listed_exported_and_renewed() {
    let (origin, folder) = (Origin::answering(OK), TempDir::new().unwrap());
    let site = site(&origin, &folder, &["localhost"]);
    let listed: Value = serde_json::from_str(&certs(&site, &["list", "--json"]).stdout).unwrap();
    assert_eq!(listed[0]["names"], json!(["localhost"]), "{listed}");
    let table = certs(&site, &[]);
    assert!(table.stdout.contains("localhost  89 days    CN=LoadX local authority"), "{table:?}");
    let before = certs(&site, &["export", "localhost"]).stdout;
    assert!(before.starts_with("-----BEGIN CERTIFICATE-----") && !before.contains("PRIVATE"), "{before}");
    assert!(certs(&site, &["export", "localhost", "--with-key"]).stdout.contains("PRIVATE KEY"));
    assert_eq!(certs(&site, &["renew", "localhost"]).code, Some(0));
    site.wait_for_log("an operator asked for another certificate for localhost");
    eventually("the store has another certificate", || {
        (certs(&site, &["export", "localhost"]).stdout != before).then_some(())
    });
    let missing = certs(&site, &["renew", "other.test"]);
    assert_eq!(missing.code, Some(2), "{missing:?}");
}

#[test]
fn an_imported_certificate_is_used_without_a_restart() {
    let (origin, folder) = (Origin::answering(OK), TempDir::new().unwrap());
    let site = site(&origin, &folder, &["app.test"]);
    let authority = Authority::new();
    let config = Arc::new(authority.client_config());
    assert!(connect(site.address, "app.test", &config).is_err(), "there is no certificate yet");
    let (wrong, right) = (authority.issue("wrong", &["other.test"]), authority.issue("right", &["app.test"]));
    let import = |files: &crate::support::tls::Files| {
        let (certificate, key) = (text(&files.certificate).to_owned(), text(&files.key).to_owned());
        certs(&site, &["import", "app.test", "--certificate", &certificate, "--key", &key])
    };
    let refused = import(&wrong);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("not for app.test, but for other.test"), "{refused:?}");
    let (certificate, key) = (text(&right.certificate), text(&right.key));
    let local = certs(&site, &["import", "localhost", "--certificate", certificate, "--key", key]);
    assert!(local.code == Some(2) && local.stderr.contains("own authority"), "{local:?}");
    assert_eq!(import(&right).code, Some(0));
    eventually("the imported certificate is in use", || connect(site.address, "app.test", &config).ok());
}

#[test]
fn explain_tls_tells_which_certificate_a_client_gets() {
    let authority = Authority::new();
    let (origin, folder) = (Origin::answering(OK), TempDir::new().unwrap());
    let files = authority.issue("files", &["*.files.test"]);
    let back = LoadX::with(
        &[origin.address()],
        &json!({ "tls": { "certificate": text(&files.certificate), "key": text(&files.key) } }),
    );
    let write = |unknown: &str, backend_name: &str| {
        let path = folder.path().join("config.json");
        let config = json!({
            "listeners": [{ "address": "127.0.0.1:8443", "name": "secure", "tls": {
                "auto": ["localhost", "app.test"],
                "certificate": text(&files.certificate),
                "key": text(&files.key),
                "unknown_names": unknown,
            } }],
            "certificate_folder": text(&folder.path().join("certs")),
            "clusters": { "web": {
                "backends": [back.address.to_string()],
                "tls": { "ca": text(&authority.ca_path()), "server_name": backend_name },
            } },
        });
        std::fs::write(&path, config.to_string()).unwrap();
        path
    };
    let config = write("default", "one.files.test");
    let explain = |arguments: &[&str]| loadx(&[&["explain-tls", "--config", text(&config)], arguments].concat());
    let of_file = explain(&["one.files.test"]);
    assert_eq!(of_file.code, Some(0), "{of_file:?}");
    assert!(
        of_file.stdout.contains("a certificate of a file") && of_file.stdout.contains("*.files.test"),
        "{of_file:?}"
    );
    let missing = explain(&["app.test:8443"]);
    assert!(missing.stdout.contains("has no certificate for the name yet"), "{missing:?}");
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert!(explain(&["nowhere.test"]).stdout.contains("gets the first certificate"));
    assert_eq!(explain(&["one.files.test:80"]).code, Some(2));
    let backends = explain(&["--backends"]);
    assert!(
        backends.code == Some(0) && backends.stdout.contains("TLSv1.3") && backends.stdout.contains("verified"),
        "{backends:?}"
    );
    write("refuse", "two.test");
    assert!(explain(&["nowhere.test"]).stdout.contains("unknown_names"));
    let backends = explain(&["--backends"]);
    assert!(backends.stdout.contains("not valid for name"), "{backends:?}");
    assert_eq!(backends.code, Some(1));
}
