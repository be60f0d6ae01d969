//! Certificates of a public authority, played by pebble, which nobody here wrote. Skipped without pebble.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::crash_steps::{Killer, thread};
use crate::support::tls::{Authority, connect, text};
use crate::support::{Client, LoadX, Origin, eventually, unused_ports};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// An authority with a DNS server that gives every name the address 127.0.0.1.
struct Pebble {
    processes: Vec<Child>,
    authority: Authority,
    folder: TempDir,
    directory: SocketAddr,
    management: u16,
    http: u16,
    tls: u16,
    dns_management: u16,
}

impl Pebble {
    /// None if the programs are not installed.
    fn start(variables: &[(&str, &str)], settings: &Value) -> Option<Self> {
        let is_there = |program: &str| Command::new(program).arg("-h").output().is_ok();
        if !is_there("pebble") || !is_there("pebble-challtestsrv") {
            eprintln!("skipped: pebble is not installed");
            return None;
        }
        let first = unused_ports(6);
        let [acme, management, http, tls, dns, dns_management] = std::array::from_fn(|index| first + index as u16);
        let authority = Authority::new();
        let files = authority.issue("pebble", &["localhost", "127.0.0.1"]);
        let folder = TempDir::new().unwrap();
        let mut config = json!({
            "listenAddress": format!("127.0.0.1:{acme}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": text(&files.certificate),
            "privateKey": text(&files.key),
            "httpPort": http,
            "tlsPort": tls,
        });
        config.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        let path = folder.path().join("pebble.json");
        std::fs::write(&path, json!({ "pebble": config }).to_string()).unwrap();
        let mut names = Command::new("pebble-challtestsrv");
        names.args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""]);
        names.args(["-dns01", &format!("127.0.0.1:{dns}"), "-management", &format!("127.0.0.1:{dns_management}")]);
        let mut pebble = Command::new("pebble");
        pebble.args(["-config", text(&path), "-dnsserver", &format!("127.0.0.1:{dns}")]);
        pebble.env("PEBBLE_VA_NOSLEEP", "1").envs(variables.iter().copied());
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let quietly = |command: &mut Command| {
            let output = || Stdio::from(log.try_clone().unwrap());
            command.stdout(output()).stderr(output()).spawn().unwrap()
        };
        let processes = vec![quietly(&mut names), quietly(&mut pebble)];
        let directory = SocketAddr::from((Ipv4Addr::LOCALHOST, acme));
        for port in [acme, dns_management] {
            eventually("the authority listens", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        }
        Some(Pebble { processes, authority, folder, directory, management, http, tls, dns_management })
    }

    /// Settings by which LoadX gets certificates for these names.
    fn config(&self, origin: &Origin, names: &[&str], acme: &Value) -> Value {
        let mut settings = json!({
            "directory": format!("https://{}/dir", self.directory),
            "ca": text(&self.authority.ca_path()),
        });
        settings.as_object_mut().unwrap().extend(acme.as_object().unwrap().clone());
        json!({
            "listeners": [
                { "address": format!("127.0.0.1:{}", self.tls), "tls": { "auto": names } },
                { "address": format!("127.0.0.1:{}", self.http), "redirect_to_https": true },
            ],
            "acme": settings,
            "certificate_folder": text(&self.store()),
            "workers": 1,
            "clusters": { "web": { "backends": [origin.address().to_string()] } },
        })
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("certs")
    }

    /// Waits until a client that accepts any certificate gets one for this name; returns the certificate.
    fn wait_for_certificate(&self, name: &str) -> Vec<u8> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.tls));
        let config = Arc::new(credulous());
        eventually(&format!("there is a certificate for {name}"), || {
            let client = connect(address, name, &config).ok()?;
            Some(client.tls().peer_certificates()?[0].to_vec())
        })
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("the end of pebble's log:\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        }
    }
}

