//! The same questions get the same answers, but for the table in docs/node-cache.md, and that holds to the row.

use std::collections::BTreeSet;

use super::ask::Answer;
use super::recorded;
use super::running::{Kind, Running};
use super::table::{Cell, Row, under};
use super::turn;

/// A question, which time it was asked, and both answers.
struct Case<'a> {
    question: &'a str,
    turn: &'static str,
    theirs: &'a Answer,
    ours: &'a Answer,
}

impl Case<'_> {
    /// Whether the first cell of a row means it: every question, this question, or one that has this word.
    fn is_meant(&self, cell: &Cell) -> bool {
        cell.text == "every"
            || cell.codes.iter().any(|code| {
                let is_word = !code.contains(' ') && self.question.split(' ').any(|word| word == code);
                *code == self.question || is_word
            })
    }

    /// Whether the row speaks of it, and of what node-cache says to it.
    fn is_of(&self, row: &Row) -> bool {
        self.is_meant(&row[0]) && row[2].says(self.theirs.get(row[1].text.as_str()))
    }

    /// Whether the answers differ as the row says.
    fn differs_by(&self, row: &Row) -> bool {
        let [theirs, ours] = [self.theirs, self.ours].map(|answer| answer.get(row[1].text.as_str()));
        self.is_of(row) && row[3].says(ours) && theirs != ours
    }

    fn tell(&self, part: &str) -> String {
        let [theirs, ours] = [self.theirs, self.ours].map(|answer| answer.get(part));
        format!("{}, {} time, {part}: node-cache {theirs:?}, we {ours:?}", self.question, self.turn)
    }
}

#[test]
fn we_answer_as_node_cache_does_but_for_what_is_documented() {
    let _turn = turn();
    let rows = under(include_str!("../../docs/node-cache.md"), "## Answers that differ");
    let (theirs, ours) = (recorded::answers(), Running::new(Kind::Us).answers());
    let asked: BTreeSet<&str> = ours.iter().map(|(question, _)| *question).collect();
    let known: BTreeSet<&str> = theirs.keys().map(String::as_str).collect();
    assert_eq!(asked, known, "not all that is asked is recorded: just record-golden");
    let cases: Vec<Case> = ours
        .iter()
        .flat_map(|(question, answers)| {
            [0, 1].map(|i| Case {
                question,
                turn: ["first", "second"][i],
                theirs: &theirs[*question][i],
                ours: &answers[i],
            })
        })
        .collect();
    let mut wrong = Vec::new();
    for case in &cases {
        let parts: BTreeSet<&str> = case.theirs.keys().chain(case.ours.keys()).copied().collect();
        for part in parts.into_iter().filter(|part| case.theirs.get(part) != case.ours.get(part)) {
            if !rows.iter().any(|row| row[1].text == part && case.differs_by(row)) {
                wrong.push(format!("not documented: {}", case.tell(part)));
            }
        }
    }
    for row in &rows {
        let of_it: Vec<_> = cases.iter().filter(|case| case.is_of(row)).collect();
        if of_it.is_empty() {
            wrong.push(format!("documented, and seen nowhere: {row:?}"));
        }
        for case in of_it.iter().filter(|case| !case.differs_by(row)) {
            wrong.push(format!("documented otherwise: {}", case.tell(&row[1].text)));
        }
    }
    assert!(wrong.is_empty(), "{} lines:\n{}", wrong.len(), wrong.join("\n"));
}
