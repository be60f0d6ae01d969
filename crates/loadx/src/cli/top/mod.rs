//! `loadx top`: a running LoadX, live in the terminal.

mod draw;
mod view;

use std::future::poll_fn;
use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::task::Poll;
use std::time::Duration;

use axum::http::Method;
use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use serde_json::{Value, json};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use super::ctl::client::{Client, Where, segment};
use crate::admin::api::{BackendEdit, Changed};
use crate::trouble::Trouble;
use view::{Chosen, View};

/// How long to wait for a key before looking for news.
const KEY_WAIT: Duration = Duration::from_millis(100);

/// The signals that end `loadx top`; the terminal is restored first.
const STOPPING: [SignalKind; 2] = [SignalKind::terminate(), SignalKind::hangup()];

/// The options of `loadx top`.
#[derive(Debug, Args)]
#[command(after_help = "\
Keys:
  up, down  choose a backend
  s         sort by another column
  /         filter by name
  d         drain the chosen backend, or let it serve again
  q         quit

In a pipe, loadx top prints a line each second.")]
pub(super) struct TopArguments {
    #[command(flatten)]
    place: Where,
}

/// What comes from the LoadX.
enum News {
    Tick(Value),
    /// The stream has ended, with the reason.
    Ended(Trouble),
    /// What became of a change that the operator wanted.
    Told(String),
    /// A signal wants the end.
    Stop,
}

/// Shows the LoadX until the operator quits, or the LoadX stops.
pub(super) fn top(arguments: &TopArguments) -> Result<ExitCode, Trouble> {
    let follower = Client::new(&arguments.place)?;
    let (sender, news) = channel();
    let of_stream = sender.clone();
    beside(move || follow(&follower, &of_stream))?;
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    if is_dumb || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return plain(&news);
    }
    let signals = Builder::new_current_thread().enable_all().build();
    let signals = signals.map_err(|error| Trouble::Failure(format!("cannot start: {error}")))?;
    let of_signals = sender.clone();
    beside(move || signals.block_on(tell_signals(&of_signals)))?;
    let mut terminal = ratatui::try_init().map_err(|error| {
        Trouble::Failure(format!("cannot draw on this terminal: {error}\n  help: `loadx ctl backends` prints text"))
    })?;
    let place = arguments.place.clone();
    let screen = Screen { place, sender, view: View::default(), is_coloured: is_coloured() };
    let end = screen.run(&mut terminal, &news);
    ratatui::restore();
    end
}

/// Runs `work` in a thread of its own, so that the screen never waits.
fn beside(work: impl FnOnce() + Send + 'static) -> Result<(), Trouble> {
    let thread = std::thread::Builder::new().name("loadx-top".to_owned());
    thread.spawn(work).map(drop).map_err(|error| Trouble::Failure(format!("cannot start: {error}")))
}

/// Tells when a signal wants the end.
async fn tell_signals(news: &Sender<News>) {
    let mut caught: Vec<_> = STOPPING.into_iter().filter_map(|kind| signal(kind).ok()).collect();
    poll_fn(|cx| match caught.iter_mut().any(|signal| signal.poll_recv(cx).is_ready()) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
    // The operator may have quit.
    let _ = news.send(News::Stop);
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
                match writeln!(std::io::stdout(), "{}", view.line()) {
                    Ok(()) => {}
                    // The reader of the pipe has seen enough.
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
                    Err(error) => return Err(Trouble::Failure(format!("cannot write to standard output: {error}"))),
                }
            }
            Ok(News::Ended(reason)) => return Err(reason),
            Ok(News::Told(_)) => {}
            Ok(News::Stop) | Err(_) => return Ok(ExitCode::SUCCESS),
        }
    }
}

fn is_coloured() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

struct Screen {
    place: Where,
    sender: Sender<News>,
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
                    Ok(News::Told(text)) => self.view.tell(&text),
                    Ok(News::Stop) => return Ok(ExitCode::SUCCESS),
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
        let Some(chosen) = self.view.chosen() else {
            return self.view.tell("choose a backend first, with up and down");
        };
        self.view.tell(&format!("{}: asking LoadX", chosen.backend));
        let (place, sender) = (self.place.clone(), self.sender.clone());
        let begun = beside(move || {
            let told = match drain(&place, &chosen) {
                Ok(changed) => changed.what,
                Err(Trouble::Input(reason) | Trouble::Failure(reason)) => format!("not done: {reason}"),
            };
            // The operator may have quit.
            let _ = sender.send(News::Told(told));
        });
        if let Err(error) = begun {
            self.view.tell(&error.to_string());
        }
    }
}

fn drain(place: &Where, Chosen { cluster, backend, is_drained }: &Chosen) -> Result<Changed, Trouble> {
    let path = format!("/v1/clusters/{}/backends/{}", segment(cluster), segment(backend));
    let edit: BackendEdit =
        serde_json::from_value(json!({ "drain": !is_drained })).map_err(|error| Trouble::Failure(error.to_string()))?;
    Client::new(place)?.send(Method::PATCH, &path, &edit)
}
