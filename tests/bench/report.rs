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
    println!();
}

/// Prints the table of a scenario: medians over the rounds, and the medians of the rounds' ratios.
pub fn scenario(title: &str, contenders: &[Contender]) {
    let find = |name| contenders.iter().find(|c| c.server.name == name);
    let (ceiling, ours) = (find(CEILING), find(OURS));
    println!("### {title}\n");
    println!(
        "| server | queries/s | of the ceiling | {OURS} is | CPU us/query | user part | busy | p50 us | p99 us | lost | \
         wrong | thrown away |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    for c in contenders {
        let of_ceiling = ratio(Some(c), ceiling, |s| s.rate);
        let faster = ratio(ours, Some(c), |s| s.rate);
        let cpu = median_of(c, |s| micros(s.cpu));
        let user = median_of(c, |s| micros(s.cpu) * s.user_share);
        println!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} of {} |",
            c.server.name,
            show(median_of(c, |s| s.rate), 0, ""),
            show(of_ceiling, 2, ""),
            show(faster, 2, "x"),
            show(cpu, 2, ""),
            show(user, 2, ""),
            show(median_of(c, |s| s.busy * 100.0), 0, " %"),
            show(median_of(c, |s| micros(s.p50)), 0, ""),
            show(median_of(c, |s| micros(s.p99)), 0, ""),
            c.lost,
            c.wrong,
            c.thrown_away,
            c.thrown_away + c.samples.iter().flatten().count(),
        );
    }
    println!();
    for c in contenders {
        if let Some(wrong) = &c.first_wrong {
            println!("{}: the first wrong answer: {wrong}\n", c.server.name);
        }
    }
}

/// Prints the table of idle servers.
pub fn idle(servers: &[Idle]) {
    println!("### Idle\n");
    println!("| server | resident KiB | its share KiB | wake-ups/s |\n|---|--:|--:|--:|");
    for s in servers {
        let Memory { resident, proportional } = s.memory;
        println!("| {} | {resident} | {proportional} | {:.1} |", s.name, s.wakeups);
    }
    println!();
}

/// The median of the ratios of `of` to `to` in the rounds that both have.
fn ratio(of: Option<&Contender>, to: Option<&Contender>, figure: fn(&Sample) -> f64) -> Option<f64> {
    let pairs = of?.samples.iter().zip(&to?.samples);
    median(pairs.filter_map(|(a, b)| Some(figure(a.as_ref()?) / figure(b.as_ref()?))).collect())
}

fn median_of(contender: &Contender, figure: impl Fn(&Sample) -> f64) -> Option<f64> {
    median(contender.samples.iter().flatten().map(figure).collect())
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
