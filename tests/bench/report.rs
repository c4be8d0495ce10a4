//! The tables, in Markdown.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::measure::Memory;
use crate::peers::{CEILING, OURS};
use crate::rounds::{Contender, Sample};

/// What a server holds and does while nobody asks it.
pub struct Idle {
    /// The server's name.
    pub name: &'static str,
    /// Its memory.
    pub memory: Memory,
    /// How often a second it woke.
    pub wakeups: f64,
}

/// Prints what the numbers stand on: commit, kernel, processor, versions, who is left out.
pub fn surroundings(versions: &[String], left_out: &[String]) {
    let git = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    let commit = git.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find(|l| l.starts_with("model name")).and_then(|l| l.split(": ").nth(1));
    println!("Commit {commit}, Linux {}, {}.", kernel.trim(), model.unwrap_or("unknown processor"));
    println!("Measured: {}.", versions.join(", "));
    if !left_out.is_empty() {
        println!("Left out: {}.", left_out.join("; "));
    }
}

/// Prints the table of a scenario: medians over the rounds, and the medians of the rounds' ratios.
pub fn scenario(title: &str, contenders: &[Contender]) {
    let find = |name| contenders.iter().find(|c| c.server.name == name);
    let (ceiling, ours) = (find(CEILING), find(OURS));
    let row = |c: &Contender| {
        let median = |figure: fn(&Sample) -> f64| median(c.samples.iter().flatten().map(figure).collect());
        let kept = c.samples.iter().flatten().count();
        [
            c.server.name.to_owned(),
            show(median(|s| s.rate), 0, ""),
            show(ratio(Some(c), ceiling, |s| s.rate), 2, ""),
            show(ratio(ours, Some(c), |s| s.rate), 2, "x"),
            show(median(|s| micros(s.cpu)), 2, ""),
            show(median(|s| micros(s.cpu) * s.user_share), 2, ""),
            show(ratio(ours, Some(c), |s| micros(s.cpu)), 2, "x"),
            show(median(|s| s.busy * 100.0), 0, " %"),
            show(median(|s| micros(s.p50)), 0, ""),
            show(median(|s| micros(s.p99)), 0, ""),
            c.lost.to_string(),
            c.wrong.to_string(),
            format!("{} of {}", c.thrown_away, c.thrown_away + kept),
        ]
    };
    let columns = [
        "server",
        "queries/s",
        "of the ceiling",
        "sidestep is",
        "CPU us/query",
        "user part",
        "sidestep takes",
        "core busy",
        "p50 us",
        "p99 us",
        "lost",
        "wrong",
        "runs thrown away",
    ];
    table(title, columns, contenders.iter().map(row));
    for c in contenders {
        if let Some(wrong) = &c.first_wrong {
            println!("{}: the first wrong answer: {wrong}\n", c.server.name);
        }
    }
}

/// Prints the table of idle servers.
pub fn idle(servers: &[Idle]) {
    let row = |s: &Idle| {
        let Memory { resident, proportional } = s.memory;
        [s.name.to_owned(), resident.to_string(), proportional.to_string(), format!("{:.1}", s.wakeups)]
    };
    table("Idle", ["server", "resident KiB", "its share KiB", "wake-ups/s"], servers.iter().map(row));
}

/// Prints a table: the first column is text, the others are numbers.
fn table<const N: usize>(title: &str, columns: [&str; N], rows: impl Iterator<Item = [String; N]>) {
    println!("### {title}\n\n| {} |\n|---{}|", columns.join(" | "), "|--:".repeat(N - 1));
    for row in rows {
        println!("| {} |", row.join(" | "));
    }
    println!();
}

/// The median of the ratios of `of` to `to` in the rounds that both have.
fn ratio(of: Option<&Contender>, to: Option<&Contender>, figure: fn(&Sample) -> f64) -> Option<f64> {
    let pairs = of?.samples.iter().zip(&to?.samples);
    median(pairs.filter_map(|(a, b)| Some(figure(a.as_ref()?) / figure(b.as_ref()?))).collect())
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len() % 2 == 1 { upper } else { f64::midpoint(values[middle - 1], upper) })
}

fn show(value: Option<f64>, digits: usize, unit: &str) -> String {
    value.map_or_else(|| "-".to_owned(), |v| format!("{v:.digits$}{unit}"))
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
