//! Draws what `loadx top` shows.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row as TableRow, Sparkline, Table, TableState};

use super::view::{Row, View};

/// The least columns for all figures of a backend; a narrower screen shows the most important ones.
const WIDTH_MIN: u16 = 72;

/// The events at the foot of the screen.
const EVENTS: u16 = 3;

/// The colours, or none.
#[derive(Copy, Clone)]
struct Paint(bool);

impl Paint {
    fn of(self, colour: Color) -> Style {
        if self.0 { Style::new().fg(colour) } else { Style::new() }
    }

    fn bold(self, colour: Color) -> Style {
        self.of(colour).add_modifier(Modifier::BOLD)
    }
}

pub(super) fn draw(frame: &mut Frame<'_>, view: &mut View, is_coloured: bool) {
    let paint = Paint(is_coloured);
    if view.tick.is_null() {
        frame.render_widget(Paragraph::new("waiting for the first second of LoadX"), frame.area());
        return;
    }
    let [head, rates, table, events, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(3),
        Constraint::Min(3),
        Constraint::Length(EVENTS),
        Constraint::Length(2),
    ])
    .areas(frame.area());
    draw_head(frame, head, view, paint);
    let most = view.rates.iter().max().copied().unwrap_or(0);
    let [label, line] = Layout::horizontal([Constraint::Length(16), Constraint::Min(10)]).areas(rates);
    frame.render_widget(Paragraph::new(format!("requests/s\nlast minute\nat most {most}")), label);
    // The newest second is at the right.
    let empty = usize::from(line.width).saturating_sub(view.rates.len());
    let values: Vec<u64> = std::iter::repeat_n(0, empty)
        .chain(view.rates.iter().copied().skip(view.rates.len().saturating_sub(line.width.into())))
        .collect();
    frame.render_widget(Sparkline::default().data(&values).style(paint.of(Color::Blue)), line);
    draw_table(frame, table, view, paint);
    let lines: Vec<Line<'_>> = view
        .events()
        .into_iter()
        .take(EVENTS.into())
        .map(|(is_warning, text)| Line::styled(text, if is_warning { paint.of(Color::Red) } else { Style::new() }))
        .collect();
    frame.render_widget(Paragraph::new(lines), events);
    draw_foot(frame, foot, view, paint);
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, view: &View, paint: Paint) {
    let word = match view.silence() {
        Some(silence) => format!("silent for {} s", silence.as_secs()),
        None => view.fact("word"),
    };
    let colour = match word.as_str() {
        "healthy" => Color::Green,
        "degraded" => Color::Yellow,
        _ => Color::Red,
    };
    let first = Line::from(vec![
        Span::styled("LoadX ", Style::new().add_modifier(Modifier::BOLD)),
        Span::styled(word, paint.bold(colour)),
        Span::raw(format!(
            "  {} of {} in rotation  {} of {} connections  plan {}  up {}",
            view.number("admitted"),
            view.number("backends"),
            view.number("connections"),
            view.number("connections_max"),
            view.number("generation"),
            span(view.number("uptime")),
        )),
    ]);
    let errors = view.figure("errors");
    let second = Line::from(vec![
        Span::raw(format!("{:.1} requests/s  ", view.figure("rate"))),
        Span::styled(format!("{errors:.1} errors/s"), if errors > 0.0 { paint.bold(Color::Red) } else { Style::new() }),
        Span::raw(format!(
            "  p50 {}  p90 {}  p99 {}",
            time(view.figure("p50")),
            time(view.figure("p90")),
            time(view.figure("p99"))
        )),
    ]);
    frame.render_widget(Paragraph::new(vec![first, second]), area);
}

