//! The files that `loadx bench` reads and writes.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use loadx_load::Report;

use crate::trouble::{Trouble, print};

/// The results that an earlier run wrote.
pub(super) fn read_results(path: &Path) -> Result<Report, Trouble> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        Trouble::Input(format!("cannot read {shown}: {error}\n  help: --compare takes a file that --output wrote"))
    })?;
    serde_json::from_str(&text).map_err(|error| {
        Trouble::Input(format!(
            "{shown} contains no results: {error}\n  help: --compare takes a file that --output wrote"
        ))
    })
}

/// A file for results.
pub(super) struct Output {
    file: File,
    path: PathBuf,
}

impl Output {
    pub(super) fn open(path: PathBuf) -> Result<Self, Trouble> {
        match File::create(&path) {
            Ok(file) => Ok(Output { file, path }),
            Err(error) => Err(Trouble::Input(format!("cannot write {}: {error}", path.display()))),
        }
    }

    pub(super) fn write_results(self, report: &Report) -> Result<(), Trouble> {
        let text = serde_json::to_string_pretty(report);
        let text = text.map_err(|error| Trouble::Failure(format!("cannot write the results: {error}")))?;
        self.write(&text, "results")
    }

    /// Writes `text`; `what` names the text for people.
    pub(super) fn write(mut self, text: &str, what: &str) -> Result<(), Trouble> {
        let shown = self.path.display();
        let written = self.file.write_all(text.as_bytes());
        written.map_err(|error| Trouble::Failure(format!("cannot write {shown}: {error}")))?;
        let are = if what == "results" { "are" } else { "is" };
        print(&format!("{what} {are} in {shown}\n"))
    }
}
