//! Reading a config file, and reporting its faults.

use std::io;
use std::path::Path;

use loadx_core::config::{self, Config, Faults};

use crate::trouble::Trouble;
use crate::words::count;

/// The config in the file at `path`, for a command that has the option --config.
pub(crate) fn load(path: &Path) -> Result<Config, Trouble> {
    load_or_advise(path, "name the file with --config FILE")
}

/// The config in the file at `path`. `missing` is the help when the file does not exist; it depends on how the command
/// takes the name of the file.
pub(crate) fn load_or_advise(path: &Path, missing: &str) -> Result<Config, Trouble> {
    parse(&read(path, missing)?, &path.display().to_string())
}

/// The config of a text. `name` is the name of the text in messages. Variables of the environment get their values.
pub(crate) fn parse(text: &str, name: &str) -> Result<Config, Trouble> {
    config::parse_with(text, &|name| std::env::var(name).ok()).map_err(|faults| Trouble::Input(describe(&faults, name)))
}

/// The text of the file at `path`. `missing` is the help when the file does not exist.
pub(crate) fn read(path: &Path, missing: &str) -> Result<String, Trouble> {
    let shown = path.display();
    std::fs::read(path)
        .map_err(|error| {
            let help = match error.kind() {
                io::ErrorKind::NotFound => missing,
                io::ErrorKind::PermissionDenied => "allow this user to read the file",
                _ => "the config must be a file",
            };
            Trouble::Input(format!("cannot read {shown}: {}\n  help: {help}", plain(&error)))
        })
        .and_then(|bytes| {
            String::from_utf8(bytes).map_err(|error| {
                let at = error.utf8_error().valid_up_to();
                Trouble::Input(format!("{shown}: not UTF-8 text from byte {at} on\n  help: save the file as UTF-8"))
            })
        })
}

/// The text of a file that is read while LoadX runs. Reading a pipe could wait for ever, and nothing else could change
/// meanwhile.
///
/// # Errors
/// When the file is no regular file, or cannot be read.
pub(crate) fn read_regular(path: &Path) -> io::Result<String> {
    if !std::fs::metadata(path)?.is_file() {
        let told = "is not a regular file, and LoadX reads only regular files again";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, told));
    }
    std::fs::read_to_string(path)
}

/// The text of a system error without its number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// All faults of a config, each with its place, and the number of faults.
fn describe(faults: &Faults, name: &str) -> String {
    let each: Vec<String> = faults.iter().map(|fault| fault.display(name).to_string()).collect();
    format!("{name} has {}\n\n{}", count(faults.len(), "fault"), each.join("\n\n"))
}
