//! The TLS settings of a listener.

use super::words::{list, quote};
use super::{Settings, settings};
use crate::config::{CertificateFiles, ClientRule, TlsConfig, TlsProfile};

pub(super) fn settings_of(tls: &TlsConfig) -> Settings {
    let files = |files: &CertificateFiles| {
        format!("{} with {}", quote(&files.certificate.display().to_string()), quote(&files.key.display().to_string()))
    };
    let mut all = settings([
        ("tls", "yes".to_owned()),
        ("certificates", list(tls.certificates.iter().map(files), "none")),
        ("auto", list(tls.auto.iter().map(|name| quote(name)), "none")),
        ("profile", if tls.profile == TlsProfile::Modern { "modern" } else { "intermediate" }.to_owned()),
        ("unknown_names", if tls.refuses_unknown { "refuse" } else { "default" }.to_owned()),
        (CLIENT_CERTIFICATES, rule(&tls.clients.others)),
        ("hsts", tls.hsts.map_or_else(|| "no".to_owned(), |seconds| format!("{seconds} s"))),
    ]);
    // A setting for each host, so that a plan shows only the rules that differ.
    let of_hosts = tls.clients.of_hosts();
    all.extend(of_hosts.map(|(host, clients)| (format!("{CLIENT_CERTIFICATES} of {}", quote(&host)), rule(clients))));
    all
}

/// The settings of a listener without TLS.
pub(super) fn settings_without() -> Settings {
    settings([("tls", "no".to_owned()), (CLIENT_CERTIFICATES, rule(&None))])
}

/// The beginning of the names of the settings with the rules for certificates of clients.
pub(super) const CLIENT_CERTIFICATES: &str = "client_certificates";

fn rule(rule: &ClientRule) -> String {
    let Some(clients) = rule else { return "none".to_owned() };
    let revoked = clients.revoked.iter().map(|path| quote(&path.display().to_string()));
    format!(
        "{}, of {}, revoked by {}",
        if clients.required { "required" } else { "optional" },
        quote(&clients.ca.display().to_string()),
        list(revoked, "nothing")
    )
}
