//! The files that `loadx bench` reads and writes.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use loadx_load::Report;

use tempfile::NamedTempFile;

use crate::trouble::{Trouble, print};

/// The results that an earlier run wrote.
pub(super) fn read_results(path: &Path) -> Result<Report, Trouble> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        Trouble::Input(format!("cannot read {shown}: {error}\n  help: --compare takes a file that --output wrote"))
    })?;
    let read: Result<Report, _> = serde_json::from_str(&text);
    if let Some(newer) = read.as_ref().ok().filter(|report| report.version > 1) {
        return Err(Trouble::Input(format!(
            "{shown} has results of version {}, which this LoadX does not know\n  help: compare with the LoadX that wrote the file",
            newer.version
        )));
    }
    read.map_err(|error| {
        Trouble::Input(format!(
            "{shown} contains no results: {error}\n  help: --compare takes a file that --output wrote"
        ))
    })
}

/// A file for results. The file appears, or is replaced, only when the results are there.
pub(super) struct Output {
    path: PathBuf,
    /// Where the results are written first; `None` for what is no regular file, such as a pipe.
    draft: Option<NamedTempFile>,
}

impl Output {
    /// Looks whether the file can be written.
    pub(super) fn open(path: PathBuf) -> Result<Self, Trouble> {
        let is_special = path.metadata().is_ok_and(|known| !known.is_file());
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let draft = if is_special {
            std::fs::OpenOptions::new().write(true).open(&path).map(|_| None)
        } else {
            tempfile::Builder::new().permissions(Permissions::from_mode(0o644)).tempfile_in(folder).map(Some)
        };
        match draft {
            Ok(draft) => Ok(Output { path, draft }),
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
        let written = match self.draft.take() {
            None => std::fs::write(&self.path, text),
            Some(mut draft) => draft
                .write_all(text.as_bytes())
                .and_then(|()| draft.persist(&self.path).map(drop).map_err(|error| error.error)),
        };
        written.map_err(|error| Trouble::Failure(format!("cannot write {shown}: {error}")))?;
        let are = if what == "results" { "are" } else { "is" };
        print(&format!("{what} {are} in {shown}\n"))
    }
}
