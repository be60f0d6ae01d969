//! docs/scenarios.md, typed into a shell from top to bottom: each command prints the documented output.
//!
//! The test replaces ports by free ports. Numbers and ids may differ, words may not; `…` means any lines.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::support::{PATIENCE, unused_ports};

const DOCUMENT: &str = include_str!("../../../../docs/scenarios.md");
const CONFIG: &str = include_str!("../../../../config.json");

/// The ports that the document uses.
const PORTS: [&str; 8] = ["8080", "8001", "8002", "8003", "8004", "8005", "8006", "8007"];

/// A command, and the lines that the command or a background job prints.
struct Step {
    command: String,
    expected: Vec<String>,
}

/// The console blocks of the document without those that need containers.
fn blocks() -> Vec<Vec<Step>> {
    let blocks = DOCUMENT.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.filter(|block| !block.contains("docker")).map(steps).collect()
}

fn steps(block: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in block.lines() {
        match line.strip_prefix("$ ") {
            Some(command) => steps.push(Step { command: command.to_owned(), expected: Vec::new() }),
            None => steps.last_mut().expect("a block begins with a command").expected.push(line.to_owned()),
        }
    }
    steps
}

/// The line with other numbers than ports as `#`, ids as `ID`, and runs of white space and of `^` shortened.
fn normal(line: &str) -> String {
    let line = line.split_whitespace().map(normal_word).collect::<Vec<_>>().join(" ");
    // The system resets a connection that a dying backend had in its backlog, and refuses those that come later.
    match line.split_once("cannot connect: ") {
        Some((before, reasons)) if reasons.split("; ").all(is_refusal) => {
            format!("{before}cannot connect: connection refused")
        }
        _ => line,
    }
}

/// Whether a reason says that an address of a backend, if the reason names one, has refused or reset the connection.
fn is_refusal(reason: &str) -> bool {
    let what = reason.strip_prefix("#:").or_else(|| reason.strip_prefix("[::#]:"));
    let what = what.map_or(Some(reason), |rest| rest.split_once(": ").map(|(_, what)| what));
    matches!(what, Some("connection refused" | "connection reset"))
}

