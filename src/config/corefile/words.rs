//! The words of a line, taken one after the other, each read as what it has to be.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use crate::config::name::ZoneName;
use crate::config::node_cache::go_duration;
use crate::config::problem::{Wrong, shown};
use crate::corefile::{Directive, Fault, Token};
use crate::local::Refused;

/// The words of a line that are not taken yet.
pub(super) struct Words<'d> {
    line: &'d Directive,
    left: &'d [Token],
}

impl<'d> Words<'d> {
    /// Those behind the line's name.
    pub fn of(line: &'d Directive) -> Self {
        Self { line, left: &line.arguments }
    }

    /// The next word, if there is one.
    pub fn next(&mut self) -> Option<&'d Token> {
        let (first, left) = self.left.split_first()?;
        self.left = left;
        Some(first)
    }

    /// The next word, which has to be there: `wanted` says what it is.
    pub fn need(&mut self, wanted: &str) -> Result<&'d Token, Fault> {
        let name = &self.line.name;
        let missing = || {
            let what = format!("`{}` lacks {wanted}", shown(&name.text));
            Fault::new(name.at.clone(), what, "write it on the same line")
        };
        self.next().ok_or_else(missing)
    }

    /// All that are left, one at least.
    pub fn some(&mut self, wanted: &str) -> Result<&'d [Token], Fault> {
        let all = self.left;
        self.need(wanted)?;
        self.left = &[];
        Ok(all)
    }

    /// All that are left.
    pub fn rest(&mut self) -> &'d [Token] {
        std::mem::take(&mut self.left)
    }

    /// Nothing may be left, nor a block.
    pub fn end(self) -> Result<(), Fault> {
        if self.line.body.is_some() {
            let what = format!("`{}` has no block", shown(&self.line.name.text));
            return Err(Fault::new(self.line.at().clone(), what, "leave the braces out"));
        }
        self.end_of_line()
    }

    /// Nothing may be left; a block may follow.
    pub fn end_of_line(self) -> Result<(), Fault> {
        let Some(word) = self.left.first() else { return Ok(()) };
        let what =
            format!("`{}` is one word too many for `{}`", shown(&word.text), shown(&self.line.name.text));
        Err(Fault::new(word.at.clone(), what, "leave it out"))
    }
}

/// The lines of a directive's block; none without one.
pub(super) fn body(line: &Directive) -> impl Iterator<Item = &Directive> {
    line.body.iter().flatten()
}

/// A line that is not known in the block of `parent`.
pub(super) fn unknown<T>(line: &Directive, parent: &str, known: &[&str]) -> Result<T, Fault> {
    let what = format!("unknown property `{}` of `{parent}`", shown(&line.name.text));
    Err(near(&line.name, what, known))
}

/// A word that is not one of those that are known.
pub(super) fn near(word: &Token, what: String, known: &[&str]) -> Fault {
    wrong(word, Wrong::near(what, &word.text, known.iter().copied()))
}

/// Something wrong with a word.
pub(super) fn wrong(word: &Token, wrong: Wrong) -> Fault {
    let (what, hint) = wrong.into_parts();
    let mark = word.text.chars().last().filter(|last| ",;".contains(*last) && word.text.len() > 1);
    let hint = mark.map_or(hint, |mark| format!("leave out the `{mark}`: blanks alone part words"));
    Fault::new(word.at.clone(), what, hint)
}

/// What a rule refuses: of these words, or of the line as a whole.
pub(super) fn refused(line: &Token, words: &[&Token], refused: Refused) -> Fault {
    let word = refused.word.and_then(|word| words.get(word).copied()).unwrap_or(line);
    Fault::new(word.at.clone(), refused.what, refused.hint)
}

/// A word that is read as text is.
pub(super) fn parse<T: FromStr<Err = Wrong>>(word: &Token) -> Result<T, Fault> {
    word.text.parse().map_err(|e| wrong(word, e))
}

/// A whole number.
pub(super) fn number<T: FromStr<Err: Display>>(word: &Token) -> Result<T, Fault> {
    let plain = word.text.bytes().all(|b| b.is_ascii_digit());
    let number = word.text.parse().ok().filter(|_| plain);
    let what = || format!("`{}` is no whole number", shown(&word.text));
    number.ok_or_else(|| Fault::new(word.at.clone(), what(), "write digits only, like 30"))
}

/// Seconds, one at least.
pub(super) fn seconds(word: &Token) -> Result<Duration, Fault> {
    match number::<u32>(word)? {
        0 => Err(Fault::new(word.at.clone(), "a TTL of 0 is none", "give 1 or more seconds")),
        seconds => Ok(Duration::from_secs(seconds.into())),
    }
}

/// A duration as Go writes it.
pub(super) fn duration(word: &Token) -> Result<Duration, Fault> {
    let text = word.text.as_str();
    let zero = (text == "0").then_some(Duration::ZERO);
    let time = zero.or_else(|| go_duration(text).filter(|_| !text.is_empty()));
    let what = || format!("`{}` is no duration", shown(text));
    time.ok_or_else(|| Fault::new(word.at.clone(), what(), "write a number with ms, s, m or h, like 10s"))
}

/// Zones: names, or networks that stand for their reverse zones.
pub(super) fn zones<'t>(words: impl IntoIterator<Item = &'t Token>) -> Result<Vec<ZoneName>, Fault> {
    let mut zones = Vec::new();
    for word in words {
        let key = crate::corefile::key(word.clone())?;
        if key.port.is_some() || word.text.contains("://") {
            let what = format!("`{}` is more than a zone", shown(&word.text));
            return Err(Fault::new(word.at.clone(), what, "write the name alone"));
        }
        zones.extend(names(&key)?);
    }
    Ok(zones)
}

/// The names of a key's zones.
pub(super) fn names(key: &crate::corefile::Key) -> Result<Vec<ZoneName>, Fault> {
    key.zones.iter().map(|zone| zone.parse().map_err(|e| wrong(&key.token, e))).collect()
}
