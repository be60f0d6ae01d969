//! `loadx plan`: shows what another config would change, before it does.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use loadx_core::plan::compare::compare;
use serde_json::json;

use super::ctl::client::{Client, Where};
use crate::admin::api::{PlannedDetail, PlannedDifference};

use crate::trouble::Trouble;
use crate::words::count;
use crate::{config_file, traps};

/// The options of `loadx plan`.
#[derive(Debug, Args)]
pub(super) struct PlanArguments {
    /// The new config file
    new: PathBuf,
    /// The config file that LoadX runs with
    #[arg(long, value_name = "FILE", default_value = "config.json", conflicts_with_all = ["running", "socket", "url"])]
    from: PathBuf,
    /// Compare with the LoadX that runs here, with what it has in use now
    #[arg(long)]
    running: bool,
    #[command(flatten)]
    place: Where,
    /// Print the differences as JSON
    #[arg(long)]
    json: bool,
}

/// The exit status is that of `diff`: 0 without differences, 1 with differences, 2 for a faulty file or without an output.
pub(super) fn plan(arguments: &PlanArguments) -> Result<ExitCode, Trouble> {
    if arguments.running || arguments.place.is_named() {
        return of_running(&Client::new(&arguments.place)?, &arguments.new, arguments.json);
    }
    let old =
        config_file::load_or_advise(&arguments.from, "name the config file that runs: loadx plan NEW --from FILE")?;
    let new = config_file::load_or_advise(&arguments.new, "name the new config file: loadx plan NEW")?;
    for warning in traps::warnings(&new, Some(&arguments.new))? {
        eprintln!("warning: {}: {}", arguments.new.display(), warning.text());
    }
    let differences: Vec<PlannedDifference> = compare(&old, &new).iter().map(PlannedDifference::from).collect();
    finish(&arguments.from.display().to_string(), &arguments.new, &differences, arguments.json)
}

/// Compares with a running LoadX.
pub(super) fn of_running(client: &Client, new: &Path, json: bool) -> Result<ExitCode, Trouble> {
    let text = config_file::read(new, "name the new config file: loadx plan NEW")?;
    // The exit status 1 would mean differences.
    let unknown = |trouble: Trouble| Trouble::Input(trouble.to_string());
    let planned = client.plan(text, new.display().to_string()).map_err(unknown)?;
    for warning in &planned.warnings {
        eprintln!("warning: {}: {warning}", new.display());
    }
    finish(&format!("plan {} of the running LoadX", planned.generation), new, &planned.differences, json)
}

/// Prints the differences. The exit status is that of `diff`.
fn finish(old: &str, new: &Path, differences: &[PlannedDifference], json: bool) -> Result<ExitCode, Trouble> {
    let text = if json {
        format!("{:#}\n", json!({ "differences": differences }))
    } else {
        to_text(&format!("{old} -> {}", new.display()), differences)
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

fn to_text(heading: &str, differences: &[PlannedDifference]) -> String {
    if differences.is_empty() {
        return format!("{heading}: no differences\n");
    }
    let mut text = format!("{heading}: {}\n", count(differences.len(), "difference"));
    let mut title = "";
    for difference in differences {
        let next = title_of(&difference.part);
        if next != title {
            text.push_str(&format!("\n{next}\n"));
            title = next;
        }
        write_difference(difference, &mut text).expect("a write to a String succeeds");
    }
    text
}

fn title_of(part: &str) -> &'static str {
    match part {
        "listener" => "listeners",
        "route" => "routes",
        "cluster" | "backend" => "clusters and backends",
        _ => "settings",
    }
}

fn sign(change: &str) -> char {
    match change {
        "added" => '+',
        "removed" => '-',
        _ => '~',
    }
}

fn write_difference(difference: &PlannedDifference, text: &mut String) -> std::fmt::Result {
    let PlannedDifference { part, cluster, name, change, details, effect, now } = difference;
    let of = cluster.as_ref().map(|cluster| format!(" of {cluster}")).unwrap_or_default();
    match (&**part, &details[..]) {
        // The name of a setting is the key of its only detail.
        ("setting", [PlannedDetail { old, new, .. }]) => {
            writeln!(text, "  {} {name}: {}; {effect}", sign(change), arrow(old.as_deref(), new.as_deref()))
        }
        _ => {
            writeln!(text, "  {} {name}{of}: {effect}", sign(change))?;
            now.iter().try_for_each(|now| writeln!(text, "      now: {now}"))?;
            details.iter().try_for_each(|PlannedDetail { key, old, new }| {
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
