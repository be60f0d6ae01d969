//! `loadx explain-tls`: which certificate a client would get, and what the backends show.

use std::fmt::Write as _;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use loadx_certs::Store;
use loadx_core::config::{Config, ListenerConfig, TlsConfig, TlsProfile, is_local_name};
use loadx_proxy::{Identity, Keyring, Reason, Summary, explain_backend, explain_listener};

use crate::certificates::Place;
use crate::config_file;
use crate::trouble::{Trouble, print};

/// The options of `loadx explain-tls`.
#[derive(Debug, Args)]
pub(super) struct ExplainTlsArguments {
    /// The host that a client asks for, or the address to which the client connects; HOST:PORT looks only at listeners with
    /// this port
    #[arg(value_name = "HOST[:PORT]", required_unless_present = "backends")]
    host: Option<String>,
    /// The config file
    #[arg(long, short, value_name = "FILE", default_value = "config.json")]
    config: PathBuf,
    /// Connect to the backends with TLS, and show what they show
    #[arg(long)]
    backends: bool,
}

/// The longest time of a handshake with a backend.
const BACKEND_LIMIT: Duration = Duration::from_secs(5);

pub(super) fn explain_tls(arguments: &ExplainTlsArguments) -> Result<ExitCode, Trouble> {
    let config = config_file::load_or_advise(&arguments.config, "name the config file with --config")?;
    let mut text = String::new();
    let mut is_well = true;
    if let Some(host) = &arguments.host {
        is_well &= listeners(&config, host, &mut text)?;
    }
    if arguments.backends {
        is_well &= backends(&config, &mut text);
    }
    print(&text)?;
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Explains the listeners. Returns whether a client gets a certificate for the host everywhere.
fn listeners(config: &Config, typed: &str, text: &mut String) -> Result<bool, Trouble> {
    let (host, port) = split(typed);
    let with_tls: Vec<(&ListenerConfig, &TlsConfig)> = config
        .listeners
        .iter()
        .filter(|listener| port.is_none_or(|port| listener.at.port == port))
        .filter_map(|listener| Some((listener, listener.tls.as_ref()?)))
        .collect();
    if with_tls.is_empty() {
        let at = port.map_or_else(String::new, |port| format!(" on port {port}"));
        return Err(Trouble::Input(format!(
            "no listener{at} has TLS\n  help: add \"tls\" to a listener; docs/https.md shows how"
        )));
    }
    let keyring = keyring(config);
    let local: Option<IpAddr> = host.parse().ok();
    // A client that connects to an IP address asks for no name (RFC 6066, section 3).
    let name = local.is_none().then(|| host.trim_end_matches('.').to_ascii_lowercase());
    let mut is_well = true;
    for (listener, tls) in with_tls {
        let explained = explain_listener(tls, &keyring, name.as_deref(), local);
        let (identity, reason) = explained.map_err(|error| Trouble::Failure(error.to_string()))?;
        let versions = if tls.profile == TlsProfile::Modern { "TLS 1.3" } else { "TLS 1.2 and 1.3" };
        let at = listener.at.to_string();
        let named = if *listener.name == *at { at } else { format!("{} ({at})", listener.name) };
        let _ = writeln!(text, "listener {named}, {versions}");
        is_well &= matches!(reason, Reason::File | Reason::Automatic);
        let _ = writeln!(text, "  {}", sentence(&host, &reason, identity.as_deref()));
        for (number, summary) in identity.iter().flat_map(|identity| identity.summaries()).enumerate() {
            certificate(number, &summary, text);
        }
        if let Some(fault) = identity.and_then(|identity| identity.fault_at(std::time::SystemTime::now())) {
            let _ = writeln!(text, "  clients refuse it: {fault}");
            is_well = false;
        }
        let rule = name.as_deref().map_or(&tls.clients.others, |name| tls.clients.of(name));
        match rule {
            Some(clients) => {
                let must = if clients.required { "must" } else { "may" };
                let revoked = clients.revoked.iter().map(|list| format!(", not revoked by {}", list.display()));
                let revoked: String = revoked.collect();
                let _ = writeln!(text, "  clients {must} show a certificate of {}{revoked}", clients.ca.display());
            }
            None if !tls.clients.is_uniform() => {
                let _ = writeln!(text, "  clients need no certificate for this host");
            }
            None => {}
        }
    }
    Ok(is_well)
}

fn sentence(host: &str, reason: &Reason, identity: Option<&Identity>) -> String {
    match reason {
        Reason::File => format!("{host} gets a certificate of a file, because the certificate has the name"),
        Reason::Automatic if is_local_name(host) => {
            format!("{host} gets the certificate that LoadX's local authority signed")
        }
        Reason::Automatic => format!("{host} gets the certificate that LoadX got of its authority"),
        Reason::Missing => {
            format!("{host} gets the alert unrecognized_name: LoadX has no certificate for the name yet")
        }
        Reason::Refused => {
            format!("{host} gets the alert unrecognized_name: no certificate has the name (unknown_names)")
        }
        Reason::First if identity.is_some() => {
            format!("{host} gets the first certificate, because no certificate has the name: clients will refuse it")
        }
        Reason::First => format!("{host} gets no certificate: there is none yet"),
    }
}

fn certificate(number: usize, summary: &Summary, text: &mut String) {
    if number == 0 {
        let _ = writeln!(text, "    for          {}", summary.names.join(", "));
        let _ = writeln!(text, "    valid until  {}", summary.valid_until);
        let _ = writeln!(text, "    issued by    {}", summary.issuer);
    } else {
        let _ = writeln!(text, "    then         {}, valid until {}", summary.subject, summary.valid_until);
    }
}

/// The certificates that LoadX got itself, as the store has them.
fn keyring(config: &Config) -> Arc<Keyring> {
    let keyring = Arc::<Keyring>::default();
    let Some(place) = Place::of(Some(config)).filter(|place| place.folder.is_dir()) else { return keyring };
    let Ok(store) = Store::open(&place.folder) else { return keyring };
    let names = config.listeners.iter().filter_map(|listener| listener.tls.as_ref()).flat_map(|tls| &tls.auto);
    let found = names.filter_map(|name| {
        let bundle = store.load(&place.kind_of(name), name).ok()??;
        Identity::from_pem(bundle.text().as_bytes(), bundle.text().as_bytes()).ok().map(Arc::new)
    });
    keyring.replace(found.collect());
    keyring
}

/// Makes a handshake with each backend. Returns whether LoadX trusts all of them.
fn backends(config: &Config, text: &mut String) -> bool {
    let mut is_well = true;
    let mut count = 0;
    for (cluster, backend) in config.backends() {
        let Some(tls) = &cluster.transport.tls else { continue };
        count += 1;
        let _ = writeln!(text, "backend {} of {}", backend.name, cluster.name);
        let host = backend.host.trim_start_matches('[').trim_end_matches(']');
        let addresses = (host, backend.port).to_socket_addrs();
        let shown = addresses.and_then(|mut addresses| {
            let address = addresses.next().ok_or_else(|| std::io::Error::other("its name has no address"))?;
            explain_backend((tls, cluster.transport.protocol), &backend.tls_name, address, BACKEND_LIMIT)
        });
        match shown {
            Ok(shown) => {
                let trust = if tls.insecure { "not verified (insecure)" } else { "verified" };
                let _ = writeln!(text, "  {}, {}, {trust}", shown.version, shown.cipher);
                shown.chain.iter().enumerate().for_each(|(number, summary)| certificate(number, summary, text));
            }
            Err(error) => {
                is_well = false;
                let _ = writeln!(text, "  LoadX sends no request there: {error}");
            }
        }
    }
    if count == 0 {
        let _ = writeln!(text, "no cluster has \"tls\"");
    }
    is_well
}

/// Host and port.
fn split(typed: &str) -> (String, Option<u16>) {
    if let Some((host, rest)) = typed.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (host.to_owned(), rest.strip_prefix(':').and_then(|port| port.parse().ok()));
    }
    match typed.rsplit_once(':').filter(|(host, _)| !host.contains(':')) {
        Some((host, port)) if port.parse::<u16>().is_ok() => (host.to_owned(), port.parse().ok()),
        _ => (typed.to_owned(), None),
    }
}