/// The settings of a client that accepts every certificate.
fn credulous() -> rustls::ClientConfig {
    #[derive(Debug)]
    struct Everything;
    impl rustls::client::danger::ServerCertVerifier for Everything {
        fn verify_server_cert(
            &self,
            _: &rustls::pki_types::CertificateDer<'_>,
            _: &[rustls::pki_types::CertificateDer<'_>],
            _: &rustls::pki_types::ServerName<'_>,
            _: &[u8],
            _: rustls::pki_types::UnixTime,
        ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
            Ok(rustls::client::danger::ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &rustls::pki_types::CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
        }
        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &rustls::pki_types::CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
        }
        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    builder.dangerous().with_custom_certificate_verifier(Arc::new(Everything)).with_no_client_auth()
}

#[test]
fn certificates_come_by_each_proof_and_stay() {
    let Some(pebble) = Pebble::start(&[("PEBBLE_WFE_NONCEREJECT", "30")], &json!({})) else { return };
    let origin = Origin::answering(OK);
    for (challenge, name) in [("tls-alpn-01", "tls.example.com"), ("http-01", "http.example.com")] {
        let loadx = LoadX::of(&pebble.config(&origin, &[name], &json!({ "challenge": challenge })));
        let first = pebble.wait_for_certificate(name);
        loadx.wait_for_log(&format!("a new certificate is in use: {name}, issued by CN=Pebble"));
        assert!(!loadx.log().contains("LoadX tries again"), "refused numbers are no failure: {}", loadx.log());
        drop(loadx);
        let again = LoadX::of(&pebble.config(&origin, &[name], &json!({ "challenge": challenge })));
        assert!(pebble.wait_for_certificate(name) == first, "the certificate of the store is in use");
        assert!(!again.log().contains("getting a certificate"), "{}", again.log());
    }
}

#[test]
fn a_wildcard_comes_by_a_record_in_dns() {
    let Some(pebble) = Pebble::start(&[], &json!({})) else { return };
    let origin = Origin::answering(OK);
    let hook = pebble.folder.path().join("hook");
    // The management of the DNS server takes JSON over HTTP.
    let script = format!(
        "#!/bin/sh\nbody='{{\"host\":\"'\"$2\"'.\",\"value\":\"'\"$3\"'\"}}'\n[ \"$1\" = set ] && path=set-txt || path=clear-txt\n\
         exec curl -sf -d \"$body\" http://127.0.0.1:{}/$path\n",
        pebble.dns_management
    );
    std::fs::write(&hook, script).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o700)).unwrap();
    let loadx = LoadX::of(&pebble.config(&origin, &["*.example.com"], &json!({ "dns_hook": text(&hook) })));
    pebble.wait_for_certificate("any.example.com");
    loadx.wait_for_log("with a proof by dns-01");
}

#[test]
fn a_failure_is_told_and_holds_nothing_up() {
    let Some(pebble) = Pebble::start(&[], &json!({})) else { return };
    let origin = Origin::answering(OK);
    // No record tells an authority how to reach this name.
    let body = json!({ "host": "bad.example.com", "addresses": [] });
    let told = Command::new("curl")
        .args(["-sf", "-d", &body.to_string(), &format!("http://127.0.0.1:{}/set-servfail", pebble.dns_management)])
        .status();
    assert!(told.unwrap().success());
    let loadx = LoadX::of(&pebble.config(&origin, &["bad.example.com", "good.example.com"], &json!({})));
    pebble.wait_for_certificate("good.example.com");
    loadx.wait_for_log("no certificate for bad.example.com: the check of the name: ");
    // The status is on the first listener as well as on the second.
    let status =
        Client::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, pebble.http))).get("/__status__").response().json();
    let certificates = status["certificates"].as_array().unwrap();
    let of = |name: &str| certificates.iter().find(|one| one["names"][0] == name).unwrap();
    assert!(of("bad.example.com")["problem"].as_str().unwrap().contains("resolve"), "{certificates:?}");
    assert!(of("good.example.com")["valid_seconds_left"].as_f64().unwrap() > 86_400.0, "{certificates:?}");
    let unnamed =
        connect(SocketAddr::from((Ipv4Addr::LOCALHOST, pebble.tls)), "bad.example.com", &Arc::new(credulous()));
    assert!(unnamed.err().unwrap().to_string().contains("UnrecognisedName"));
}