fn draw_table(frame: &mut Frame<'_>, area: Rect, view: &View, paint: Paint) {
    let rows = view.rows();
    let is_narrow = area.width < WIDTH_MIN;
    let cells = rows.iter().map(|row| {
        let colour = match row.state.as_str() {
            "up" => Color::Green,
            "down" | "ejected" => Color::Red,
            "unproven" => Color::Yellow,
            _ => Color::Gray,
        };
        let right = |text: String| Cell::from(Line::from(text).right_aligned());
        let errors = Line::from(format!("{:.1}", row.errors)).right_aligned();
        let (name, state) = (Cell::from(row.name.clone()), Span::styled(row.state.clone(), paint.bold(colour)).into());
        if is_narrow {
            return TableRow::new(vec![name, state, right(format!("{:.1}", row.rate))]);
        }
        TableRow::new(vec![
            name,
            Cell::from(row.cluster.clone()),
            state,
            right(row.share.map_or_else(|| "-".to_owned(), |share| format!("{:.0} %", share * 100.0))),
            right(format!("{:.1}", row.rate)),
            Cell::from(if row.errors > 0.0 { errors.style(paint.bold(Color::Red)) } else { errors }),
            right(row.average.map_or_else(|| "-".to_owned(), time)),
            right(row.in_flight.to_string()),
            Cell::from(Span::styled(blocks(&view.history(row)), paint.of(Color::Blue))),
        ])
    });
    let widths = match is_narrow {
        true => vec![Constraint::Fill(1), Constraint::Length(10), Constraint::Length(9)],
        false => vec![
            Constraint::Fill(3),
            Constraint::Fill(1),
            Constraint::Length(10),
            Constraint::Length(5),
            Constraint::Length(8),
            Constraint::Length(6),
            Constraint::Length(8),
            Constraint::Length(6),
            Constraint::Length(10),
        ],
    };
    let titles = match is_narrow {
        true => vec!["backend", "state", "    req/s"],
        false => vec!["backend", "cluster", "state", "share", "  req/s", " err/s", " average", "flight", "10 s"],
    };
    let head = TableRow::new(titles).style(Style::new().add_modifier(Modifier::UNDERLINED));
    let table = Table::new(cells, widths)
        .header(head)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
        .column_spacing(1);
    let mut state = TableState::default().with_selected(view.position(&rows));
    frame.render_stateful_widget(table, area, &mut state);
}

fn draw_foot(frame: &mut Frame<'_>, area: Rect, view: &View, paint: Paint) {
    let rows = view.rows();
    let about = match view.position(&rows).map(|at| &rows[at]) {
        _ if !view.told.is_empty() => view.told.clone(),
        Some(Row { name, reason, weight, .. }) => format!("{name}: {reason}, weight {weight}"),
        None => String::new(),
    };
    let keys = format!(
        "up down choose  s sort ({})  / filter {}  d drain or serve  q quit",
        view.sort.as_str(),
        view.filter_line()
    );
    frame.render_widget(Paragraph::new(vec![Line::raw(about), Line::styled(keys, paint.of(Color::Cyan))]), area);
}

/// The last values as blocks of eight heights.
fn blocks(values: &[u64]) -> String {
    const BLOCKS: [char; 8] =
        ['\u{2581}', '\u{2582}', '\u{2583}', '\u{2584}', '\u{2585}', '\u{2586}', '\u{2587}', '\u{2588}'];
    let last = &values[values.len().saturating_sub(10)..];
    let most = last.iter().max().copied().unwrap_or(0).max(1);
    last.iter().map(|value| BLOCKS[(value * 7 / most) as usize]).collect()
}

fn time(ms: f64) -> String {
    match ms {
        0.0 => "-".to_owned(),
        ms if ms >= 1_000.0 => format!("{:.2} s", ms / 1_000.0),
        ms => format!("{ms:.1} ms"),
    }
}

fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::{Value, json};

    use super::*;

    fn tick() -> Value {
        let backend = |name: &str, state: &str, rate: f64| {
            json!({
                "name": name, "state": state, "admitted": state == "up", "drained": state == "drained",
                "reason": "probe answered 200", "weight": 1, "in_flight": 2,
                "figures": { "rate": rate, "errors": 0.0, "average": 12.34 },
            })
        };
        json!({
            "total": { "figures": { "rate": 300.0, "errors": 1.5, "p50": 0.7, "p90": 2.0, "p99": 2345.0 } },
            "state": {
                "word": "degraded", "uptime": 125, "generation": 3, "connections": 12, "connections_max": 1000,
                "admitted": 2, "backends": 3,
                "clusters": [{
                    "name": "shop", "figures": { "rate": 300.0 },
                    "backends": [
                        backend("10.0.0.1:8080", "up", 100.0),
                        backend("10.0.0.2:8080", "down", 0.0),
                        backend("10.0.0.3:8080", "up", 200.0),
                    ],
                }],
            },
            "events": [{ "text": "backend 10.0.0.2:8080 is down: \u{1b}[31m connection refused", "warning": true }],
        })
    }

    /// The lines of the screen.
    fn screen(view: &mut View, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, view, true)).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |y: u16| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..height).map(line).collect()
    }

    #[test]
    fn everything_fits_on_80_by_24() {
        let mut view = View::default();
        view.take(tick());
        let lines = screen(&mut view, 80, 24);
        assert_eq!(lines[0], "LoadX degraded  2 of 3 in rotation  12 of 1000 connections  plan 3  up 2 min");
        assert_eq!(lines[1], "300.0 requests/s  1.5 errors/s  p50 0.7 ms  p90 2.0 ms  p99 2.35 s");
        let of = |name: &str| lines.iter().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{lines:#?}"));
        for (name, parts) in [
            ("10.0.0.1:8080", ["shop", "up", "33 %", "100.0", "12.3 ms"]),
            ("10.0.0.2:8080", ["shop", "down", "0 %", "0.0", "12.3 ms"]),
        ] {
            let words: Vec<&str> = of(name).split("  ").map(str::trim).filter(|word| !word.is_empty()).collect();
            assert!(parts.iter().all(|part| of(name).contains(part)), "{words:?}");
        }
        assert!(
            lines[23].starts_with("up down choose  s sort (the config)") && lines[23].ends_with("q quit"),
            "{}",
            lines[23]
        );
        assert!(lines.iter().any(|line| line.contains("is down: \u{fffd}[31m connection refused")), "{lines:#?}");
    }

    #[test]
    fn a_narrow_screen_shows_fewer_figures_and_these_whole() {
        let mut view = View::default();
        view.take(tick());
        let lines = screen(&mut view, 40, 24);
        let line = lines.iter().find(|line| line.starts_with("10.0.0.3:8080")).unwrap();
        assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["10.0.0.3:8080", "up", "200.0"]);
    }

    #[test]
    fn the_operator_sorts_filters_and_chooses() {
        let mut view = View::default();
        view.take(tick());
        view.sort_by_next();
        assert_eq!(view.rows()[0].name, "10.0.0.3:8080");
        view.choose_by(1);
        view.choose_by(1);
        assert_eq!(view.chosen().unwrap().backend, "10.0.0.1:8080");
        view.tell("drained");
        assert!(screen(&mut view, 80, 24)[22].starts_with("drained"));
        view.choose_by(0);
        assert!(screen(&mut view, 80, 24)[22].starts_with("10.0.0.1:8080: probe answered 200, weight 1"));
        view.sort_by_next();
        assert_eq!(view.chosen().unwrap().backend, "10.0.0.1:8080", "the choice stays with its backend");
        view.begin_filter();
        view.filter_mut().unwrap().push_str("0.2");
        view.end_filter(true);
        assert_eq!(view.rows().len(), 1);
        assert!(view.chosen().is_none());
        assert!(screen(&mut view, 80, 24).iter().any(|line| line.contains("/0.2")));
        for (width, height) in [(1, 1), (20, 5), (300, 100)] {
            screen(&mut view, width, height);
        }
    }
}
