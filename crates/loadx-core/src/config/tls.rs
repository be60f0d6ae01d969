//! Makes the validated TLS settings of the keys of the file.

use std::sync::Arc;

use super::checker::Checker;
use super::reader::{At, Place, Problem, Typed as _};
use super::routing_values::{ChallengeWord, HostPattern, ProfileWord, UnknownNameWord};
use super::tls_file::{FileAcme, FileBackendTlsEntry, FileCertificate, FileTls};
use super::values::Text;
use super::{AcmeChallenge, AcmeConfig, BackendTls, CertificateFiles, ListenerConfig, TlsConfig, TlsProfile};

/// The port of https (RFC 9110, section 4.2.2).
pub(super) const HTTPS_PORT: u16 = 443;

impl Checker<'_> {
    pub(super) fn tls(&mut self, typed: &At<FileTls>, http2: bool) -> TlsConfig {
        let file = &typed.value;
        let first = match (&file.certificate, &file.key) {
            (Some(certificate), key) => Some(files(certificate, key.as_ref())),
            (None, Some(key)) => {
                let message = "\"key\" needs a \"certificate\", and this object has none";
                self.fault(key.place, Problem::new(message, "add \"certificate\", or remove \"key\""));
                None
            }
            (None, None) => None,
        };
        let more = file.certificates.iter().flat_map(|certificates| &certificates.value);
        let more = more.map(|entry: &At<FileCertificate>| files(&entry.value.certificate, entry.value.key.as_ref()));
        let certificates: Vec<CertificateFiles> = first.into_iter().chain(more).collect();
        let auto = self.auto(file.auto.as_ref());
        // The reader has already reported invalid values.
        let has_key = ["auto", "certificate", "key", "certificates"].iter().any(|key| file.place_of(key).is_some());
        if certificates.is_empty() && auto.is_empty() && (!has_key || file.auto.is_some()) {
            let help = "add \"auto\": [\"app.example.com\"], or \"certificate\" and \"key\" with the names of files";
            self.fault(typed.place, Problem::new("\"tls\" has no certificate", help));
        }
        TlsConfig {
            certificates,
            auto,
            profile: match file.profile {
                ProfileWord::Intermediate => TlsProfile::Intermediate,
                ProfileWord::Modern => TlsProfile::Modern,
            },
            refuses_unknown: file.unknown_names == UnknownNameWord::Refuse,
            clients: file.client_certificates.as_ref().map(|typed| self.client_rules(typed)).unwrap_or_default().into(),
            http2,
            hsts: file.hsts.as_ref().map(|hsts| hsts.value.0),
        }
    }

    /// TLS to backends; `None` if the file switches TLS off.
    pub(super) fn backend_tls(&mut self, typed: &At<FileBackendTlsEntry>) -> Option<BackendTls> {
        let file = match &typed.value {
            FileBackendTlsEntry::Switch(is_on) => return is_on.then(BackendTls::default),
            FileBackendTlsEntry::Object(file) => file,
        };
        if let (None, Some(key)) = (&file.certificate, &file.key) {
            let message = "\"key\" needs a \"certificate\", and this object has none";
            self.fault(key.place, Problem::new(message, "add \"certificate\", or remove \"key\""));
        }
        if let (true, Some(ca)) = (file.insecure, &file.ca) {
            let message = "\"insecure\" takes any certificate, so that \"ca\" has no effect";
            self.fault(ca.place, Problem::new(message, "remove \"insecure\", or remove \"ca\""));
        }
        Some(BackendTls {
            ca: file.ca.as_ref().map(|ca| ca.value.0.as_str().into()),
            server_name: file.server_name.as_ref().map(|name| name.value.0.as_str().into()),
            certificate: file.certificate.as_ref().map(|certificate| files(certificate, file.key.as_ref())),
            insecure: file.insecure,
        })
    }

    fn auto(&mut self, typed: Option<&At<Vec<At<HostPattern>>>>) -> Vec<Arc<str>> {
        let mut names: Vec<Arc<str>> = Vec::new();
        for entry in typed.iter().flat_map(|names| &names.value) {
            // An IPv6 address stands in a certificate without brackets.
            let name = entry.value.0.trim_start_matches('[').trim_end_matches(']');
            if names.iter().any(|known| **known == *name) {
                self.fault(entry.place, Problem::new(format!("{name} is listed twice"), "remove one"));
            }
            names.push(name.into());
        }
        names
    }

    pub(super) fn acme(&mut self, typed: &At<FileAcme>, listeners: &[ListenerConfig]) -> AcmeConfig {
        let file = &typed.value;
        let text = |text: &Option<At<Text>>| text.as_ref().map(|text| text.value.0.clone());
        let customer_key = match (&file.customer_key_id, &file.customer_key_file) {
            (Some(id), Some(key)) => Some((id.value.0.clone(), key.value.0.as_str().into())),
            (None, None) => None,
            (Some(one), None) | (None, Some(one)) => {
                let message = "\"customer_key_id\" and \"customer_key_file\" belong together";
                self.fault(one.place, Problem::new(message, "add the other key"));
                None
            }
        };
        if let Some(directory) = file.directory.as_ref().filter(|url| !url.value.0.starts_with("https://")) {
            let help = "write an address such as \"https://acme-v02.api.letsencrypt.org/directory\"";
            self.fault(directory.place, Problem::new("\"directory\" is not an address of https", help));
        }
        let has_hook = file.dns_hook.is_some() || file.place_of("dns_hook").is_some();
        let wildcard = listeners.iter().filter_map(|listener| listener.tls.as_ref()).flat_map(|tls| &tls.auto);
        let wildcard = wildcard.into_iter().find(|name| name.starts_with("*.") && !is_local_name(name));
        if !has_hook && (file.challenge == ChallengeWord::Dns || wildcard.is_some()) {
            let what = wildcard.map_or_else(|| "dns-01".to_owned(), |name| format!("a certificate for {name}"));
            let message = format!("{what} needs a program that sets records in DNS");
            self.fault(typed.place, Problem::new(message, "add \"dns_hook\": \"/path/of/the/program\""));
        }
        AcmeConfig {
            directory: text(&file.directory),
            email: text(&file.email),
            ca: text(&file.ca).map(Into::into),
            profile: text(&file.profile),
            challenge: match file.challenge {
                ChallengeWord::Auto => AcmeChallenge::Auto,
                ChallengeWord::Http => AcmeChallenge::Http,
                ChallengeWord::Tls => AcmeChallenge::Tls,
                ChallengeWord::Dns => AcmeChallenge::Dns,
            },
            dns_hook: text(&file.dns_hook).map(Into::into),
            customer_key,
        }
    }

    /// The port to which a listener redirects: that of the only listener with TLS, otherwise the port of https.
    pub(super) fn set_https_ports(&mut self, listeners: &mut [ListenerConfig], redirecting: &[(usize, Place)]) {
        let mut ports = listeners.iter().filter(|listener| listener.tls.is_some()).map(|listener| listener.at.port);
        let port = match (ports.next(), ports.next()) {
            (Some(port), None) if port != 0 => port,
            _ => HTTPS_PORT,
        };
        for (index, place) in redirecting {
            let listener = &mut listeners[*index];
            if listener.tls.is_some() {
                let message = format!("the listener {} has TLS, and cannot redirect to https", listener.name);
                self.fault(*place, Problem::new(message, "remove \"redirect_to_https\""));
            }
            listener.https_port = Some(port);
        }
    }
}

/// Whether LoadX's local authority signs certificates for a name, and not a public authority: an IP address, or a name that
/// ends in localhost or internal (RFC 6761, section 6.3). The name is in lower case, an IPv6 address without brackets.
pub fn is_local_name(name: &str) -> bool {
    const ENDINGS: [&str; 2] = ["localhost", "internal"];
    name.parse::<std::net::IpAddr>().is_ok()
        || ENDINGS.iter().any(|end| name == *end || name.strip_suffix(end).is_some_and(|rest| rest.ends_with('.')))
}

fn files(certificate: &At<Text>, key: Option<&At<Text>>) -> CertificateFiles {
    let (certificate, key) = (&certificate.value.0, key.map_or(&certificate.value.0, |key| &key.value.0));
    CertificateFiles { certificate: certificate.as_str().into(), key: key.as_str().into() }
}