#[test]
fn a_certificate_is_renewed_before_its_end() {
    let Some(pebble) = Pebble::start(&[], &json!({})) else { return };
    let origin = Origin::answering(OK);
    let config = pebble.config(&origin, &["app.example.com"], &json!({}));
    let loadx = LoadX::of(&config);
    pebble.wait_for_certificate("app.example.com");
    drop(loadx);
    let folders = std::fs::read_dir(pebble.store()).unwrap().map(|entry| entry.unwrap().path());
    let folder = folders.into_iter().find(|path| text(path).contains("/acme-127.0.0.1-")).unwrap();
    let path = folder.join("app.example.com.pem");
    assert!(path.is_file() && folder.join("account.json").is_file());
    // Valid for a day more, after more than two thirds of its time.
    let now = std::time::SystemTime::now();
    let old = pebble.authority.issue_with("old", &["app.example.com"], |params| {
        params.not_before = (now - std::time::Duration::from_secs(89 * 86_400)).into();
        params.not_after = (now + std::time::Duration::from_secs(86_400)).into();
    });
    let read = |path: &PathBuf| std::fs::read_to_string(path).unwrap();
    std::fs::write(&path, format!("{}{}", read(&old.certificate), read(&old.key))).unwrap();
    let loadx = LoadX::of(&config);
    loadx.wait_for_log("a new certificate is in use: app.example.com, issued by CN=Pebble");
    assert!(!read(&path).contains(&read(&old.certificate)), "the new certificate is in the store");
}

#[test]
fn a_revoked_certificate_is_replaced() {
    let Some(pebble) = Pebble::start(&[], &json!({})) else { return };
    let origin = Origin::answering(OK);
    let mut config = pebble.config(&origin, &["app.example.com", "old.example.com"], &json!({}));
    let loadx = LoadX::of(&config);
    let first = pebble.wait_for_certificate("app.example.com");
    let old = pebble.wait_for_certificate("old.example.com");
    let file = pebble.folder.path().join("config.json");
    std::fs::write(&file, config.to_string()).unwrap();
    let certs = |arguments: &[&str]| {
        let output = crate::support::loadx(&[&["certs", "--config", text(&file)], arguments].concat());
        (output.code, format!("{}{}", output.stdout, output.stderr))
    };
    let status_at_authority = |certificate: &[u8]| -> Value {
        let file = pebble.folder.path().join("certificate.der");
        std::fs::write(&file, certificate).unwrap();
        let mut openssl = Command::new("openssl");
        openssl.args(["x509", "-inform", "DER", "-noout", "-serial", "-in", text(&file)]);
        let serial = String::from_utf8(openssl.output().unwrap().stdout).unwrap();
        let serial = serial.trim().trim_start_matches("serial=").to_ascii_lowercase();
        let url = format!("https://127.0.0.1:{}/cert-status-by-serial/{serial}", pebble.management);
        let output = Command::new("curl").args(["-s", "--cacert", text(&pebble.authority.ca_path()), &url]).output();
        serde_json::from_slice(&output.unwrap().stdout).unwrap()
    };
    assert_eq!(status_at_authority(&first)["Status"], "Valid");
    let (_, exported) = certs(&["export", "app.example.com", "--with-key"]);
    let kept = pebble.folder.path().join("kept.pem");
    std::fs::write(&kept, exported).unwrap();
    let (code, said) = certs(&["revoke", "App.example.com.", "--reason", "key-compromise"]);
    assert_eq!((code, said.contains("is revoked; the running LoadX gets another one")), (Some(0), true), "{said}");
    let status = status_at_authority(&first);
    assert_eq!((&status["Status"], &status["Reason"]), (&json!("Revoked"), &json!(1)), "{status}");
    loadx.wait_for_log("an operator asked for another certificate for app.example.com");
    eventually("another certificate is in use", || {
        (pebble.wait_for_certificate("app.example.com") != first).then_some(())
    });
    // A command that was cut off after the answer of the authority can be repeated.
    assert_eq!(certs(&["import", "app.example.com", "--certificate", text(&kept)]).0, Some(0));
    let (code, said) = certs(&["revoke", "app.example.com"]);
    assert_eq!((code, said.contains("is revoked")), (Some(0), true), "{said}");
    // A name that the config no longer has keeps no certificate.
    config["listeners"][0]["tls"]["auto"] = json!(["app.example.com"]);
    std::fs::write(&file, config.to_string()).unwrap();
    let (code, said) = certs(&["revoke", "old.example.com"]);
    assert_eq!((code, said.contains("its file is removed")), (Some(0), true), "{said}");
    assert_eq!(status_at_authority(&old)["Status"], "Revoked");
    let (code, said) = certs(&["revoke", "old.example.com"]);
    assert_eq!((code, said.contains("there is no certificate for old.example.com")), (Some(2), true), "{said}");
}

