//! `loadx plan`: shows what another config would change, before it does.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use loadx_core::plan::compare::{Change, Detail, Difference, Part, compare};
use serde_json::{Value, json};

use crate::trouble::Trouble;
use crate::words::count;
use crate::{config_file, traps};

/// The options of `loadx plan`.
#[derive(Debug, Args)]
pub(super) struct PlanArguments {
    /// The new config file
    new: PathBuf,
    /// The config file that LoadX runs with
    #[arg(long, value_name = "FILE", default_value = "config.json")]
    from: PathBuf,
    /// Print the differences as JSON
    #[arg(long)]
    json: bool,
}

/// The exit status is that of `diff`: 0 without differences, 1 with differences, 2 for a faulty file or without an output.
pub(super) fn plan(arguments: &PlanArguments) -> Result<ExitCode, Trouble> {
    let old =
        config_file::load_or_advise(&arguments.from, "name the config file that runs: loadx plan NEW --from FILE")?;
    let new = config_file::load_or_advise(&arguments.new, "name the new config file: loadx plan NEW")?;
    for warning in traps::warnings(&new, Some(&arguments.new))? {
        eprintln!("warning: {}: {}", arguments.new.display(), warning.text());
    }
    let differences = compare(&old, &new);
    let text = if arguments.json {
        let all: Vec<Value> = differences.iter().map(to_json).collect();
        format!("{:#}\n", json!({ "differences": all }))
    } else {
        let heading = format!("{} -> {}", arguments.from.display(), arguments.new.display());
        to_text(&heading, &differences)
    };
    Ok(match write_out(&text)? {
        false => ExitCode::from(2),
        true if differences.is_empty() => ExitCode::SUCCESS,
        true => ExitCode::FAILURE,
    })
}

/// Returns whether the reader got the whole text. A script must not take a plan that nobody could read for "differences"
/// or "no differences"; a reader that has closed the pipe (`loadx plan … | head`) needs no message.
fn write_out(text: &str) -> Result<bool, Trouble> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        // A failure would have the exit status of differences.
        Err(error) => Err(Trouble::Input(format!("cannot write to standard output: {error}"))),
    }
}

fn to_text(heading: &str, differences: &[Difference]) -> String {
    if differences.is_empty() {
        return format!("{heading}: no differences\n");
    }
    let mut text = format!("{heading}: {}\n", count(differences.len(), "difference"));
    let mut title = "";
    for difference in differences {
        let next = title_of(difference.part);
        if next != title {
            text.push_str(&format!("\n{next}\n"));
            title = next;
        }
        write_difference(difference, &mut text).expect("a write to a String succeeds");
    }
    text
}

fn title_of(part: Part) -> &'static str {
    match part {
        Part::Listener => "listeners",
        Part::Route => "routes",
        Part::Cluster | Part::Backend => "clusters and backends",
        Part::Setting => "settings",
    }
}

fn sign(change: Change) -> char {
    match change {
        Change::Added => '+',
        Change::Removed => '-',
        Change::Changed => '~',
    }
}

fn write_difference(difference: &Difference, text: &mut String) -> std::fmt::Result {
    let Difference { part, of, name, change, details, effect } = difference;
    let of = of.as_ref().map(|cluster| format!(" of {cluster}")).unwrap_or_default();
    match (part, &details[..]) {
        // The name of a setting is the key of its only detail.
        (Part::Setting, [Detail { old, new, .. }]) => {
            writeln!(text, "  {} {name}: {}; {effect}", sign(*change), arrow(old.as_deref(), new.as_deref()))
        }
        _ => {
            writeln!(text, "  {} {name}{of}: {effect}", sign(*change))?;
            details.iter().try_for_each(|Detail { key, old, new }| {
                writeln!(text, "      {key}: {}", arrow(old.as_deref(), new.as_deref()))
            })
        }
    }
}

fn arrow(old: Option<&str>, new: Option<&str>) -> String {
    let shown = |value: &str| if value.is_empty() { "\"\"".to_owned() } else { value.to_owned() };
    match (old, new) {
        (Some(old), Some(new)) => format!("{} -> {}", shown(old), shown(new)),
        (Some(old), None) => format!("{} -> none", shown(old)),
        (None, new) => shown(new.unwrap_or_default()),
    }
}

fn to_json(difference: &Difference) -> Value {
    let Difference { part, of, name, change, details, effect } = difference;
    let part = match part {
        Part::Listener => "listener",
        Part::Route => "route",
        Part::Cluster => "cluster",
        Part::Backend => "backend",
        Part::Setting => "setting",
    };
    let change = match change {
        Change::Added => "added",
        Change::Removed => "removed",
        Change::Changed => "changed",
    };
    let details: Vec<Value> =
        details.iter().map(|Detail { key, old, new }| json!({ "key": key, "old": old, "new": new })).collect();
    json!({ "part": part, "cluster": of, "name": name, "change": change, "details": details, "effect": effect })
}
