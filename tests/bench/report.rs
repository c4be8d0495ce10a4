//! What comes out of a run: tables in Markdown, printed as they are ready, and kept for charts and the README.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::charts::{self, Chart};
use crate::readme;

/// Everything that was measured.
#[derive(Default)]
pub struct Report {
    /// The tables, as they were printed.
    text: String,
    charts: Vec<Chart>,
    /// Servers that are not measured, and why.
    left_out: Vec<String>,
    /// What a reader must know about some servers.
    notes: Vec<String>,
}

impl Report {
    /// Prints a table: the first column is text, the others are numbers. `remarks` follow it.
    pub fn table(&mut self, title: &str, columns: &[&str], rows: &[Vec<String>], remarks: &[String]) {
        let numbers = "|--:".repeat(columns.len() - 1);
        let mut text = format!("### {title}\n\n| {} |\n|---{numbers}|\n", columns.join(" | "));
        for row in rows {
            text.push_str(&format!("| {} |\n", row.join(" | ")));
        }
        for remark in remarks {
            text.push_str(&format!("\n{remark}\n"));
        }
        println!("{text}");
        self.text.push_str(&text);
        self.text.push('\n');
    }

    /// Keeps a chart.
    pub fn chart(&mut self, chart: Chart) {
        self.charts.push(chart);
    }

    /// Takes note of somebody who is not measured.
    pub fn leave_out(&mut self, why: String) {
        if !self.left_out.contains(&why) {
            eprintln!("  left out: {why}");
            self.left_out.push(why);
        }
    }

    /// Whether somebody whose name begins so was left out.
    pub fn left_out(&self, name: &str) -> bool {
        self.left_out.iter().any(|why| why.starts_with(name))
    }

    /// Takes note of something that a reader must know.
    pub fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Prints what the numbers stand on: conditions, commit, kernel, processor, versions, who is left out.
    pub fn surroundings(&mut self, conditions: &str, versions: &[String]) {
        let mut text = format!("{conditions}\n{}\nMeasured: {}.\n", machine(), versions.join(", "));
        for note in &self.notes {
            text.push_str(&format!("{note}.\n"));
        }
        if !self.left_out.is_empty() {
            text.push_str(&format!("Left out: {}.\n", self.left_out.join("; ")));
        }
        print!("{text}");
        self.text.push_str(&text);
    }

    /// Draws the charts.
    pub fn draw(&self, commit: &str) -> Result<(), Box<dyn Error>> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/charts");
        fs::create_dir_all(&dir)?;
        for chart in &self.charts {
            let path = dir.join(format!("{}.svg", chart.file));
            fs::write(&path, charts::svg(chart, commit))?;
            println!("Drawn: docs/charts/{}.svg", chart.file);
        }
        Ok(())
    }

    /// Writes the tables into the README.
    pub fn write_readme(&self) -> Result<(), Box<dyn Error>> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
        let page = readme::replace(&fs::read_to_string(&path)?, &self.text)?;
        Ok(fs::write(path, page)?)
    }
}

/// The commit that was measured.
pub fn commit() -> String {
    let git = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    git.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
}

/// Commit, kernel and processor.
fn machine() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find(|l| l.starts_with("model name")).and_then(|l| l.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let all = cpuinfo.lines().filter(|l| l.starts_with("processor")).count().max(cores);
    format!(
        "Commit {}, Linux {}, {}, {all} cores.",
        commit(),
        kernel.trim(),
        model.unwrap_or("unknown processor")
    )
}