#[test]
fn fifty_names_come_at_once() {
    let Some(pebble) = Pebble::start(&[], &json!({})) else { return };
    let origin = Origin::answering(OK);
    let names: Vec<String> = (0..50).map(|number| format!("n{number}.example.com")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let _loadx = LoadX::of(&pebble.config(&origin, &names, &json!({})));
    for name in &names {
        pebble.wait_for_certificate(name);
    }
}

#[test]
fn the_authority_may_ask_who_its_customer_is() {
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let settings = json!({ "externalAccountBindingRequired": true, "externalAccountMACKeys": { "kid-1": key } });
    let Some(pebble) = Pebble::start(&[], &settings) else { return };
    let origin = Origin::answering(OK);
    let file = pebble.folder.path().join("customer");
    std::fs::write(&file, key).unwrap();
    let acme = json!({ "customer_key_id": "kid-1", "customer_key_file": text(&file), "email": "me@example.com" });
    let _loadx = LoadX::of(&pebble.config(&origin, &["app.example.com"], &acme));
    pebble.wait_for_certificate("app.example.com");
}

#[test]
fn local_names_need_no_authority_on_the_network() {
    let origin = Origin::answering(OK);
    let folder = TempDir::new().unwrap();
    let config = json!({
        "listeners": [{ "address": "127.0.0.1:0", "tls": { "auto": ["localhost", "127.0.0.1", "*.app.internal"] } }],
        "certificate_folder": text(folder.path()),
        "clusters": { "web": { "backends": [origin.address().to_string()] } },
    });
    let loadx = LoadX::of(&config);
    let exported = crate::support::loadx(&["ca", "export", "--folder", text(folder.path())]);
    assert_eq!(exported.code, Some(0), "{exported:?}");
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, exported.stdout).unwrap();
    for name in ["localhost", "127.0.0.1", "one.app.internal"] {
        let port = loadx.address.port();
        let output = Command::new("curl")
            .args(["-s", "--cacert", text(&ca), "--resolve", &format!("{name}:{port}:127.0.0.1")])
            .arg(format!("https://{name}:{port}/"))
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "ok", "{name}: {output:?}");
    }
}

#[test]
fn any_loadx_of_the_store_answers_the_authority() {
    for challenge in ["tls-alpn-01", "http-01"] {
        let Some(pebble) = Pebble::start(&[], &json!({})) else { return };
        let origin = Origin::answering(OK);
        let asking = pebble.config(&origin, &["app.example.com"], &json!({ "challenge": challenge }));
        // The authority reaches this one, which does not ask for the name.
        let mut answering = asking.clone();
        answering["listeners"][0]["tls"]["auto"] = json!(["localhost"]);
        let _answering = LoadX::of(&answering);
        let mut asking = asking;
        for (number, listener) in asking["listeners"].as_array_mut().unwrap().iter_mut().enumerate() {
            listener["address"] = "127.0.0.1:0".into();
            listener["name"] = number.to_string().into();
        }
        let asking = LoadX::of(&asking);
        asking.wait_for_log("a new certificate is in use: app.example.com");
        assert!(!asking.log().contains("LoadX tries again"), "{challenge}: {}", asking.log());
    }
}

