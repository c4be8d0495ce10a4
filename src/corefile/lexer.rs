//! From text to words.
//!
//! A word ends at a blank, and one that begins with `"` at the next `"` that has no `\` before it; quotes elsewhere
//! are letters. A carriage return outside of quotes is nothing, so that files from Windows are read.

use std::iter::Peekable;
use std::path::Path;
use std::str::Chars;
use std::sync::Arc;

use super::pillar::{self, Shift};
use super::{Fault, Place, WORD, WORDS};

/// A word as it is written: its variables are not replaced yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub text: String,
    pub at: Place,
    pub quoted: bool,
    /// Whether it is the first of its line.
    pub first: bool,
}

impl Word {
    /// Whether it is this piece of syntax; a quoted word is none.
    pub fn is(&self, syntax: &str) -> bool {
        !self.quoted && self.text == syntax
    }
}

/// Takes a text apart. The `shifts` say where in the base file a column was.
pub(super) fn words(text: &str, file: &Arc<Path>, shifts: &[Shift]) -> Result<Vec<Word>, Fault> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lexer = Lexer { rest: text.chars().peekable(), line: 1, column: 1, file, shifts };
    let mut words = Vec::new();
    let mut last_line = 0;
    while let Some((text, at, quoted)) = lexer.word()? {
        if words.len() == WORDS {
            return Err(Fault::new(at, format!("more than {WORDS} words"), "split it"));
        }
        words.push(Word { text, first: at.line > last_line, at, quoted });
        last_line = lexer.line;
    }
    Ok(words)
}

struct Lexer<'t> {
    rest: Peekable<Chars<'t>>,
    line: u32,
    /// Of the next character.
    column: u32,
    file: &'t Arc<Path>,
    shifts: &'t [Shift],
}

impl Lexer<'_> {
    fn step(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        if c == '\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
        Some(c)
    }

    fn here(&self) -> Place {
        let column = pillar::base_column(self.shifts, self.line, self.column);
        Place { file: self.file.clone(), line: self.line, column, via: None }
    }

    /// The next word, its place, and whether it is quoted.
    fn word(&mut self) -> Result<Option<(String, Place, bool)>, Fault> {
        loop {
            match self.rest.peek() {
                None => return Ok(None),
                Some('#') => drop(self.rest_of_line()),
                Some(c) if c.is_whitespace() => drop(self.step()),
                Some('"') => {
                    let at = self.here();
                    return self.quoted(&at).map(|text| Some((text, at, true)));
                }
                Some(_) => {
                    let at = self.here();
                    return self.bare(&at).map(|text| Some((text, at, false)));
                }
            }
        }
    }

    fn rest_of_line(&mut self) -> String {
        let mut rest = String::new();
        while self.rest.peek().is_some_and(|c| *c != '\n') {
            rest.extend(self.step());
        }
        rest
    }

    fn bare(&mut self, at: &Place) -> Result<String, Fault> {
        let mut text = String::new();
        while let Some(&c) = self.rest.peek() {
            match c {
                '#' => {
                    self.comment_in_word()?;
                    break;
                }
                '\r' => {}
                c if c.is_whitespace() => break,
                c => push(&mut text, c, at)?,
            }
            self.step();
        }
        Ok(text)
    }

    /// CoreDNS ends the word and skips up to the next blank: the same as a comment, unless words follow.
    fn comment_in_word(&mut self) -> Result<(), Fault> {
        let at = self.here();
        let comment = self.rest_of_line();
        let after = comment.split_once(char::is_whitespace).map_or("", |(_, after)| after.trim_start());
        if after.is_empty() || after.starts_with('#') {
            return Ok(());
        }
        let hint =
            "put a blank before `#` if a comment begins there, or the word in quotes if `#` belongs to it";
        Err(Fault::new(at, "`#` inside of a word, and more words after it", hint))
    }

    fn quoted(&mut self, at: &Place) -> Result<String, Fault> {
        let mut text = String::new();
        self.step();
        while let Some(c) = self.step() {
            match (c, self.rest.peek()) {
                ('"', _) => return Ok(text),
                ('\\', Some('"')) => {
                    self.step();
                    push(&mut text, '"', at)?;
                }
                // A backslash before anything else is a backslash, and what is after it no escape.
                ('\\', Some(_)) => {
                    push(&mut text, '\\', at)?;
                    if let Some(c) = self.step() {
                        push(&mut text, c, at)?;
                    }
                }
                _ => push(&mut text, c, at)?,
            }
        }
        Err(Fault::new(at.clone(), "a quote begins here and never ends", "close it with `\"`"))
    }
}

