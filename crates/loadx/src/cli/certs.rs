//! `loadx certs`: the certificates that LoadX gets itself.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use clap::{Args, Subcommand, ValueEnum};
use loadx_certs::{Acme, Bundle, LocalAuthority, RevocationReason, Store};
use loadx_core::config::{Config, is_local_name};
use loadx_proxy::{Identity, IdentityError};

use crate::certificates::Place;
use crate::config_file;
use crate::trouble::{self, Trouble};

/// The options of `loadx certs`.
#[derive(Debug, Args)]
pub(super) struct CertsArguments {
    /// The config file, which names the folder and the authority [default: config.json if there is one, otherwise what
    /// `loadx run --https` uses]
    #[arg(long, short, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<CertsCommand>,
}

#[derive(Debug, Subcommand)]
enum CertsCommand {
    /// List the certificates: their names, their authority, and until when they are valid (the default)
    List {
        /// Print JSON for programs
        #[arg(long)]
        json: bool,
    },
    /// Have the running LoadX get another certificate for a name, within 10 s, also while LoadX waits after a failure
    Renew {
        /// The name
        name: String,
    },
    /// Put a certificate of your own in the place of the one that LoadX would get; the running LoadX uses it within 10 s,
    /// and renews it in time
    Import {
        /// The name
        name: String,
        /// The file with the certificate in the PEM format, followed by the certificates of its issuers
        #[arg(long, value_name = "FILE")]
        certificate: PathBuf,
        /// The file with the private key in the PEM format [default: the file of the certificate]
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
    },
    /// Have the authority declare a certificate invalid, for instance because others know its key; the running LoadX gets
    /// another certificate with a new key within 10 s, unless the config no longer has the name
    Revoke {
        /// The name
        name: String,
        /// Why
        #[arg(long, value_enum, default_value_t)]
        reason: Reason,
    },
    /// Print a certificate with those of its issuers in the PEM format
    Export {
        /// The name
        name: String,
        /// Print the private key, too
        #[arg(long)]
        with_key: bool,
    },
}

/// Why a certificate is revoked (RFC 5280, section 5.3.1).
#[derive(Copy, Clone, Debug, Default, ValueEnum)]
enum Reason {
    /// None of the others
    #[default]
    Unspecified,
    /// Somebody else may know the private key
    KeyCompromise,
    /// Another certificate is in use
    Superseded,
    /// The name is no longer in use
    CessationOfOperation,
}

impl From<Reason> for RevocationReason {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Unspecified => RevocationReason::Unspecified,
            Reason::KeyCompromise => RevocationReason::KeyCompromise,
            Reason::Superseded => RevocationReason::Superseded,
            Reason::CessationOfOperation => RevocationReason::CessationOfOperation,
        }
    }
}