#[test]
fn a_restart_does_not_ask_the_authority_again_at_once() {
    let Some(pebble) = Pebble::start(&[], &json!({})) else { return };
    let origin = Origin::answering(OK);
    let mut config = pebble.config(&origin, &["app.example.com"], &json!({ "challenge": "http-01" }));
    // The authority asks on a port on which nobody listens.
    config["listeners"][1]["address"] = "127.0.0.1:0".into();
    let mut loadx = LoadX::of(&config);
    loadx.wait_for_log("LoadX tries again in 10 s");
    loadx.restart();
    loadx.wait_for_log("backend");
    assert!(!loadx.log().contains("getting a certificate"), "{}", loadx.log());
    let path = loadx.config_path();
    assert_eq!(crate::support::loadx(&["certs", "--config", text(&path), "renew", "app.example.com"]).code, Some(0));
    loadx.wait_for_log("LoadX tries again in 60 s");
    assert_eq!(loadx.log().matches("getting a certificate").count(), 1, "{}", loadx.log());
}

/// The system calls of the thread for certificates at which a crash can matter, and how many of them to go on after each kill:
/// the network has many.
const CRASHES: [(&str, usize); 5] = [("rename", 1), ("fsync", 1), ("openat", 3), ("write", 2), ("writev", 3)];

#[test]
fn a_crash_at_any_step_of_an_issue_loses_nothing() {
    let Some(pebble) = Pebble::start(&[], &json!({})) else { return };
    let origin = Origin::answering(OK);
    let mut kills = 0;
    for (call, stride) in CRASHES {
        for step in (1..).step_by(stride) {
            assert!(step < 100, "an issue calls {call} more than 100 times");
            let name = format!("{call}-{step}.example.com");
            let mut wanted = pebble.config(&origin, &[&name], &json!({}));
            wanted["certificate_folder"] = text(&pebble.folder.path().join(format!("{call}-{step}"))).into();
            let mut bare = wanted.clone();
            bare["listeners"] = json!([{ "address": format!("127.0.0.1:{}", pebble.http) }]);
            let mut loadx = LoadX::of(&bare);
            let Some(killer) = Killer::attach(&[], thread(&loadx, "loadx-certs"), call, step) else {
                eprintln!("skipped: strace is missing or may not trace");
                return;
            };
            std::fs::write(loadx.config_path(), wanted.to_string()).unwrap();
            loadx.signal(rustix::process::Signal::HUP);
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, pebble.tls));
            let config = Arc::new(credulous());
            // LoadX may end at any moment.
            let is_served = || {
                let stream = std::net::TcpStream::connect(address).ok()?;
                let host = rustls::pki_types::ServerName::try_from(name.clone()).unwrap();
                let tls = rustls::ClientConnection::new(Arc::clone(&config), host).unwrap();
                Client::over(stream).with_tls(tls).ok()
            };
            eventually("a kill or a certificate", || (loadx.ended().is_some() || is_served().is_some()).then_some(()));
            drop(killer);
            let was_killed = loadx.ended().is_some();
            if was_killed {
                kills += 1;
                // A restart does not ask the authority again at once, unless an operator wants that.
                let config = loadx.config_path();
                let asked = crate::support::loadx(&["certs", "--config", text(&config), "renew", &name]);
                assert_eq!(asked.code, Some(0), "{asked:?}");
                loadx.restart();
                pebble.wait_for_certificate(&name);
            }
            let config = loadx.config_path();
            let listed = crate::support::loadx(&["certs", "--config", text(&config), "list", "--json"]);
            assert!(listed.stdout.contains(&name) && !listed.stdout.contains("problem"), "{call} {step}: {listed:?}");
            let log = loadx.log();
            assert!(log.matches("getting a certificate").count() <= 2, "{call} {step}: {log}");
            assert!(!log.contains("LoadX tries again"), "{call} {step}: {log}");
            if !was_killed {
                break;
            }
        }
    }
    assert!(kills >= 10, "{kills} kills");
}
