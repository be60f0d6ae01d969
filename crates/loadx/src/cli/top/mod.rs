//! `loadx top`: a running LoadX, live in the terminal.

mod draw;
mod view;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use axum::http::Method;
use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use serde_json::{Value, json};

use super::ctl::client::{Client, Where, segment};
use crate::admin::api::{BackendEdit, Changed};
use crate::trouble::{Trouble, print};
use view::{Chosen, View};

/// How long to wait for a key before looking for news.
const KEY_WAIT: Duration = Duration::from_millis(100);

/// The options of `loadx top`.
#[derive(Debug, Args)]
#[command(after_help = "\
Keys: up and down choose a backend, s sorts by another column, / filters by name, d drains the chosen backend or lets it serve
again, q quits. In a pipe, loadx top prints a line each second.")]
pub(super) struct TopArguments {
    #[command(flatten)]
    place: Where,
}

/// What comes from the LoadX.
enum News {
    Tick(Value),
    /// The stream has ended, with the reason.
    Ended(Trouble),
}

/// Shows the LoadX until the operator quits, or the LoadX stops.
pub(super) fn top(arguments: &TopArguments) -> Result<ExitCode, Trouble> {
    let client = Client::new(&arguments.place)?;
    let follower = Client::new(&arguments.place)?;
    let (sender, news) = channel();
    let thread = std::thread::Builder::new().name("loadx-top".to_owned());
    thread
        .spawn(move || follow(&follower, &sender))
        .map_err(|error| Trouble::Failure(format!("cannot start: {error}")))?;
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return plain(&news);
    }
    let mut terminal = ratatui::try_init().map_err(|error| {
        Trouble::Failure(format!("cannot draw on this terminal: {error}\n  help: `loadx ctl backends` prints text"))
    })?;
    let end = Screen { client, view: View::default(), is_coloured: is_coloured() }.run(&mut terminal, &news);
    ratatui::restore();
    end
}

/// Passes on what the LoadX tells each second.
fn follow(client: &Client, news: &Sender<News>) {
    let mut name = String::new();
    let followed = client.follow("/v1/live", |line| {
        if let Some(event) = line.strip_prefix("event:") {
            event.trim().clone_into(&mut name);
        } else if let Some(data) = line.strip_prefix("data:")
            && name == "tick"
            && let Ok(tick) = serde_json::from_str(data.trim())
            && news.send(News::Tick(tick)).is_err()
        {
            return Err(Trouble::Failure("nobody looks any more".to_owned()));
        }
        Ok(())
    });
    let reason = followed.err().unwrap_or_else(|| Trouble::Failure("LoadX has stopped".to_owned()));
    // The operator may have quit.
    let _ = news.send(News::Ended(reason));
}

/// Prints a line for each second.
fn plain(news: &Receiver<News>) -> Result<ExitCode, Trouble> {
    loop {
        match news.recv() {
            Ok(News::Tick(tick)) => {
                let mut view = View::default();
                view.take(tick);
                print(&format!("{}\n", view.line()))?;
            }
            Ok(News::Ended(reason)) => return Err(reason),
            Err(_) => return Ok(ExitCode::SUCCESS),
        }
    }
}

fn is_coloured() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

struct Screen {
    client: Client,
    view: View,
    is_coloured: bool,
}

impl Screen {
    fn run(mut self, terminal: &mut DefaultTerminal, news: &Receiver<News>) -> Result<ExitCode, Trouble> {
        let failed = |error: std::io::Error| Trouble::Failure(format!("cannot draw on this terminal: {error}"));
        loop {
            terminal.draw(|frame| draw::draw(frame, &mut self.view, self.is_coloured)).map_err(failed)?;
            if event::poll(KEY_WAIT).map_err(failed)?
                && let Event::Key(key) = event::read().map_err(failed)?
                && key.kind == KeyEventKind::Press
            {
                let is_interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
                if is_interrupt || !self.press(key.code) {
                    return Ok(ExitCode::SUCCESS);
                }
            }
            loop {
                match news.recv_timeout(Duration::ZERO) {
                    Ok(News::Tick(tick)) => self.view.take(tick),
                    Ok(News::Ended(reason)) => return Err(reason),
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
                }
            }
        }
    }

    /// Carries out a key. Returns whether to go on.
    fn press(&mut self, key: KeyCode) -> bool {
        if let Some(filter) = self.view.filter_mut() {
            match key {
                KeyCode::Enter => self.view.end_filter(true),
                KeyCode::Esc => self.view.end_filter(false),
                KeyCode::Backspace => drop(filter.pop()),
                KeyCode::Char(character) => filter.push(character),
                _ => {}
            }
            return true;
        }
        match key {
            KeyCode::Char('q') | KeyCode::Esc => return false,
            KeyCode::Up | KeyCode::Char('k') => self.view.choose_by(-1),
            KeyCode::Down | KeyCode::Char('j') => self.view.choose_by(1),
            KeyCode::PageUp => self.view.choose_by(-10),
            KeyCode::PageDown => self.view.choose_by(10),
            KeyCode::Char('s') => self.view.sort_by_next(),
            KeyCode::Char('/') => self.view.begin_filter(),
            KeyCode::Char('d') => self.drain(),
            _ => {}
        }
        true
    }

    /// Drains the chosen backend, or lets it serve again.
    fn drain(&mut self) {
        let Some(Chosen { cluster, backend, is_drained }) = self.view.chosen() else { return };
        let path = format!("/v1/clusters/{}/backends/{}", segment(&cluster), segment(&backend));
        let edit: Result<BackendEdit, _> = serde_json::from_value(json!({ "drain": !is_drained }));
        let done: Result<Changed, Trouble> = match edit {
            Ok(edit) => self.client.send(Method::PATCH, &path, &edit),
            Err(error) => Err(Trouble::Failure(error.to_string())),
        };
        self.view.tell(&match done {
            Ok(changed) => changed.what,
            Err(Trouble::Input(reason) | Trouble::Failure(reason)) => format!("not done: {reason}"),
        });
    }
}
