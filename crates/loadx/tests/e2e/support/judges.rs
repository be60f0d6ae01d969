//! Programs that judge LoadX, and that nobody here wrote.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Whether the program can be started; a variable may name the program.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let named = std::env::var_os(program.to_ascii_uppercase()).map(PathBuf::from);
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = named
        .or_else(|| std::env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| path.is_file()));
    if found.is_none() {
        assert!(std::env::var_os("LOADX_JUDGES").is_none(), "{program} is not installed");
        eprintln!("skipped: {program} is not installed");
    }
    found
}

pub(crate) fn output(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
