//! A pseudo-terminal.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::process::Stdio;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::process::command;

/// The outputs of a command that are the terminal; the others are discarded.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Terminal {
    Both,
    OnlyStdout,
    OnlyStderr,
}

/// A pseudo-terminal: the side of the test, and the path of the other side.
fn open() -> (File, String) {
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let path = ptsname(&controller, Vec::new()).unwrap().into_string().unwrap();
    (File::from(controller), path)
}

/// A pseudo-terminal of this size: the side of the test, and the side of a command.
pub(crate) fn pair(columns: u16, rows: u16) -> (File, File) {
    let (controller, path) = open();
    let terminal = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&terminal, size).unwrap();
    (controller, terminal)
}

impl Terminal {
    /// Runs `loadx` with these arguments to its end, in a terminal with these additional variables. Returns the output
    /// on the terminal.
    pub(crate) fn run(self, variables: &[(&str, &str)], arguments: &[&str]) -> String {
        let (controller, path) = open();
        let terminal = || Stdio::from(OpenOptions::new().read(true).write(true).open(&path).unwrap());
        let mut command = command();
        command.args(arguments).env_remove("NO_COLOR").env("TERM", "xterm").envs(variables.iter().copied());
        command.stdout(if self == Terminal::OnlyStderr { Stdio::null() } else { terminal() });
        command.stderr(if self == Terminal::OnlyStdout { Stdio::null() } else { terminal() });
        let mut child = command.spawn().unwrap();
        // From now on only the child has the terminal open, so that the end of the child ends the terminal.
        drop(command);
        let mut got = Vec::new();
        // Linux reports the end of the terminal as an error.
        let _ = (&controller).read_to_end(&mut got);
        child.wait().unwrap();
        String::from_utf8(got).unwrap()
    }
}
