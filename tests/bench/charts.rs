//! Charts: horizontal bars in SVG, readable on light and dark pages, without scripts and fonts of their own.

use std::fmt::Write;

/// Pixels: the chart's width, what the labels take of it, what the figures behind the bars take.
const WIDTH: f64 = 760.0;
const LABELS: f64 = 190.0;
const FIGURES: f64 = 110.0;
/// Pixels: a bar's line, and the bar in it.
const LINE: f64 = 30.0;
const BAR: f64 = 18.0;
/// Pixels above the first bar, and below the last one.
const HEAD: f64 = 66.0;
const FOOT: f64 = 34.0;

/// One bar for each server.
pub struct Chart {
    /// The file's name without its ending.
    pub file: String,
    /// What was measured.
    pub title: String,
    /// What the bars are, with their unit and which way is good.
    pub what: String,
    /// Names, values and the values as text.
    pub bars: Vec<Bar>,
}

/// One server's bar.
pub struct Bar {
    /// The server.
    pub label: String,
    /// How long the bar is.
    pub value: f64,
    /// The value as it stands behind the bar.
    pub text: String,
    /// How it stands out.
    pub role: Role,
}

/// Whose bar it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// This program's.
    Ours,
    /// What bounds the others.
    Bound,
    /// A peer's.
    Peer,
}

/// Colours for light pages, then for dark ones; what a page is, its reader's browser tells.
const STYLE: &str = "\
text{font:13px system-ui,sans-serif;fill:#24292f}\
.title{font-size:16px;font-weight:600}\
.quiet{fill:#57606a}\
.small{font-size:11px}\
.ours{font-weight:600}\
rect.ours{fill:#1f6feb}\
rect.bound{fill:#afb8c1}\
rect.peer{fill:#6e7781}\
rect.page{fill:#ffffff}\
@media(prefers-color-scheme:dark){\
text{fill:#e6edf3}\
.quiet{fill:#9198a1}\
rect.ours{fill:#58a6ff}\
rect.bound{fill:#484f58}\
rect.peer{fill:#7d8590}\
rect.page{fill:#0d1117}}";

/// Draws `chart`; `commit` is named in its foot.
pub fn svg(chart: &Chart, commit: &str) -> String {
    let height = HEAD + LINE * chart.bars.len() as f64 + FOOT;
    let longest = chart.bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
    let (title, what) = (escape(&chart.title), escape(&chart.what));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\" aria-label=\"{title}: {what}\">\n<style>{STYLE}</style>\n\
         <rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\" rx=\"6\"/>\n\
         <text class=\"title\" x=\"16\" y=\"28\">{title}</text>\n\
         <text class=\"quiet\" x=\"16\" y=\"48\">{what}</text>\n"
    );
    for (number, bar) in chart.bars.iter().enumerate() {
        draw(&mut svg, bar, HEAD + LINE * number as f64, longest);
    }
    let foot = height - 12.0;
    let commit = escape(commit);
    // Writing to a string cannot fail.
    let _ = writeln!(
        svg,
        "<text class=\"quiet small\" x=\"16\" y=\"{foot}\">just bench --charts, commit {commit}</text>"
    );
    svg.push_str("</svg>\n");
    svg
}

/// One line: name, bar, figure.
fn draw(svg: &mut String, bar: &Bar, top: f64, longest: f64) {
    let class = match bar.role {
        Role::Ours => "ours",
        Role::Bound => "bound",
        Role::Peer => "peer",
    };
    let length = ((WIDTH - LABELS - FIGURES) * bar.value.max(0.0) / longest).max(1.0);
    let (names_end, base, behind) = (LABELS - 10.0, top + 19.0, LABELS + length + 8.0);
    let (y, label, text) = (top + (LINE - BAR) / 2.0, escape(&bar.label), escape(&bar.text));
    let _ = writeln!(
        svg,
        "<text class=\"{class}\" x=\"{names_end}\" y=\"{base}\" text-anchor=\"end\">{label}</text>\
         <rect class=\"{class}\" x=\"{LABELS}\" y=\"{y}\" width=\"{length:.1}\" height=\"{BAR}\" rx=\"3\"/>\
         <text class=\"{class}\" x=\"{behind:.1}\" y=\"{base}\">{text}</text>"
    );
}

/// A value as it stands behind its bar: a small one with a digit behind the point, a large one in groups of three.
pub fn figure(value: f64) -> String {
    if value < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `text` without what XML means something by.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
