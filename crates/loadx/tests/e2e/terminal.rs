//! The output of LoadX on a terminal. The program `script` makes the terminal.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::support::{PATIENCE, eventually};

/// The output of `loadx run` on a terminal from its start until Ctrl-C; `None` without the program `script`.
fn on_a_terminal(environment: &[(&str, &str)]) -> Option<String> {
    let run = format!("exec {} run --listen 127.0.0.1:0 --to 127.0.0.1:1", env!("CARGO_BIN_EXE_loadx"));
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &run, "/dev/null"]).env_remove("NO_COLOR").env("TERM", "xterm");
    script.envs(environment.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let Ok(mut script) = script.spawn() else {
        eprintln!("skipped: this machine has no `script`");
        return None;
    };
    let written = Arc::<Mutex<Vec<u8>>>::default();
    let (shared, mut stdout) = (Arc::clone(&written), script.stdout.take().unwrap());
    let reader = std::thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = stdout.read(&mut piece) {
            shared.lock().unwrap().extend(&piece[..count]);
        }
    });
    let text = || String::from_utf8_lossy(&written.lock().unwrap()).into_owned();
    // Waits for the end of LoadX before the assertions, because LoadX ignores the SIGHUP of a closed terminal.
    let deadline = Instant::now() + PATIENCE;
    while !text().contains("round_robin over") && Instant::now() < deadline && script.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    script.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    let status = eventually("Ctrl-C ends LoadX", || script.try_wait().unwrap());
    reader.join().unwrap();
    let text = text();
    assert!(status.success() && text.contains("SIGINT: accepting no more"), "{status}: {text}");
    Some(text)
}

#[test]
fn a_terminal_gets_colours_unless_they_are_declined() {
    for (environment, coloured) in [
        (vec![], true),
        (vec![("NO_COLOR", "")], true),
        (vec![("NO_COLOR", "1")], false),
        (vec![("TERM", "dumb")], false),
    ] {
        if let Some(text) = on_a_terminal(&environment) {
            assert_eq!(text.contains('\x1b'), coloured, "{environment:?}: {text}");
        }
    }
}
