//! `loadx completions` and `loadx man`: made from the same description as the help.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;

use super::Arguments;
use crate::trouble::{Trouble, print};

/// The options of `loadx completions`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  loadx completions bash > /etc/bash_completion.d/loadx
  loadx completions zsh > \"${fpath[1]}/_loadx\"
  loadx completions fish > ~/.config/fish/completions/loadx.fish")]
pub(super) struct CompletionsArguments {
    /// The shell
    shell: Shell,
}

/// The options of `loadx man`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  loadx man | man -l -                        read the page
  loadx man ctl drain | man -l -              read the page of a command
  loadx man --folder /usr/local/share/man/man1    install all pages")]
pub(super) struct ManArguments {
    /// The command, such as: ctl drain
    #[arg(conflicts_with = "folder")]
    command: Vec<String>,
    /// Write the pages of all commands into this folder
    #[arg(long)]
    folder: Option<PathBuf>,
}

/// Prints the completions for a shell.
pub(super) fn completions(arguments: &CompletionsArguments) -> Result<ExitCode, Trouble> {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "loadx", &mut text);
    print(&String::from_utf8_lossy(&text))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints or writes manual pages.
pub(super) fn man(arguments: &ManArguments) -> Result<ExitCode, Trouble> {
    let mut root = Arguments::command().disable_help_subcommand(true);
    root.build();
    match &arguments.folder {
        Some(folder) => {
            let mut count = 0;
            write_all(&root, folder, &mut count)?;
            print(&format!("{count} manual pages are in {}\n", folder.display()))?;
        }
        None => print(&page(named(root, &arguments.command)?)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn named(root: Command, names: &[String]) -> Result<Command, Trouble> {
    names.iter().try_fold(root, |command, name| {
        let known: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
        let help = match known.is_empty() {
            true => format!("{} has no commands of its own", command.get_name()),
            false => format!("known commands: {}", known.join(", ")),
        };
        command
            .find_subcommand(name)
            .cloned()
            .ok_or_else(|| Trouble::Input(format!("there is no command \"{name}\"\n  help: {help}")))
    })
}

/// The name of the page of a command: `loadx-ctl-drain` for `loadx ctl drain`.
fn title(command: &Command) -> String {
    command.get_bin_name().unwrap_or("loadx").replace(' ', "-")
}

fn page(command: Command) -> Result<String, Trouble> {
    let name = title(&command);
    let mut text = Vec::new();
    let page = Man::new(command.display_name(name.clone())).title(name);
    page.render(&mut text).map_err(|error| Trouble::Failure(format!("cannot make the page: {error}")))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn write_all(command: &Command, folder: &Path, count: &mut usize) -> Result<(), Trouble> {
    let file = folder.join(format!("{}.1", title(command)));
    std::fs::write(&file, page(command.clone())?).map_err(|error| {
        Trouble::Input(format!("cannot write {}: {error}\n  help: --folder names a folder that exists", file.display()))
    })?;
    *count += 1;
    command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .try_for_each(|command| write_all(command, folder, count))
}
