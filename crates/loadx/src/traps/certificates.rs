//! Certificates that clients will not accept, and files that cannot be used.

use std::time::{Duration, SystemTime};

use loadx_core::config::{CertificateFiles, Config, TlsConfig, is_local_name};
use loadx_proxy::{FileFaults, Identity, faults_of_files};

use super::Trap;

/// The time before the end of a certificate at which LoadX begins to warn.
const SOON: Duration = Duration::from_secs(7 * 86_400);

pub(super) fn traps(config: &Config) -> Vec<Trap> {
    let tls = config.listeners.iter().filter_map(|listener| listener.tls.as_ref());
    let files = tls.clone().flat_map(|tls| &tls.certificates).filter_map(of_files);
    let public = tls.flat_map(|tls| &tls.auto).find(|name| !is_local_name(name) && !name.contains('.'));
    let single = public.map(|name| {
        let help = format!("write the whole name, or {name}.internal for a certificate of the local authority");
        Trap::warning(format!("no public authority signs a certificate for \"{name}\", which has no dot"), help)
    });
    // LoadX may run on another machine than the check, so that a missing file is only a warning.
    let FileFaults { unusable, lists } = faults_of_files(config);
    let unusable = unusable
        .into_iter()
        .map(|fault| Trap::warning(fault, "LoadX does not start with this file, and a reload refuses the config"));
    let lists =
        lists.into_iter().map(|fault| Trap::warning(fault, "add the newest list of the authority to \"revoked\""));
    let folder =
        config.certificate_folder.as_ref().filter(|folder| folder.exists() && !folder.is_dir()).map(|folder| {
            let message = format!("\"certificate_folder\" is not a folder: {}", folder.display());
            Trap::warning(message, "name a folder that LoadX may make or use")
        });
    let unserved = config.listeners.iter().filter_map(|listener| listener.tls.as_ref()).flat_map(unserved);
    files.chain(unserved).chain(unusable).chain(lists).chain(folder).chain(single).collect()
}

/// The hosts of rules for certificates of clients that no certificate of the listener has: a name with a mistake in a letter
/// would protect nothing.
fn unserved(tls: &TlsConfig) -> Vec<Trap> {
    if tls.clients.is_uniform() {
        return Vec::new();
    }
    let of_files = tls.certificates.iter().filter_map(|files| Identity::read(&files.certificate, &files.key).ok());
    let of_files: Vec<Box<str>> = of_files.flat_map(|identity| identity.names().to_vec()).collect();
    let names: Vec<&str> = tls.auto.iter().map(|name| &**name).chain(of_files.iter().map(|name| &**name)).collect();
    if names.is_empty() {
        // The files cannot be read here, which is a trap of its own.
        return Vec::new();
    }
    let serves = |host: &str| {
        names.iter().any(|name| match (host.strip_prefix("*."), name.strip_prefix("*.")) {
            (Some(parent), None) => name.split_once('.').is_some_and(|(_, above)| is_below(above, parent)),
            (Some(parent), Some(above)) => is_below(above, parent),
            (None, Some(above)) => host.split_once('.').is_some_and(|(_, rest)| rest == above),
            (None, None) => host == *name,
        })
    };
    let unserved = tls.clients.of_hosts().map(|(host, _)| host).filter(|host| !serves(host));
    let trap = |host: String| {
        let message = format!("\"client_certificates\" names {host}, but no certificate of the listener has this name");
        Trap::warning(message, "look for a mistake in the name: the rule protects no other host")
    };
    unserved.map(trap).collect()
}

/// Whether a name is `parent` or lies below.
fn is_below(name: &str, parent: &str) -> bool {
    name.strip_suffix(parent).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// A certificate whose time is over, or soon over.
fn of_files(files: &CertificateFiles) -> Option<Trap> {
    let name = files.certificate.display();
    // A certificate that cannot be used is a fault of its listener.
    let identity = Identity::read(&files.certificate, &files.key).ok()?;
    let now = SystemTime::now();
    if let Some(fault) = identity.fault_at(now) {
        return Some(Trap::warning(
            format!("{name}: {fault}"),
            "put a valid certificate there; clients refuse this one",
        ));
    }
    let left = identity.not_after().duration_since(now).unwrap_or_default();
    (left < SOON).then(|| {
        let message = format!("{name}: the certificate ends to be valid in {} h", left.as_secs() / 3_600);
        Trap::warning(message, "replace the certificate; LoadX sees that the files change")
    })
}