fn normal_word(word: &str) -> String {
    let bare: String = word.chars().filter(char::is_ascii_alphanumeric).collect();
    if bare.len() >= 16 && bare.chars().rev().take(16).all(|c| c.is_ascii_hexdigit()) {
        return "ID".to_owned();
    }
    let mut out = String::new();
    let mut rest = word;
    while let Some(first) = rest.chars().next() {
        let digits = rest.strip_prefix(['+', '-']).unwrap_or(rest);
        let length = digits.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(digits.len());
        let number = digits[..length].trim_end_matches('.');
        if number.starts_with(|c: char| c.is_ascii_digit()) {
            out.push_str(if PORTS.contains(&number) { number } else { "#" });
            rest = &digits[number.len()..];
        } else {
            if !(first == '^' && out.ends_with('^')) {
                out.push(first);
            }
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

/// Free ports for `PORTS`. The document has round numbers, such as 20000 requests: `output` must not take them for ports.
fn ports() -> Vec<u16> {
    loop {
        let first = unused_ports(PORTS.len() as u16);
        let ports: Vec<u16> = (first..).take(PORTS.len()).collect();
        if ports.iter().all(|port| port % 1000 != 0) {
            return ports;
        }
    }
}

/// A shell that runs typed commands; the output of the shell and of its jobs goes to one file.
struct Shell {
    bash: Child,
    directory: tempfile::TempDir,
    ports: Vec<u16>,
    typed: usize,
}

impl Shell {
    fn start() -> Self {
        let directory = tempfile::TempDir::new().unwrap();
        let ports = ports();
        let output = std::fs::File::create(directory.path().join("output")).unwrap();
        let binary = PathBuf::from(env!("CARGO_BIN_EXE_loadx"));
        let path = format!("{}:{}", binary.parent().unwrap().display(), std::env::var("PATH").unwrap());
        // On a terminal, curl shows no progress beside what it prints; in a file the two would share a line.
        std::fs::write(directory.path().join(".curlrc"), "no-progress-meter\n").unwrap();
        let bash = Command::new("bash")
            .current_dir(directory.path())
            .env("PATH", path)
            .env("CURL_HOME", directory.path())
            .env("NO_COLOR", "1")
            .stdin(Stdio::piped())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        let mut shell = Shell { bash, directory, ports, typed: 0 };
        // Job control, as at a terminal: the document says `kill %?run`.
        shell.type_in("set -m");
        std::fs::write(shell.directory.path().join("config.json"), shell.adapted(CONFIG)).unwrap();
        shell
    }

    /// The text with free ports, on loopback only, and with a load that a debug build can serve.
    fn adapted(&self, text: &str) -> String {
        let mut text = text
            .replace("0.0.0.0", "127.0.0.1")
            .replace("loadx backend", "loadx backend --host 127.0.0.1")
            .replace("loadx bench", "loadx bench --url http://localhost:8080")
            .replace("-n 100000", "-n 20000");
        for (port, free) in PORTS.iter().zip(&self.ports) {
            text = text.replace(port, &free.to_string());
        }
        text
    }

    /// Types a command and waits for its end; a background command ends at once.
    fn type_in(&mut self, command: &str) -> String {
        self.typed += 1;
        let (begin, end) = (format!("@@begin {}", self.typed), format!("@@end {}", self.typed));
        let command = self.adapted(command);
        let stdin = self.bash.stdin.as_mut().unwrap();
        writeln!(stdin, "echo '{begin}'\n{command}\necho '{end}'").unwrap();
        self.wait_for(&format!("the end of `{command}`"), |output| output.contains(&end).then_some(()));
        begin
    }

    fn output(&self) -> String {
        let bytes = std::fs::read(self.directory.path().join("output")).unwrap();
        let mut text = String::from_utf8_lossy(&bytes).into_owned();
        for (port, free) in PORTS.iter().zip(&self.ports) {
            text = text.replace(&free.to_string(), port);
        }
        text
    }

    fn wait_for<T>(&self, what: &str, probe: impl Fn(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let output = self.output();
            if let Some(found) = probe(&output) {
                return found;
            }
            assert!(Instant::now() < deadline, "it did not come: {what}\n{output}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

impl Drop for Shell {
    /// Ends the jobs with the shell.
    fn drop(&mut self) {
        if let Some(mut stdin) = self.bash.stdin.take() {
            let _ = writeln!(stdin, "kill -9 $(jobs -p) 2>/dev/null; exit");
        }
        let _ = self.bash.wait();
    }
}

/// The first expected line that is missing after `mark`. The output of one command is in order; jobs and their threads
/// print in any order.
fn missing(output: &str, mark: &str, expected: &[String], in_order: bool) -> Option<String> {
    let after = output.split(&format!("{mark}\n")).nth(1).unwrap_or_default();
    let came: Vec<String> = after.lines().map(normal).collect();
    let mut from = 0;
    let wanted = expected.iter().filter(|line| !line.trim().is_empty() && line.trim() != "…");
    wanted.map(|line| normal(line)).find(|line| match came[from..].iter().position(|other| other == line) {
        Some(at) if in_order => {
            from += at + 1;
            false
        }
        found => found.is_none(),
    })
}

fn carry_out(shell: &mut Shell, block: &[Step]) {
    let block_mark = shell.type_in("true");
    for step in block {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let own_mark = shell.type_in(&step.command);
            let in_background =
                step.command.ends_with('&') || step.command.contains("wait ") || step.command.starts_with("kill");
            let mark = if in_background { block_mark.clone() } else { own_mark };
            if in_background {
                shell.wait_for(&format!("the output after `{}`", step.command), |output| {
                    missing(output, &mark, &step.expected, false).is_none().then_some(())
                });
                break;
            }
            let Some(line) = missing(&shell.output(), &mark, &step.expected, true) else { break };
            // A curl command may run again, because the expected state may come later.
            let again = step.command.starts_with("curl") && Instant::now() < deadline;
            assert!(again, "`{}` does not print `{line}`:\n{}", step.command, shell.output());
        }
    }
}

#[test]
fn every_documented_command_prints_the_documented_output() {
    for tool in ["bash", "curl"] {
        if Command::new(tool).arg("--version").output().is_err() {
            eprintln!("skipped: this machine has no {tool}");
            return;
        }
    }
    let mut shell = Shell::start();
    for block in blocks() {
        carry_out(&mut shell, &block);
    }
}

#[test]
fn numbers_may_differ_and_words_may_not() {
    assert_eq!(normal("  rate   26370.9 requests/s"), normal("rate 1 requests/s"));
    assert_eq!(normal("p50 ms 1.79 1.97  +9.9 %"), normal("p50 ms 1 2 -13 %"));
    assert_eq!(normal("X-Request-Id: a7fe2fe09190b51d"), normal("X-Request-Id: 0000000000000000"));
    assert_ne!(normal("failed 0"), normal("successful 0"));
    let down = "WARN backend localhost:8001 is down: cannot connect:";
    let reset = format!("{down} 127.0.0.1:8001: connection reset; [::1]:8001: connection refused");
    assert_eq!(normal(&reset), normal(&format!("{down} connection refused")));
    assert_ne!(normal(&format!("{reset}; timed out")), normal(&format!("{down} connection refused")));
    assert_eq!(normal("2026-11-22T22:44:17.295161Z  INFO a"), normal("2027-01-02T03:04:05.000001Z INFO a"));
}
