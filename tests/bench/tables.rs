//! From what was measured to the rows of tables: medians over the rounds, and medians of the rounds' ratios.

use std::time::Duration;

use crate::contender::{Contender, Latency, Sample};
use crate::peers::{CEILING, OURS};
use crate::statistics::{median, paired};

/// The columns of [`speed`].
pub const SPEED: [&str; 10] = [
    "server",
    "queries/s",
    "of the echo",
    "sidestep is",
    "CPU us/query",
    "of it user",
    "core busy",
    "p50 us",
    "p99 us",
    "p99.9 us",
];

/// Speed and cost, one line for a server.
pub fn speed(contenders: &[Contender]) -> Vec<Vec<String>> {
    let find = |name| contenders.iter().find(|c| c.name == name);
    let (ceiling, ours) = (find(CEILING), find(OURS));
    let row = |c: &Contender| {
        let of_echo = ceiling.and_then(|ceiling| ratio(c, ceiling, |s| s.rate));
        let we_are = ours.and_then(|ours| ratio(ours, c, |s| s.rate));
        vec![
            c.label.clone(),
            show(of(c, |s| s.rate), 0, ""),
            show(of_echo, 2, ""),
            show(we_are, 2, "x"),
            show(of(c, cpu), 2, ""),
            show(of(c, |s| cpu(s) * s.user_share), 2, ""),
            show(of(c, |s| s.busy * 100.0), 0, " %"),
            show(of(c, |s| micros(latency(s).p50)), 0, ""),
            show(of(c, |s| micros(latency(s).p99)), 0, ""),
            show(of(c, |s| micros(latency(s).p999)), 0, ""),
        ]
    };
    contenders.iter().map(row).collect()
}

/// The columns of [`added`].
pub const ADDED: [&str; 6] = ["server", "p50 us", "p99 us", "added p50 us", "added p99 us", "CPU us/query"];

/// What each takes longer than `direct`, who is the first.
pub fn added(contenders: &[Contender]) -> Vec<Vec<String>> {
    let row = |c: &Contender| {
        let more = |figure: fn(&Sample) -> f64| {
            let direct = contenders.first().filter(|direct| direct.name != c.name)?;
            median(paired(c, direct, figure, |a, b| a - b))
        };
        vec![
            c.label.clone(),
            show(of(c, |s| micros(s.misses.p50)), 0, ""),
            show(of(c, |s| micros(s.misses.p99)), 0, ""),
            show(more(|s| micros(s.misses.p50)), 0, ""),
            show(more(|s| micros(s.misses.p99)), 0, ""),
            show(of(c, cpu), 2, ""),
        ]
    };
    contenders.iter().map(row).collect()
}

/// The columns of [`mixed`].
pub const MIXED: [&str; 10] = [
    "server",
    "hits p50 us",
    "p99 us",
    "p99.9 us",
    "no answer",
    "SERVFAIL",
    "p99, with misses of without",
    "misses p50 ms",
    "p99 ms",
    "CPU us/query",
];

/// Hits without misses and with them, in pairs of lines.
pub fn mixed(contenders: &[Contender]) -> Vec<Vec<String>> {
    let row = |c: &Contender| {
        let alone = contenders.iter().find(|alone| alone.name == c.name && alone.label != c.label);
        let with_misses = of(c, |s| micros(s.misses.p50)).is_some_and(|p50| p50 > 0.0);
        let millis = |figure: fn(&Sample) -> f64| of(c, figure).filter(|_| with_misses).map(|us| us / 1e3);
        let noticed = alone.filter(|_| with_misses).and_then(|alone| ratio(c, alone, |s| micros(s.hits.p99)));
        vec![
            c.label.clone(),
            show(of(c, |s| micros(s.hits.p50)), 0, ""),
            show(of(c, |s| micros(s.hits.p99)), 0, ""),
            show(of(c, |s| micros(s.hits.p999)), 0, ""),
            c.lost.to_string(),
            c.servfail.to_string(),
            show(noticed, 2, "x"),
            show(millis(|s| micros(s.misses.p50)), 1, ""),
            show(millis(|s| micros(s.misses.p99)), 1, ""),
            show(of(c, cpu), 2, ""),
        ]
    };
    contenders.iter().map(row).collect()
}

/// What went wrong, and how much was thrown away: a line for all together, and one for each kind of fault.
pub fn remarks(contenders: &[Contender]) -> Vec<String> {
    let kept: usize = contenders.iter().map(|c| c.samples.iter().flatten().count()).sum();
    let thrown_away: usize = contenders.iter().map(|c| c.thrown_away).sum();
    let mut all =
        vec![format!("Thrown away, because of other load: {thrown_away} of {} runs.", kept + thrown_away)];
    let mut faults = Vec::new();
    for c in contenders {
        let counts = [(c.lost, "without an answer"), (c.wrong, "wrong"), (c.servfail, "SERVFAIL")];
        faults
            .extend(counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {n} {what}", c.label)));
        all.extend(c.first_wrong.iter().map(|wrong| format!("{}: the first wrong answer: {wrong}", c.label)));
        all.extend(c.failed.iter().map(|why| format!("{}: could not be measured any more: {why}", c.label)));
    }
    match faults.is_empty() {
        true => all[0].push_str(" Every answer was checked: none was wrong, none missing."),
        false => all[0].push_str(&format!(" Faults: {}.", faults.join(", "))),
    }
    all
}

/// The median of a figure.
pub fn of(contender: &Contender, figure: impl Fn(&Sample) -> f64) -> Option<f64> {
    median(contender.samples.iter().flatten().map(figure))
}

/// The median of the ratios of a figure.
fn ratio(of: &Contender, to: &Contender, figure: fn(&Sample) -> f64) -> Option<f64> {
    median(paired(of, to, figure, |a, b| a / b))
}

/// CPU time per query in microseconds, where there is any.
pub fn cpu(sample: &Sample) -> f64 {
    sample.cpu.map_or(f64::NAN, micros)
}

/// The latency of whatever was asked.
pub fn latency(sample: &Sample) -> Latency {
    if sample.hits.p50.is_zero() { sample.misses } else { sample.hits }
}

/// A figure as it stands in a table.
pub fn show(value: Option<f64>, digits: usize, unit: &str) -> String {
    value.map_or_else(|| "-".to_owned(), |v| format!("{v:.digits$}{unit}"))
}

/// Microseconds.
pub fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
