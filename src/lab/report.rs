//! The report: a table with bars for people, at most 100 columns wide, and JSON for scripts.

use std::fmt::{self, Write};

use super::place::Rights;
use super::scenario::Expect;
use super::{Outcome, Report, Row, Section, Verdict};

/// Columns of a line.
const WIDTH: usize = 98;
/// Columns of a row's name.
const NAME: usize = 43;
/// Columns of what is counted.
const COUNT: usize = 13;
/// Columns of a bar that means "all of them".
const BAR: usize = 20;

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
        writeln!(f, "\n{}", self.title)?;
        writeln!(f, "  {:NAME$}{:>COUNT$}  {:BAR$}{:>8}", "", "lookups lost", "", "tracked")?;
        for row in &self.rows {
            writeln!(f, "{row}")?;
        }
        writeln!(f, "  {}", self.shows)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (lost, bar, tracked) = match self.outcome {
            None => (String::new(), String::new(), None),
            Some(Outcome { tally, entries }) => {
                (format!("{} of {}", tally.lost, tally.asked), bar(tally.lost, tally.asked), entries)
            }
        };
        let tracked = tracked.map_or_else(String::new, |n| n.to_string());
        let line =
            format!("  {:NAME$}{lost:>COUNT$}  {bar:BAR$}{tracked:>8}  {}", self.name, self.verdict.word());
        f.write_str(line.trim_end())?;
        if !self.before.is_empty() {
            wrap(f, &format!("played again: lost before {}", list(&self.before)))?;
        }
        match self.verdict.why() {
            None => Ok(()),
            Some(why) => wrap(f, why),
        }
    }
}

fn list(numbers: &[u32]) -> String {
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}

/// A reason under its row, in lines that fit.
fn wrap(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let mut width = WIDTH;
    for word in text.split_whitespace() {
        if width + 1 + word.len() > WIDTH {
            f.write_str("\n     ")?;
            width = 5;
        }
        write!(f, " {word}")?;
        width += 1 + word.len();
    }
    Ok(())
}

impl Verdict {
    /// For people; what is expected is not remarked on.
    fn word(&self) -> &'static str {
        match self {
            Self::Shown | Self::NotShown => "",
            Self::Helps => "helps",
            Self::HelpsNot => "no help",
            Self::Cured => "ok",
            Self::Failed => "FAILED",
            Self::LeftOut(_) => "left out",
            Self::Broken(_) => "BROKEN",
        }
    }

    /// For scripts.
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
    let share = f64::from(lost) / f64::from(asked.max(1));
    "#".repeat((share * BAR as f64).ceil() as usize)
}

impl Report {
    /// One JSON object on one line. `rows` has one object a row: `group`, `name`, `asked`, `lost`, `lost_before` (the same
    /// of each time that it was played before, and more than `at_most` were), `tracked` (entries with the address that
    /// was asked, left in the connection tracking table), `at_most` (what sidestep promises), `verdict`, `why`; what
    /// does not apply is null.
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
        "{{\"group\":{},\"name\":{},\"asked\":{},\"lost\":{},\"lost_before\":[{}],\"tracked\":{},\"at_most\":{},\"verdict\":\"{}\",\"why\":{}}}",
        text(group),
        text(row.name),
        number(tally.map(|tally| tally.asked)),
        number(tally.map(|tally| tally.lost)),
        list(&row.before),
        number(row.outcome.and_then(|outcome| outcome.entries)),
        number(at_most),
        row.verdict.code(),
        row.verdict.why().map_or_else(|| "null".to_owned(), text),
    )
}

fn number<N: ToString>(n: Option<N>) -> String {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::lab::client::Tally;

    fn row(name: &'static str, expect: Expect, counts: Option<(u32, u32)>, verdict: Verdict) -> Row {
        let outcome = counts.map(|(lost, asked)| Outcome { tally: Tally { asked, lost }, entries: Some(7) });
        Row { name, expect, outcome, before: Vec::new(), verdict }
    }

    fn report(rows: Vec<Row>) -> Report {
        Report {
            kernel: "6.18.0".to_owned(),
            processors: 2,
            rights: Rights::UserNamespace,
            took: Duration::from_millis(31_400),
            sections: vec![Section { title: "A title", shows: "What it shows.", rows }],
        }
    }

    #[test]
    fn bars_are_as_long_as_the_share_and_every_loss_shows() {
        let lengths = [(0, 3000), (1, 3000), (1500, 3000), (2999, 3000), (3000, 3000), (0, 0)];
        assert_eq!(lengths.map(|(lost, asked)| bar(lost, asked).len()), [0, 1, 10, 20, 20, 0]);
    }

    #[test]
    fn the_table_is_aligned_and_fits() {
        let why = "words ".repeat(40);
        let text = report(vec![
            row("through DNAT", Expect::Loss, Some((203, 400)), Verdict::Shown),
            row("sidestep", Expect::AtMost(0), Some((0, 400)), Verdict::Cured),
            row("elsewhere", Expect::AtMost(0), None, Verdict::LeftOut(why)),
        ])
        .to_string();
        assert!(text.lines().all(|line| line.len() <= 100 && line.trim_end() == line), "{text}");
        let at = |what: &str| text.lines().find_map(|line| line.find(what)).unwrap();
        assert_eq!((at("203 of 400") + 10, at("0 of 400") + 10), (58, 60), "{text}");
        assert_eq!(at("lookups lost") + 12, at("203 of 400") + 10);
        assert!(text.contains("  ok\n") && text.contains("  left out\n      words words"), "{text}");
        assert!(text.starts_with("sidestep lab: Linux 6.18.0, 2 processors, in a user namespace, 31 s\n"));
    }

    #[test]
    fn a_row_that_was_played_again_says_so() {
        let again =
            Row { before: vec![14, 3], ..row("ours", Expect::AtMost(2), Some((1, 9)), Verdict::Cured) };
        let report = report(vec![again]);
        assert!(report.to_string().contains("  ok\n      played again: lost before 14, 3\n"), "{report}");
        assert!(report.json().contains(r#""lost":1,"lost_before":[14, 3],"tracked""#), "{}", report.json());
    }

    #[test]
    fn only_kept_promises_are_a_cure() {
        let own = |verdicts: &[Verdict]| {
            let row = |verdict: &Verdict| row("ours", Expect::AtMost(2), None, verdict.clone());
            report(verdicts.iter().map(row).collect()).cured()
        };
        let (out, broken) = (Verdict::LeftOut(String::new()), Verdict::Broken(String::new()));
        assert!(own(&[Verdict::Cured]));
        assert!(own(&[Verdict::Cured, out.clone()]));
        assert!(!own(&[out]), "nothing was shown");
        assert!(!own(&[Verdict::Cured, broken]));
        assert!(!own(&[Verdict::Cured, Verdict::Failed]));
    }

    #[test]
    fn json_says_what_does_not_apply_with_null() {
        let json = report(vec![
            row("a", Expect::Loss, Some((3, 4)), Verdict::Shown),
            row("b \"c\"\\\n", Expect::AtMost(2), None, Verdict::Broken("x".to_owned())),
        ])
        .json();
        let expected = r#"{"kernel":"6.18.0","processors":2,"rights":"user-namespace","seconds":31.4,"cured":false,"rows":[{"group":"A title","name":"a","asked":4,"lost":3,"lost_before":[],"tracked":7,"at_most":null,"verdict":"shown","why":null},{"group":"A title","name":"b \"c\"\\\u000a","asked":null,"lost":null,"lost_before":[],"tracked":null,"at_most":2,"verdict":"broken","why":"x"}]}"#;
        assert_eq!(json, expected);
    }
}
