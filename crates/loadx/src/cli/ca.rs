//! `loadx ca`: the local authority.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::{Args, Subcommand};
use loadx_certs::{LocalAuthority, Store};

use crate::manager;
use crate::trouble::{self, Trouble};

/// The options of `loadx ca`.
#[derive(Debug, Args)]
pub(super) struct CaArguments {
    /// The folder with the certificates that LoadX gets itself [default: the folder certs in the state directory]
    #[arg(long, value_name = "FOLDER", global = true)]
    folder: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<CaCommand>,
}

#[derive(Debug, Subcommand)]
enum CaCommand {
    /// Print where the authority is, until when it is valid, and how to trust it (the default)
    Show,
    /// Print the certificate of the authority in the PEM format, or write it to a file
    Export {
        /// The file; - means standard output
        #[arg(default_value = "-")]
        file: PathBuf,
    },
    /// Have this machine and its browsers trust the authority; asks first
    Install {
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

pub(super) fn ca(arguments: &CaArguments) -> Result<ExitCode, Trouble> {
    let folder = match &arguments.folder {
        Some(folder) => folder.clone(),
        None => manager::state_directory()
            .ok_or_else(|| Trouble::Input("there is no state directory; name the folder with --folder".to_owned()))?
            .join("certs"),
    };
    let store = Store::open(&folder)?;
    let authority = LocalAuthority::open(&store)?;
    match arguments.command.as_ref().unwrap_or(&CaCommand::Show) {
        CaCommand::Show => show(&store, &authority),
        CaCommand::Export { file } if file == Path::new("-") => trouble::print(authority.certificate())?,
        CaCommand::Export { file } => std::fs::write(file, authority.certificate())
            .map_err(|error| Trouble::Failure(format!("{} cannot be written: {error}", file.display())))?,
        CaCommand::Install { yes } => return install(&authority, *yes),
    }
    Ok(ExitCode::SUCCESS)
}

fn show(store: &Store, authority: &LocalAuthority) {
    let until = jiff::Timestamp::try_from(authority.not_after()).map(|time| time.strftime("%Y-%m-%d").to_string());
    println!("{}", authority.name());
    println!("  signs for    localhost, IP addresses, and names that end in .localhost or .internal");
    println!("  valid until  {}", until.unwrap_or_default());
    println!("  kept in      {}", store.folder().display());
    println!("  to trust the authority on this machine:  loadx ca install");
    println!("  to trust the authority on another one:   loadx ca export loadx-ca.pem, and import the file there");
}

/// A way to trust an authority.
struct Way {
    what: &'static str,
    file: Option<PathBuf>,
    command: Vec<String>,
}

/// The trust stores of this machine: of the system, and those that browsers have for themselves.
fn ways(name: &str, pem: &Path) -> Vec<Way> {
    let mut ways = Vec::new();
    for (folder, program, ending) in [
        ("/usr/local/share/ca-certificates", "update-ca-certificates", "crt"),
        ("/etc/pki/ca-trust/source/anchors", "update-ca-trust", "pem"),
        ("/etc/ca-certificates/trust-source/anchors", "trust", "crt"),
    ] {
        if Path::new(folder).is_dir() && ways.is_empty() {
            let command = if program == "trust" { vec!["trust", "extract-compat"] } else { vec![program] };
            ways.push(Way {
                what: "the system",
                file: Some(Path::new(folder).join(format!("{name}.{ending}"))),
                command: command.into_iter().map(str::to_owned).collect(),
            });
        }
    }
    if cfg!(target_os = "macos") {
        let keychain = "/Library/Keychains/System.keychain";
        let command = ["security", "add-trusted-cert", "-d", "-r", "trustRoot", "-k", keychain];
        let mut command: Vec<String> = command.into_iter().map(str::to_owned).collect();
        command.push(pem.display().to_string());
        ways.push(Way { what: "the system", file: None, command });
    }
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let nss = home.map(|home| home.join(".pki/nssdb")).filter(|folder| folder.is_dir());
    if let Some(folder) = nss {
        let database = format!("sql:{}", folder.display());
        let command = ["certutil", "-A", "-d", &database, "-n", name, "-t", "C,,", "-i", &pem.display().to_string()];
        let command = command.into_iter().map(str::to_owned).collect();
        ways.push(Way { what: "Chromium and other browsers with a database of NSS", file: None, command });
    }
    ways
}

fn install(authority: &LocalAuthority, yes: bool) -> Result<ExitCode, Trouble> {
    let pem = std::env::temp_dir().join(format!("loadx-ca-{}.pem", std::process::id()));
    let name = authority.name().to_ascii_lowercase().replace(' ', "-");
    let ways = ways(&name, &pem);
    if ways.is_empty() {
        let help = "export the certificate with loadx ca export, and import it by hand";
        return Err(Trouble::Failure(format!("LoadX knows no trust store of this machine\n  help: {help}")));
    }
    println!("Programs of this machine will accept every certificate that {} signs:", authority.name());
    println!("those for localhost, IP addresses, and names that end in .localhost or .internal.");
    for way in &ways {
        let file = way.file.as_ref().map_or_else(String::new, |file| format!("writes {}, and ", file.display()));
        println!("  for {}: {file}runs {}", way.what, way.command.join(" "));
    }
    if !yes && !agrees()? {
        println!("nothing was changed");
        return Ok(ExitCode::FAILURE);
    }
    std::fs::write(&pem, authority.certificate())
        .map_err(|error| Trouble::Failure(format!("{} cannot be written: {error}", pem.display())))?;
    let mut failed = false;
    for way in &ways {
        match carry_out(way, authority) {
            Ok(()) => println!("trusted by {}", way.what),
            Err(reason) => {
                failed = true;
                println!("not trusted by {}: {reason}", way.what);
            }
        }
    }
    let _ = std::fs::remove_file(&pem);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Asks on the terminal.
fn agrees() -> Result<bool, Trouble> {
    if !std::io::stdin().is_terminal() {
        return Err(Trouble::Input("there is no terminal to ask on; say --yes to agree".to_owned()));
    }
    print!("Go on? [y/N] ");
    let _ = std::io::stdout().flush();
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(|error| Trouble::Failure(error.to_string()))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn carry_out(way: &Way, authority: &LocalAuthority) -> Result<(), String> {
    if let Some(file) = &way.file {
        std::fs::write(file, authority.certificate()).map_err(|error| {
            let help =
                if error.kind() == std::io::ErrorKind::PermissionDenied { "; run the command as root" } else { "" };
            format!("{} cannot be written: {error}{help}", file.display())
        })?;
    }
    let (program, arguments) = way.command.split_first().ok_or("there is no command")?;
    let output = Command::new(program).args(arguments).output().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("the program {program} is not installed"),
        _ => format!("{program}: {error}"),
    })?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}
