//! A report on paper: text for people, JSON for scripts. No colours: it is pasted into chats and tickets.

use serde_json::json;

use super::finding::{Finding, Level, Report};

/// Columns of a line; terminals are at least that wide, and tickets do not wrap it.
const WIDTH: usize = 100;
/// Columns before the words: the level.
const MARGIN: usize = 9;

/// The report as text: the verdict, then what is worst.
pub fn text(report: &Report) -> String {
    let mut page = format!("sidestep doctor: {}\n", verdict(report));
    for level in [Level::Problem, Level::Unknown, Level::Note, Level::Healthy] {
        let of_level: Vec<&Finding> = report.findings.iter().filter(|f| f.level == level).collect();
        if of_level.is_empty() {
            continue;
        }
        page.push('\n');
        for finding in of_level {
            write(&mut page, finding);
        }
    }
    page
}

fn verdict(report: &Report) -> String {
    let count = |level, one: &str, many: &str| match report.count(level) {
        0 => None,
        1 => Some(format!("1 {one}")),
        n => Some(format!("{n} {many}")),
    };
    let parts: Vec<String> = [
        count(Level::Problem, "problem", "problems"),
        count(Level::Unknown, "thing could not be looked at", "things could not be looked at"),
        count(Level::Note, "note", "notes"),
    ]
    .into_iter()
    .flatten()
    .collect();
    if parts.is_empty() { "healthy".to_owned() } else { parts.join(", ") }
}

/// What is healthy takes a line; the rest says what to do, and how it is known.
fn write(page: &mut String, finding: &Finding) {
    let mark = match finding.level {
        Level::Problem => "PROBLEM",
        Level::Unknown => "UNKNOWN",
        Level::Note => "note",
        Level::Healthy => "ok",
    };
    lines(page, mark, &finding.what);
    if finding.level == Level::Healthy {
        return;
    }
    for line in finding.remedy.iter().flat_map(|remedy| remedy.lines()).enumerate() {
        let first = if line.0 == 0 { "  do" } else { "" };
        lines(page, first, line.1);
    }
    for seen in &finding.evidence {
        lines(page, "  seen", seen);
    }
    lines(page, "", &format!("({})", finding.check));
}

/// Wraps words to lines behind the margin; a word that is longer than a line stays whole.
fn lines(page: &mut String, mark: &str, text: &str) {
    let mut line = format!("{mark:<MARGIN$}");
    let mut empty = true;
    for word in text.split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            page.push_str(&line);
            page.push('\n');
            line = " ".repeat(MARGIN);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    page.push_str(line.trim_end());
    page.push('\n');
}

/// The report as one JSON object, for scripts.
pub fn json(report: &Report) -> String {
    let finding = |finding: &Finding| {
        json!({
            "level": finding.level.word(),
            "check": finding.check,
            "what": finding.what,
            "remedy": finding.remedy,
            "evidence": finding.evidence,
        })
    };
    let findings: Vec<_> = report.findings.iter().map(finding).collect();
    let object = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "exit_code": report.exit_code(),
        "findings": findings,
    });
    format!("{object:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let long = "word ".repeat(30);
        Report {
            findings: vec![
                Finding::healthy("a.a", "Fine.").evidence("not shown"),
                Finding::note("b.b", "Hm."),
                Finding::problem("c.c", format!("Bad: {long}"), "first row\nsecond row")
                    .evidence("\"quoted\""),
            ],
        }
    }

    #[test]
    fn the_worst_stands_first_and_lines_are_short() {
        let page = text(&report());
        assert!(page.starts_with("sidestep doctor: 1 problem, 1 note\n\nPROBLEM  Bad: word"), "{page}");
        assert!(
            page.contains("\n  do     first row\n         second row\n  seen   \"quoted\"\n         (c.c)\n"),
            "{page}"
        );
        assert!(page.ends_with("\n\nok       Fine.\n"), "{page}");
        assert!(page.lines().all(|line| line.len() <= WIDTH), "{page}");
    }

    #[test]
    fn nothing_to_say_is_healthy() {
        assert_eq!(text(&Report::default()), "sidestep doctor: healthy\n");
    }

    #[test]
    fn json_holds_everything() {
        let object: serde_json::Value = serde_json::from_str(&json(&report())).unwrap();
        assert_eq!(object["exit_code"], 1);
        assert_eq!(object["findings"][0]["evidence"][0], "not shown");
        assert_eq!(object["findings"][1]["remedy"], serde_json::Value::Null);
        assert_eq!(object["findings"][2]["level"], "problem");
        assert_eq!(object["findings"][2]["remedy"], "first row\nsecond row");
    }
}
