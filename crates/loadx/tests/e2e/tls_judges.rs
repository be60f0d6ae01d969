//! What programs of others say of HTTPS: scanners, a browser, and the TLS of Python. Tests of missing programs are skipped,
//! unless `LOADX_JUDGES` is set.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::judges::{find, output};
use crate::support::tls::text;
use crate::support::{LoadX, Origin};

const PAGE: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 33\r\n\r\n\
                    <p id=greeting>encrypted page</p>";

/// Findings of testssl.sh above LOW that docs/https.md explains.
const EXPLAINED: [&str; 3] = ["cipher_order", "cert_revocation", "security_headers"];

/// A LoadX with certificates of its local authority, and the authority's certificate.
struct Site {
    loadx: LoadX,
    folder: TempDir,
    _origin: Origin,
}

impl Site {
    fn new(profile: &str) -> Self {
        let origin = Origin::answering(PAGE);
        let folder = TempDir::new().unwrap();
        let tls = json!({ "auto": ["localhost", "127.0.0.1"], "hsts": 63_072_000, "profile": profile });
        let loadx = LoadX::of(&json!({
            "listeners": [{ "address": "127.0.0.1:0", "tls": tls }],
            "certificate_folder": text(&folder.path().join("certs")),
            "clusters": { "web": { "backends": [origin.address().to_string()], "health": { "probe": "off" } } },
        }));
        let exported = crate::support::loadx(&["ca", "export", "--folder", text(&folder.path().join("certs"))]);
        std::fs::write(folder.path().join("ca.pem"), exported.stdout).unwrap();
        Site { loadx, folder, _origin: origin }
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn target(&self) -> String {
        format!("localhost:{}", self.loadx.address.port())
    }

    fn url(&self) -> String {
        format!("https://{}/", self.target())
    }
}

#[test]
fn sslyze_finds_the_profiles_of_mozilla() {
    let Some(sslyze) = find("sslyze") else { return };
    for profile in ["intermediate", "modern"] {
        let site = Site::new(profile);
        let said = output(Command::new(&sslyze).arg(format!("--mozilla_config={profile}")).args([
            "--certinfo_ca_file",
            text(&site.ca()),
            &site.target(),
        ]));
        assert!(said.contains(": OK - Compliant."), "{said}");
    }
}

#[test]
fn testssl_finds_nothing_that_is_not_explained() {
    let Some(testssl) = find("testssl") else { return };
    let site = Site::new("intermediate");
    let report = site.folder.path().join("report.json");
    let said = output(
        Command::new(testssl)
            .args(["--quiet", "--color", "0", "--warnings", "batch", "--add-ca", text(&site.ca())])
            .args(["--jsonfile", text(&report), &site.url()]),
    );
    let findings: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(&report).unwrap()).unwrap();
    assert!(findings.len() > 100, "{said}");
    let is_bad = |finding: &&Value| {
        let (severity, id) = (finding["severity"].as_str().unwrap(), finding["id"].as_str().unwrap());
        // That finding is about the OpenSSL that testssl.sh uses.
        !["OK", "INFO", "LOW"].contains(&severity) && !EXPLAINED.contains(&id) && id != "engine_problem"
    };
    let bad: Vec<&Value> = findings.iter().filter(is_bad).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    let https = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/https.md")).unwrap();
    for id in EXPLAINED {
        assert!(https.contains(&format!("`{id}`")), "docs/https.md does not explain {id}");
    }
}

#[test]
fn a_browser_shows_the_page() {
    let (Some(chromium), Some(certutil)) = (find("chromium"), find("certutil")) else { return };
    let site = Site::new("intermediate");
    let home = site.folder.path().join("home");
    let database = home.join(".pki/nssdb");
    std::fs::create_dir_all(&database).unwrap();
    let open = || {
        output(
            Command::new(&chromium)
                .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", "--virtual-time-budget=5000"])
                .arg(format!("--user-data-dir={}", text(&home.join("profile"))))
                .arg(site.url())
                .env("HOME", &home),
        )
    };
    let refused = open();
    assert!(!refused.contains("encrypted page"), "the browser does not know the authority yet: {refused}");
    assert!(database.join("cert9.db").is_file(), "the browser has a database of certificates: {refused}");
    let store = format!("sql:{}", text(&database));
    let told = ["-A", "-t", "C,,", "-n", "LoadX", "-i"];
    let added = output(Command::new(&certutil).args(["-d", &store]).args(told).arg(site.ca()));
    let shown = open();
    assert!(shown.contains("encrypted page"), "{added}{shown}");
}

#[test]
fn python_gets_the_page() {
    let Some(python) = find("python3") else { return };
    let site = Site::new("intermediate");
    let program = "import ssl, sys, urllib.request\n\
                   context = ssl.create_default_context(cafile=sys.argv[1])\n\
                   print(urllib.request.urlopen(sys.argv[2], context=context).read().decode())";
    let said = output(Command::new(python).args(["-c", program, text(&site.ca()), &site.url()]));
    assert!(said.contains("encrypted page"), "{said}");
}
