//! The TLS settings of a listener.

use super::words::{list, quote};
use super::{Settings, settings};
use crate::config::{CertificateFiles, ClientRule, ClientRules, TlsConfig, TlsProfile};

pub(super) fn settings_of(tls: &TlsConfig) -> Settings {
    let files = |files: &CertificateFiles| {
        format!("{} with {}", quote(&files.certificate.display().to_string()), quote(&files.key.display().to_string()))
    };
    settings([
        ("tls", "yes".to_owned()),
        ("certificates", list(tls.certificates.iter().map(files), "none")),
        ("auto", list(tls.auto.iter().map(|name| quote(name)), "none")),
        ("profile", if tls.profile == TlsProfile::Modern { "modern" } else { "intermediate" }.to_owned()),
        ("unknown_names", if tls.refuses_unknown { "refuse" } else { "default" }.to_owned()),
        ("client_certificates", clients(&tls.clients)),
        ("hsts", tls.hsts.map_or_else(|| "no".to_owned(), |seconds| format!("{seconds} s"))),
    ])
}

/// The rules for the certificates of clients: that of all hosts, then those of hosts with rules of their own.
fn clients(rules: &ClientRules) -> String {
    let named = rules.named.iter().map(|(name, clients)| format!("{}: {}", quote(name), rule(clients)));
    std::iter::once(rule(&rules.others)).chain(named).collect::<Vec<_>>().join("; ")
}

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