fn push(text: &mut String, c: char, at: &Place) -> Result<(), Fault> {
    if text.len() + c.len_utf8() > WORD {
        let hint = "look for a quote that is not closed";
        return Err(Fault::new(at.clone(), format!("a word of more than {WORD} bytes"), hint));
    }
    text.push(c);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lex(text: &str) -> Result<Vec<Word>, String> {
        words(text, &Path::new("f").into(), &[]).map_err(|fault| fault.to_string())
    }

    /// The words, with `|` before each that is first on its line.
    fn shape(text: &str) -> Vec<String> {
        let show = |w: Word| format!("{}{}", if w.first { "|" } else { "" }, w.text);
        lex(text).unwrap().into_iter().map(show).collect()
    }

    #[test]
    fn blanks_part_words_and_lines_are_remembered() {
        assert_eq!(shape("a b\tc\u{a0}d\n\n  e\x0bf"), ["|a", "b", "c", "d", "|e", "f"]);
        assert_eq!(shape("\u{feff}a\r\nb\rc\r\n"), ["|a", "|bc"]);
        assert_eq!(shape(""), [""; 0]);
        assert_eq!(shape("\u{feff}  \n#"), [""; 0]);
    }

    #[test]
    fn a_place_counts_characters_from_one() {
        let words = lex("ä b\n  \"c\nd\" e").unwrap();
        let places: Vec<String> = words.iter().map(|w| w.at.to_string()).collect();
        assert_eq!(places, ["f:1:1", "f:1:3", "f:2:3", "f:3:4"]);
        // The word after a quoted one that ends on this line is no first word.
        assert_eq!(words.iter().map(|w| w.first).collect::<Vec<_>>(), [true, false, true, false]);
    }

    #[test]
    fn quotes_hold_blanks_and_escape_only_themselves() {
        assert_eq!(shape(r#""a b" "" "c\"d" "\n\\" e"f g\"#), ["|a b", "", "c\"d", "\\n\\\\", "e\"f", "g\\"]);
        assert_eq!(shape("\"a\"b"), ["|a", "b"]);
        assert_eq!(shape("\"#\r{\""), ["|#\r{"]);
        assert!(lex("\"{\"").unwrap()[0].quoted && !lex("\"{\"").unwrap()[0].is("{"));
    }

    #[test]
    fn a_line_is_not_continued_and_a_backquote_is_a_letter() {
        assert_eq!(shape("a \\\nb `c d`"), ["|a", "\\", "|b", "`c", "d`"]);
    }

    #[test]
    fn a_comment_ends_with_its_line() {
        assert_eq!(shape("a # b \"\nc#d\n# e\n\"f\"#g h"), ["|a", "|c", "|f"]);
        assert_eq!(shape("a#b #c d\ne#f  \n"), ["|a", "|e"]);
    }

    #[test]
    fn what_nobody_can_have_meant_is_a_fault() {
        assert!(lex("a\n x#y z").unwrap_err().starts_with("f:2:3: `#` inside of a word"));
        assert!(lex("a \"b\nc").unwrap_err().starts_with("f:1:3: a quote begins here"));
        assert!(lex("\"\\\"").unwrap_err().starts_with("f:1:1: a quote"));
        assert!(lex("\"\\").unwrap_err().starts_with("f:1:1: a quote"));
        assert!(lex(&"x".repeat(WORD + 1)).unwrap_err().starts_with("f:1:1: a word of more than"));
        assert!(lex(&"x".repeat(WORD)).is_ok());
        assert!(lex(&"x ".repeat(WORDS + 1)).unwrap_err().contains("more than 262144 words"));
    }
}
