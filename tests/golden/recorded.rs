//! What node-cache said, as it stands in `recorded/`: written by node-cache itself (`just record-golden`), read by the
//! tests of every machine.
//!
//! `recorded/answers` has a paragraph for each question; the other files have a line for each thing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use super::ask::{Answer, PARTS};

/// Instead of an answer that is the same as the one before it.
const AS_FIRST: &str = "again: as first";

/// An answer, by question; first and second.
pub type Answers = BTreeMap<String, [Answer; 2]>;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/recorded").join(name)
}

/// The lines of a file, without its comments.
fn lines(name: &str) -> Vec<String> {
    let text = fs::read_to_string(path(name)).unwrap_or_else(|e| panic!("{name} is not recorded: {e}"));
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

/// A file of lines, in any order.
pub fn set(name: &str) -> BTreeSet<String> {
    lines(name).into_iter().collect()
}

/// `recorded/answers`.
pub fn answers() -> Answers {
    let mut all = Answers::new();
    let mut current = String::new();
    let mut turn = 0;
    for line in lines("answers") {
        if let Some(question) = line.strip_prefix("? ") {
            question.clone_into(&mut current);
            all.insert(current.clone(), [Answer::new(), Answer::new()]);
            turn = 0;
        } else if let Some(answers) = all.get_mut(&current).filter(|_| !line.is_empty()) {
            if line == AS_FIRST {
                answers[1] = answers[0].clone();
            } else if line == "again:" {
                turn = 1;
            } else {
                let (part, value) = line.split_once(": ").unwrap_or_else(|| panic!("{line}"));
                let part = PARTS.iter().find(|known| **known == part).unwrap_or_else(|| panic!("{line}"));
                answers[turn].insert(part, value.to_owned());
            }
        }
    }
    all
}

/// The text of `recorded/answers`.
pub fn answers_text(answers: &[(&str, [Answer; 2])]) -> String {
    let mut text = String::new();
    for (question, [first, again]) in answers {
        writeln!(text, "\n? {question}").unwrap();
        for (part, value) in first {
            writeln!(text, "{part}: {value}").unwrap();
        }
        if first == again {
            writeln!(text, "{AS_FIRST}").unwrap();
            continue;
        }
        writeln!(text, "again:").unwrap();
        for (part, value) in again {
            writeln!(text, "{part}: {value}").unwrap();
        }
    }
    text
}

/// A line for each of a set.
pub fn set_text(set: &BTreeSet<String>) -> String {
    set.iter().map(|line| format!("{line}\n")).collect()
}

/// Holds a file to what node-cache has just said, or writes it anew if `SIDESTEP_RECORD` is set. `version` says whose
/// words they are.
pub fn hold(name: &str, version: &str, text: &str) {
    if std::env::var_os("SIDESTEP_RECORD").is_some() {
        let head = format!("# What node-cache says. Written by `just record-golden`.\n# {version}\n");
        fs::write(path(name), format!("{head}{text}")).unwrap();
    }
    let now: Vec<_> = text.lines().map(str::to_owned).collect();
    assert_eq!(lines(name), now, "{name}: left as recorded, right as node-cache says it now");
}
