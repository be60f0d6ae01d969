//! The results as one HTML file that needs nothing else: text, and plots as SVG.

use std::fmt::Write as _;

use crate::{Latency, Moment, Report, Share};

const NEVER_FAILS: &str = "writing to a String cannot fail";
const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 300.0;
/// The room at the left and below for the labels of the axes.
const LEFT: f64 = 70.0;
const BELOW: f64 = 34.0;
const ABOVE: f64 = 14.0;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#5b6570;--line:#d5dade;--page:#fff;--one:#0b62d6;--two:#c2410c;--three:#15803d}\
@media(prefers-color-scheme:dark){:root{--ink:#e7eaee;--soft:#9aa5b1;--line:#3a424b;--page:#15181c;--one:#6ea8ff;--two:#fb923c;--three:#4ade80}}\
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);max-width:940px;margin:2em auto;padding:0 1em}\
h1{font-size:1.4em}h2{font-size:1.1em;margin:2em 0 .3em}table{border-collapse:collapse}td,th{padding:.2em .9em .2em 0;text-align:right}\
th:first-child,td:first-child,.facts td{text-align:left}th{color:var(--soft);font-weight:500}svg{width:100%;height:auto}\
svg text{fill:var(--soft);font:12px system-ui,sans-serif}.grid{stroke:var(--line)}.bad{color:var(--two)}\
.key{display:inline-block;width:1em;height:.2em;vertical-align:middle;margin:0 .3em 0 1em}";

impl Report {
    /// The page. `title` is text for people.
    pub fn to_html(&self, title: &str) -> String {
        let mut page = String::new();
        let title = escaped(title);
        writeln!(
            page,
            "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
             <title>{title}</title><style>{STYLE}</style><h1>{title}</h1>"
        )
        .expect(NEVER_FAILS);
        self.put_summary(&mut page);
        page.push_str("<h2>Response times</h2>\n");
        self.put_times(&mut page);
        if self.distribution.len() > 1 {
            page.push_str("<h2>Response time by share of the requests</h2>\n");
            self.put_distribution(&mut page);
        }
        if self.timeline.len() > 1 {
            page.push_str("<h2>Requests per second</h2>\n");
            let rate = |moment: &Moment| Some(moment.requests_per_second);
            put_timeline(&mut page, &self.timeline, &[("requests per second", "--one", &rate)]);
            page.push_str("<h2>Response time over the run, in ms</h2>\n");
            let lines: [Line<'_>; 3] = [
                ("50 %", "--three", &|moment: &Moment| moment.p50),
                ("99 %", "--one", &|moment: &Moment| moment.p99),
                ("longest", "--two", &|moment: &Moment| moment.maximum),
            ];
            put_timeline(&mut page, &self.timeline, &lines);
        }
        page.push_str("</html>\n");
        page
    }

    fn put_summary(&self, page: &mut String) {
        let mut row = |name: &str, value: String, is_bad: bool| {
            let class = if is_bad { " class=bad" } else { "" };
            writeln!(page, "<tr><th>{name}<td{class}>{}", escaped(&value)).expect(NEVER_FAILS);
        };
        row("URL", self.url.clone(), false);
        row("requests", self.requests.to_string(), false);
        row("failed", self.failed.to_string(), self.failed > 0);
        row("requests per second", format!("{:.1}", self.requests_per_second), false);
        row("time", format!("{:.3} s", self.duration_seconds), false);
        row("connections", self.concurrency.to_string(), false);
        if let Some(schedule) = self.schedule {
            let kept = if schedule.is_kept() { "kept" } else { "NOT kept" };
            let text = format!(
                "{} requests/s intended, {} sent, {} not sent: {kept}",
                schedule.rate, schedule.sent_rate, schedule.unsent
            );
            row("schedule", text, !schedule.is_kept());
        }
        for (status, count) in &self.status_codes {
            row(&format!("status {status}"), count.to_string(), *status >= 500);
        }
        for (backend, count) in &self.backends {
            row(&format!("backend {}", escaped(backend)), count.to_string(), false);
        }
        for (error, count) in &self.errors {
            row(&escaped(error), count.to_string(), true);
        }
        *page = page.replacen("<tr><th>URL", "<table class=facts><tr><th>URL", 1);
        page.push_str("</table>\n");
    }

    fn put_times(&self, page: &mut String) {
        page.push_str("<table><tr><th>ms<th>average<th>minimum<th>50 %<th>90 %<th>95 %<th>99 %<th>99.9 %<th>longest\n");
        let name = if self.rate.is_some() { "since the scheduled moment" } else { "since sent" };
        put_latency(page, name, &self.response_times);
        if let Some(since_sent) = &self.response_times_since_sent {
            put_latency(page, "since sent", since_sent);
        }
        for (number, run) in self.runs.iter().enumerate() {
            put_latency(page, &format!("run {}", number + 1), &run.response_times);
        }
        page.push_str("</table>\n");
    }

