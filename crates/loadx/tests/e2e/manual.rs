//! Completions and manual pages.

use std::process::Command;

use crate::support::judges::{find, output};
use crate::support::loadx;
use crate::support::tls::text;

#[test]
fn each_shell_gets_completions_that_it_can_read() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let completions = loadx(&["completions", shell]);
        assert_eq!(completions.code, Some(0), "{completions:?}");
        assert!(completions.stdout.contains("explain-tls") && completions.stdout.contains("find-max"), "{shell}");
    }
    let Some(bash) = find("bash") else { return };
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("loadx");
    std::fs::write(&file, loadx(&["completions", "bash"]).stdout).unwrap();
    let script = format!(
        "source {}; COMP_WORDS=(loadx c); COMP_CWORD=1; _loadx loadx c loadx; echo \"${{COMPREPLY[@]}}\"",
        text(&file)
    );
    let said = output(Command::new(bash).args(["--norc", "-c", &script]));
    assert_eq!(said.trim(), "check ctl ca certs completions");
}

#[test]
fn every_command_has_a_manual_page() {
    let page = loadx(&["man", "ctl", "drain"]);
    assert!(page.stdout.contains(".TH loadx-ctl-drain") && page.stdout.contains(".SH OPTIONS"), "{page:?}");
    let folder = tempfile::TempDir::new().unwrap();
    let written = loadx(&["man", "--folder", text(folder.path())]);
    assert_eq!(written.code, Some(0), "{written:?}");
    for name in ["loadx", "loadx-run", "loadx-bench", "loadx-ctl", "loadx-ctl-drain"] {
        assert!(folder.path().join(format!("{name}.1")).exists(), "{name}");
    }
    let unknown = loadx(&["man", "ctl", "drian"]);
    assert!(unknown.code == Some(2) && unknown.stderr.contains("known commands: "), "{unknown:?}");
    let nowhere = loadx(&["man", "--folder", "/nowhere/at/all"]);
    assert!(nowhere.code == Some(2) && nowhere.stderr.contains("a folder that exists"), "{nowhere:?}");
}
