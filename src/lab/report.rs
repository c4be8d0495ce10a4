//! The report: a table with bars for people, at most 100 columns wide, and JSON for scripts.

use std::fmt::{self, Write};

use super::place::Rights;
use super::scenario::Expect;
use super::{Outcome, Report, Row, Section, Verdict};

/// Columns of a bar that means "all of them".
const BAR: u32 = 20;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rights = match self.rights {
            Rights::Root => "as root",
            Rights::UserNamespace => "in a user namespace",
        };
        let plural = if self.processors == 1 { "" } else { "s" };
        writeln!(
            f,
            "sidestep lab: Linux {}, {} processor{plural}, {rights}, {:.0} s",
            self.kernel,
            self.processors,
            self.took.as_secs_f64()
        )?;
        for section in &self.sections {
            write!(f, "{section}")?;
        }
        f.write_str(if self.cured() {
            "\nThe cure works here: sidestep kept all its promises.\n"
        } else {
            "\nThe cure is not shown here: see the rows marked FAILED or BROKEN.\n"
        })
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{:<45}{:>13}  {:<22}{:>7}", self.title, "", "", "")?;
        writeln!(f, "  {:<43}{:>13}  {:<22}{:>7}", "", "lookups lost", "", "tracked")?;
        for row in &self.rows {
            writeln!(f, "{row}")?;
        }
        writeln!(f, "  {}", self.shows)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {:<43}", self.name)?;
        if let Some(Outcome { tally, entries }) = self.outcome {
            let counts = format!("{} of {}", tally.lost, tally.asked);
            let tracked = entries.map_or_else(String::new, |n| n.to_string());
            write!(f, "{counts:>13}  {:<22}{tracked:>7}  ", bar(tally.lost, tally.asked))?;
        }
        f.write_str(&self.verdict.words())
    }
}

impl Verdict {
    fn words(&self) -> String {
        match self {
            Self::Shown | Self::NotShown => String::new(),
            Self::Helps => "helps".to_owned(),
            Self::HelpsNot => "no help".to_owned(),
            Self::Cured => "ok".to_owned(),
            Self::Failed => "FAILED".to_owned(),
            Self::LeftOut(why) => format!("left out: {why}"),
            Self::Broken(why) => format!("BROKEN: {why}"),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Shown => "shown",
            Self::NotShown => "not-shown",
            Self::Helps => "helps",
            Self::HelpsNot => "helps-not",
            Self::Cured => "ok",
            Self::Failed => "failed",
            Self::LeftOut(_) => "left-out",
            Self::Broken(_) => "broken",
        }
    }

    fn why(&self) -> Option<&str> {
        match self {
            Self::LeftOut(why) | Self::Broken(why) => Some(why),
            _ => None,
        }
    }
}

/// A bar as long as the share; whatever is lost shows.
fn bar(lost: u32, asked: u32) -> String {
    let share = u64::from(lost) * u64::from(BAR) / u64::from(asked.max(1));
    let length = usize::try_from(share).unwrap_or(0).max(usize::from(lost > 0));
    "#".repeat(length)
}

impl Report {
    /// One JSON object on one line. `rows` has one object a row: `group`, `name`, `asked`, `lost`, `tracked` (entries
    /// left in the connection tracking table), `at_most` (what sidestep promises), `verdict`, `why`; what does not
    /// apply is null.
    pub fn json(&self) -> String {
        let rights = match self.rights {
            Rights::Root => "root",
            Rights::UserNamespace => "user-namespace",
        };
        let rows: Vec<_> = self
            .sections
            .iter()
            .flat_map(|section| section.rows.iter().map(|row| row_json(section.title, row)))
            .collect();
        format!(
            "{{\"kernel\":{},\"processors\":{},\"rights\":\"{rights}\",\"seconds\":{:.1},\"cured\":{},\"rows\":[{}]}}",
            text(&self.kernel),
            self.processors,
            self.took.as_secs_f64(),
            self.cured(),
            rows.join(",")
        )
    }
}

fn row_json(group: &str, row: &Row) -> String {
    let tally = row.outcome.map(|outcome| outcome.tally);
    let at_most = match row.expect {
        Expect::AtMost(most) => Some(most),
        Expect::Loss | Expect::Relief => None,
    };
    format!(
        "{{\"group\":{},\"name\":{},\"asked\":{},\"lost\":{},\"tracked\":{},\"at_most\":{},\"verdict\":\"{}\",\"why\":{}}}",
        text(group),
        text(row.name),
        number(tally.map(|tally| tally.asked)),
        number(tally.map(|tally| tally.lost)),
        number(row.outcome.and_then(|outcome| outcome.entries)),
        number(at_most),
        row.verdict.code(),
        row.verdict.why().map_or_else(|| "null".to_owned(), text),
    )
}

fn number(n: Option<u32>) -> String {
    n.map_or_else(|| "null".to_owned(), |n| n.to_string())
}

/// A text in JSON (RFC 8259 section 7).
fn text(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => drop(write!(out, "\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