    /// The response time over the share of the requests, on an axis on which 90, 99 and 99.9 % are equally far from each other.
    fn put_distribution(&self, page: &mut String) {
        let place = |percent: f64| -(1.0 - (percent / 100.0).min(0.999_999)).log10() / 6.0;
        let points = |shares: &[Share]| -> Vec<(f64, f64)> {
            shares.iter().filter(|share| share.percent < 100.0).map(|share| (place(share.percent), share.ms)).collect()
        };
        let ticks = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999];
        let ticks = ticks.map(|percent| (place(percent), format!("{percent} %")));
        let corrected = points(&self.distribution);
        let mut lines = vec![("--one", corrected)];
        if !self.distribution_since_sent.is_empty() {
            lines.push(("--two", points(&self.distribution_since_sent)));
            page.push_str(
                "<p><span class=key style=\"background:var(--one)\"></span>since the scheduled moment\
                 <span class=key style=\"background:var(--two)\"></span>since sent</p>\n",
            );
        }
        put_plot(page, &lines, &ticks, "ms");
    }
}

/// A line of a plot: its name, its colour, and its value at a moment.
type Line<'l> = (&'static str, &'static str, &'l dyn Fn(&Moment) -> Option<f64>);

fn put_timeline(page: &mut String, timeline: &[Moment], lines: &[Line<'_>]) {
    let last = timeline.last().map_or(1, |moment| moment.second.max(1)) as f64;
    let ticks: Vec<(f64, String)> =
        (0..=5).map(|tick| (f64::from(tick) / 5.0, format!("{:.0} s", last * f64::from(tick) / 5.0))).collect();
    if lines.len() > 1 {
        page.push_str("<p>");
        for (name, colour, _) in lines {
            write!(page, "<span class=key style=\"background:var({colour})\"></span>{name}").expect(NEVER_FAILS);
        }
        page.push_str("</p>\n");
    }
    let points = |value: &dyn Fn(&Moment) -> Option<f64>| {
        // A second without responses stays a gap.
        let known = timeline.iter().filter_map(|moment| Some((moment.second as f64 / last, value(moment)?)));
        known.collect::<Vec<_>>()
    };
    let lines: Vec<_> = lines.iter().map(|(_, colour, value)| (*colour, points(value))).collect();
    put_plot(page, &lines, &ticks, "");
}

/// Lines of points, whose first number goes from 0 to 1, over a scale that begins at 0.
fn put_plot(page: &mut String, lines: &[(&str, Vec<(f64, f64)>)], ticks: &[(f64, String)], unit: &str) {
    let most = lines.iter().flat_map(|(_, points)| points).map(|(_, value)| *value).fold(0.0, f64::max);
    let top = round_up(most);
    let across = |share: f64| LEFT + share * (WIDTH - LEFT - 10.0);
    let up = |value: f64| HEIGHT - BELOW - value / top * (HEIGHT - BELOW - ABOVE);
    write!(page, "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=img aria-label=\"plot\">").expect(NEVER_FAILS);
    for step in 0..=4 {
        let value = top * f64::from(step) / 4.0;
        let y = up(value);
        write!(
            page,
            "<line class=grid x1={LEFT} x2={:.1} y1={y:.1} y2={y:.1} /><text x={:.1} y={:.1} text-anchor=end>{}</text>",
            WIDTH - 10.0,
            LEFT - 8.0,
            y + 4.0,
            figure(value, unit)
        )
        .expect(NEVER_FAILS);
    }
    for (share, text) in ticks {
        let anchor = if *share >= 1.0 { "end" } else { "middle" };
        write!(page, "<text x={:.1} y={:.1} text-anchor={anchor}>{text}</text>", across(*share), HEIGHT - 10.0)
            .expect(NEVER_FAILS);
    }
    for (colour, points) in lines {
        write!(page, "<polyline fill=none stroke=\"var({colour})\" stroke-width=2 points=\"").expect(NEVER_FAILS);
        for (share, value) in points {
            write!(page, "{:.1},{:.1} ", across(*share), up(*value)).expect(NEVER_FAILS);
        }
        page.push_str("\"/>");
    }
    page.push_str("</svg>\n");
}

/// The next number that is 1, 2, 2.5 or 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0];
    power * steps.into_iter().find(|step| step * power >= value).unwrap_or(10.0)
}

fn figure(value: f64, unit: &str) -> String {
    let digits = if value >= 100.0 || value == value.round() { 0 } else { 2 };
    format!("{value:.digits$} {unit}").trim_end().to_owned()
}

fn put_latency(page: &mut String, name: &str, times: &Latency) {
    let Latency { average, minimum, p50, p90, p95, p99, p99_9, maximum } = times;
    write!(page, "<tr><td>{name}").expect(NEVER_FAILS);
    for value in [average, minimum, p50, p90, p95, p99, p99_9, maximum] {
        write!(page, "<td>{value:.3}").expect(NEVER_FAILS);
    }
    page.push('\n');
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_at_a_round_number() {
        for (value, expected) in
            [(0.0, 1.0), (0.7, 1.0), (1.0, 1.0), (1.1, 2.0), (2.3, 2.5), (26.0, 50.0), (900.0, 1_000.0)]
        {
            assert!((round_up(value) - expected).abs() < 1e-9, "{value}");
        }
    }
}
