//! A terminal without a screen.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::process::Stdio;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::process::command;

/// Which of a command's outputs are the terminal; the other goes nowhere.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Terminal {
    Both,
    OnlyStdout,
    OnlyStderr,
}

impl Terminal {
    /// Runs `loadx` with these arguments to its end, in a usual terminal with these variables on top. Gives
    /// the output that the terminal got.
    pub(crate) fn run(self, variables: &[(&str, &str)], arguments: &[&str]) -> String {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let path = ptsname(&controller, Vec::new()).unwrap().into_string().unwrap();
        let terminal = || Stdio::from(OpenOptions::new().read(true).write(true).open(&path).unwrap());
        let mut command = command();
        command.args(arguments).env_remove("NO_COLOR").env("TERM", "xterm").envs(variables.iter().copied());
        command.stdout(if self == Terminal::OnlyStderr { Stdio::null() } else { terminal() });
        command.stderr(if self == Terminal::OnlyStdout { Stdio::null() } else { terminal() });
        let mut child = command.spawn().unwrap();
        // Only the child has the terminal open from here on, so that its end is the end of the terminal.
        drop(command);
        let mut got = Vec::new();
        // Linux tells this end by an error.
        let _ = File::from(controller).read_to_end(&mut got);
        child.wait().unwrap();
        String::from_utf8(got).unwrap()
    }
}
