//! The help of each command.

use crate::support::loadx;

/// The help of a command, with single spaces, because line breaks depend on the terminal.
fn help(command: &str) -> String {
    let output = loadx(&[command, "--help"]);
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{command}");
    output.stdout.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_command_says_what_the_command_does() {
    let all: String = loadx(&["--help"]).stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for told in [
        "run Balance HTTP requests over backends until SIGTERM or Ctrl-C",
        "check Check a config file: print \"ok\" and exit 0, or print every fault and exit 2",
        "health Check the health of a LoadX or a backend and exit 0 or 1",
        "Exit status: 0 success, 1 failure, 2 a wrong option",
    ] {
        assert!(all.contains(told), "{told}: {all}");
    }
}

#[test]
fn options_name_their_units_and_defaults() {
    for (command, told) in [
        (
            "run",
            vec![
                "[default: config.json]",
                "[default: 0.0.0.0:8080]",
                "[default: round_robin]",
                "[default: /health, and any status below 500 is healthy]",
            ],
        ),
        ("check", vec!["[default: config.json]"]),
        ("backend", vec!["--latency <MILLISECONDS>", "in milliseconds [default: 0]", "from 0 (none) to 1 (all)"]),
        ("health", vec!["--timeout <SECONDS>", "in seconds [default: 2]", "status 200 means healthy (exit status 0)"]),
        ("demo", vec!["[default: 8080]", "[default: 8001]"]),
    ] {
        let help = help(command);
        for text in told {
            assert!(help.contains(text), "{command} lacks {text}: {help}");
        }
    }
}