pub(super) fn certs(arguments: &CertsArguments) -> Result<ExitCode, Trouble> {
    let config = arguments.config()?;
    let place = Place::of(config.as_ref()).ok_or_else(|| {
        let help = "name a config file that has \"certificate_folder\" with --config";
        Trouble::Input(format!("there is no state directory\n  help: {help}"))
    })?;
    let store = Store::open(&place.folder)?;
    let plain = |name: &str| name.trim_end_matches('.').to_ascii_lowercase();
    match arguments.command.as_ref().unwrap_or(&CertsCommand::List { json: false }) {
        CertsCommand::List { json } => list(&store, *json)?,
        CertsCommand::Renew { name } => {
            let name = &plain(name);
            if !is_wanted(config.as_ref(), name) {
                find(&store, &place, name)?;
            }
            store.ask_renewal(name)?;
            trouble::print(&format!("the running LoadX gets another certificate for {name} within 10 s\n"))?;
        }
        CertsCommand::Import { name, certificate, key } => {
            let name = &plain(name);
            if is_local_name(name) {
                let message = format!("LoadX's own authority signs for {name}");
                let help =
                    "name the files of your certificate with \"certificate\" and \"key\" in \"tls\" of the listener";
                return Err(Trouble::Input(format!("{message}\n  help: {help}")));
            }
            let bundle = read(name, certificate, key.as_deref().unwrap_or(certificate))?;
            let kind = place.kind_of(name);
            store.save(&kind, name, &bundle)?;
            store.note_failures(&kind, name, None)?;
            trouble::print(&format!("the running LoadX uses the certificate for {name} within 10 s\n"))?;
        }
        CertsCommand::Revoke { name, reason } => revoke(&store, &place, config.as_ref(), &plain(name), *reason)?,
        CertsCommand::Export { name, with_key } => {
            let bundle = find(&store, &place, &plain(name))?;
            trouble::print(if *with_key { bundle.text() } else { bundle.chain() })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl CertsArguments {
    fn config(&self) -> Result<Option<Config>, Trouble> {
        let file = self.config.clone().or_else(|| Some(PathBuf::from("config.json")).filter(|file| file.is_file()));
        file.map(|file| config_file::load_or_advise(&file, "name the config file with --config")).transpose()
    }
}

/// Whether LoadX gets a certificate for the name with this config.
fn is_wanted(config: Option<&Config>, name: &str) -> bool {
    let mut listeners = config.into_iter().flat_map(|config| &config.listeners);
    listeners.any(|listener| listener.tls.as_ref().is_some_and(|tls| tls.auto.iter().any(|wanted| **wanted == *name)))
}

fn revoke(store: &Store, place: &Place, config: Option<&Config>, name: &str, reason: Reason) -> Result<(), Trouble> {
    let bundle = find(store, place, name)?;
    if is_local_name(name) {
        let message = format!("LoadX's own authority signs for {name}, and keeps no list of revoked certificates");
        let help = format!("`loadx certs renew {name}` gets a certificate with a new key");
        return Err(Trouble::Input(format!("{message}\n  help: {help}")));
    }
    if !Acme::has_account(&place.acme, store) {
        let message = format!("{} has no account at the authority", store.folder().display());
        let help = "only the account that got the certificate may revoke the certificate: ask the authority";
        return Err(Trouble::Input(format!("{message}\n  help: {help}")));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Trouble::Failure(format!("cannot start: {error}")))?;
    let revocation = async { Acme::open(&place.acme, store).await?.revoke(&bundle, reason.into()).await };
    runtime.block_on(revocation).map_err(|error| {
        let help = "the authority must be reachable, and only the account that got a certificate can revoke the \
                    certificate: for a certificate that you imported, ask its authority";
        Trouble::Failure(format!("{error}\n  help: {help}"))
    })?;
    // Without a config file, the running LoadX knows which names it serves.
    let then = if config.is_none() || is_wanted(config, name) {
        store.ask_renewal(name)?;
        "the running LoadX gets another one within 10 s"
    } else {
        store.remove(&place.kind_of(name), name)?;
        "its file is removed, because no listener has the name in \"auto\""
    };
    trouble::print(&format!("the certificate for {name} is revoked; {then}\n"))
}

/// The certificate for a name.
fn find(store: &Store, place: &Place, name: &str) -> Result<Bundle, Trouble> {
    store.load(&place.kind_of(name), name)?.ok_or_else(|| {
        let message = format!("there is no certificate for {name} in {}", store.folder().display());
        Trouble::Input(format!("{message}\n  help: loadx certs list names the certificates"))
    })
}

/// A certificate of files, if clients would accept the certificate for the name.
fn read(name: &str, certificate: &Path, key: &Path) -> Result<Bundle, Trouble> {
    let fault = |reason: String| Trouble::Input(format!("{}: {reason}", certificate.display()));
    let identity = Identity::read(certificate, key).map_err(|error| match error {
        // The text names the file.
        IdentityError::File(..) => Trouble::Input(error.to_string()),
        error => fault(error.to_string()),
    })?;
    if let Some(reason) = identity.fault_at(SystemTime::now()) {
        return Err(fault(reason));
    }
    if !identity.names().iter().any(|known| **known == *name) {
        return Err(fault(format!("the certificate is not for {name}, but for {}", identity.names().join(", "))));
    }
    let text = |path: &Path| std::fs::read_to_string(path).map_err(|error| fault(error.to_string()));
    let (chain, key) = (text(certificate)?, text(key)?);
    Bundle::of(&chain, &key).map_err(fault)
}

fn list(store: &Store, json: bool) -> Result<(), Trouble> {
    let mut rows = Vec::new();
    let mut entries = Vec::new();
    for kind in store.kinds()? {
        for path in store.list(&kind)? {
            // The authority itself is a certificate that no client gets.
            if kind == LocalAuthority::KIND && path.file_stem().is_some_and(|name| name == LocalAuthority::NAME) {
                continue;
            }
            let identity = Identity::read(&path, &path);
            match identity {
                Ok(identity) => {
                    let left = identity.not_after().duration_since(SystemTime::now()).unwrap_or_default();
                    let names = identity.names().join(", ");
                    let days = left.as_secs() / 86_400;
                    let until = jiff::Timestamp::try_from(identity.not_after()).map(|time| time.to_string());
                    entries.push(serde_json::json!({
                        "names": identity.names(), "issuer": identity.issuer(), "valid_until": until.ok(),
                        "seconds_left": left.as_secs(), "file": path,
                    }));
                    rows.push([names, format!("{days} days"), identity.issuer().to_owned()]);
                }
                Err(error) => {
                    entries.push(serde_json::json!({ "file": path, "problem": error.to_string() }));
                    rows.push([path.display().to_string(), "unusable".to_owned(), error.to_string()]);
                }
            }
        }
    }
    if json {
        return trouble::print(&format!("{:#}\n", serde_json::Value::from(entries)));
    }
    if rows.is_empty() {
        return trouble::print(&format!("there is no certificate in {} yet\n", store.folder().display()));
    }
    let width = rows.iter().map(|[names, ..]| names.chars().count()).max().unwrap_or(0).max("NAMES".len());
    let mut table = format!("{:width$}  {:9}  ISSUER\n", "NAMES", "VALID FOR");
    for [names, left, issuer] in rows {
        table.push_str(&format!("{names:width$}  {left:9}  {issuer}\n"));
    }
    trouble::print(&table)
}
