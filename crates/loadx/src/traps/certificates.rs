//! Certificates that clients will not accept, and files that cannot be used.

use std::time::{Duration, SystemTime};

use loadx_core::config::{CertificateFiles, Config, is_local_name};
use loadx_proxy::Identity;

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
    files.chain(single).collect()
}

/// LoadX may run on another machine than the check, so that a missing file is only a warning.
fn of_files(files: &CertificateFiles) -> Option<Trap> {
    let name = files.certificate.display();
    let identity = match Identity::read(&files.certificate, &files.key) {
        Ok(identity) => identity,
        Err(error) => {
            let help = "LoadX does not start without the certificate";
            return Some(Trap::warning(format!("the certificate {name} cannot be used: {error}"), help));
        }
    };
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
