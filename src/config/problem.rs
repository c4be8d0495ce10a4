//! What is wrong with a configuration: where it stands, what it is, what to do about it.
//!
//! Three steps, from small to whole: a [`Wrong`] knows only a piece of text (a flag's value, a string in the
//! file); a [`Fault`] also knows its key and its place in the file; a [`Problem`] is what people read. A [`Note`] is
//! no problem: it is told, and that is all.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::local::Refused;

/// Source lines longer than this are not shown again below a message.
const EXCERPT: usize = 160;

/// What is wrong with a piece of text, and what could stand there instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    what: String,
    hint: String,
}

impl Wrong {
    /// Says what is wrong and what to do.
    pub fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: hint.into() }
    }

    /// Names what it is about: a flag.
    pub(super) fn of(self, name: &str) -> Self {
        Self { what: format!("{name}: {}", self.what), ..self }
    }

    /// What is wrong, and what to do.
    pub(super) fn into_parts(self) -> (String, String) {
        (self.what, self.hint)
    }

    /// A value that lies outside of its limits.
    pub fn bounds(value: impl fmt::Display, min: impl fmt::Display, max: impl fmt::Display) -> Self {
        Self::new(format!("{value} is out of bounds"), format!("give {min} to {max}"))
    }

    /// A word that is not known, where `known` are the words that are.
    pub fn unknown<'k>(kind: &str, word: &str, known: impl IntoIterator<Item = &'k str>) -> Self {
        Self::near(format!("unknown {kind} `{}`", shown(word)), word, known)
    }

    /// Something wrong with `word`: perhaps one of the known words was meant.
    pub fn near<'k>(what: impl Into<String>, word: &str, known: impl IntoIterator<Item = &'k str>) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        match nearest(word, &known) {
            Some(near) => Self::new(what, format!("did you mean `{near}`?")),
            None => Self::new(what, format!("known: {}", known.join(", "))),
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.hint)
    }
}

impl std::error::Error for Wrong {}

impl From<Refused> for Wrong {
    fn from(refused: Refused) -> Self {
        Self::new(refused.what, refused.hint)
    }
}

/// A foreign word as it may be shown in one line of a terminal or a log.
pub fn shown(word: &str) -> String {
    let mut escaped: String = word.escape_debug().take(80).collect();
    if escaped.len() < word.len() {
        escaped.push('…');
    }
    escaped
}

/// The known word that somebody most likely meant: a third of its letters may differ.
fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    if word.len() > 64 {
        return None;
    }
    let word = word.to_ascii_lowercase();
    let distance = |k: &str| strsim::damerau_levenshtein(&word, k);
    let best = known.iter().copied().min_by_key(|k| distance(k))?;
    (distance(best) <= (best.len() / 3).max(1)).then_some(best)
}

/// Something wrong at a key.
#[derive(Debug)]
pub(super) struct Fault {
    /// The bytes of the file that it is about.
    pub span: Option<Range<usize>>,
    /// The key, with its section; empty where the message names what it is about.
    pub key: String,
    /// What it is.
    pub wrong: Wrong,
}

impl Fault {
    /// Something wrong with these bytes; whoever knows the key adds it.
    pub fn at(span: Range<usize>, wrong: Wrong) -> Self {
        Self { span: Some(span), key: String::new(), wrong }
    }

    /// Names the key, unless one nearer to the place did.
    pub fn of(mut self, key: &str) -> Self {
        if self.key.is_empty() {
            self.key = key.to_owned();
        }
        self
    }
}

/// A place in a file, as editors count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    /// The file, as it was named.
    pub file: Arc<Path>,
    /// The line, from 1; 0 is the file as a whole.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        Ok(())
    }
}

/// Where a key has its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// These bytes of the one text in TOML.
    Toml(Range<usize>),
    /// A word of a Corefile, or of a file that it imports.
    Corefile(Spot),
}

impl Place {
    /// Something wrong there; `text` is the content of the source itself, `origin`.
    pub fn problem(&self, origin: &str, text: &str, what: impl fmt::Display) -> Problem {
        match self {
            Self::Toml(span) => Problem::in_text(origin, text, span.clone(), what),
            Self::Corefile(spot) => {
                Problem::at(spot, Some(text).filter(|_| *spot.file == *Path::new(origin)), what)
            }
        }
    }
}

/// What was read and may not be what was meant, or cannot be honoured and was let pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Where.
    pub at: Spot,
    /// What it is, in one line.
    pub what: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.what)
    }
}

/// Why a configuration cannot be used: where (file, line, column), what, and what to do.
///
/// It prints as a line for people and logs, and below it the source line with a caret, where there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    summary: String,
    excerpt: Option<String>,
    from_config_map: bool,
}

impl Problem {
    /// A problem with no place in a text: `origin` is a file or a flag.
    pub fn new(origin: impl fmt::Display, what: impl fmt::Display) -> Self {
        Self { summary: format!("{origin}: {what}"), excerpt: None, from_config_map: false }
    }

    /// A problem at a place in `text`, the content of `origin`.
    pub(super) fn in_text(origin: &str, text: &str, span: Range<usize>, what: impl fmt::Display) -> Self {
        let mut start = span.start.min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let before = &text[..start];
        let line = before.matches('\n').count() + 1;
        let line_start = before.rfind('\n').map_or(0, |n| n + 1);
        let column = before[line_start..].chars().count() + 1;
        let source = text[line_start..].lines().next().unwrap_or_default();
        let wide = text.get(start..span.end.min(line_start + source.len())).map_or(1, |s| s.chars().count());
        Self {
            summary: format!("{origin}:{line}:{column}: {what}"),
            excerpt: excerpt(source, line, column, wide),
            from_config_map: false,
        }
    }

    /// A problem at a place in a file. Its line is shown too, where the file's `text` is at hand.
    pub(super) fn at(spot: &Spot, text: Option<&str>, what: impl fmt::Display) -> Self {
        let source = text.and_then(|text| text.lines().nth(spot.line.checked_sub(1)?));
        let column = spot.column.max(1);
        // A word's width is not told: its first character is pointed at.
        let fits = |source: &&str| column <= source.chars().count();
        Self {
            summary: format!("{spot}: {what}"),
            excerpt: source.filter(fits).and_then(|source| excerpt(source, spot.line, column, 1)),
            from_config_map: false,
        }
    }

    /// The same, of what node-cache counts as an error of its ConfigMaps.
    pub(super) fn of_config_map(self) -> Self {
        Self { from_config_map: true, ..self }
    }

    /// Whether node-cache would count it as an error of its ConfigMaps.
    pub fn is_of_config_map(&self) -> bool {
        self.from_config_map
    }

    /// The first line alone: where, what, and what to do.
    pub fn summary(&self) -> &str {
        &self.summary
    }
}

/// The source line and carets below it, unless it is empty or too long to help.
fn excerpt(source: &str, line: usize, column: usize, wide: usize) -> Option<String> {
    let length = source.chars().count();
    if source.trim().is_empty() || length > EXCERPT {
        return None;
    }
    // Control characters would move the caret, or do worse things to a terminal.
    let plain: String = source.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let margin = " ".repeat(line.to_string().len());
    let indent = " ".repeat(column - 1);
    let carets = "^".repeat(wide.max(1));
    Some(format!("{margin} |\n{line} | {}\n{margin} | {indent}{carets}", plain.trim_end()))
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.summary)?;
        match &self.excerpt {
            Some(excerpt) => write!(f, "\n{excerpt}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_counts_lines_and_characters_from_one() {
        let text = "a = 1\r\n\tß = tru\n";
        let at = text.find("tru").unwrap();
        let p = Problem::in_text("f", text, at..at + 3, "no");
        assert_eq!(p.to_string(), "f:2:6: no\n  |\n2 |  ß = tru\n  |      ^^^");
    }

    #[test]
    fn a_place_past_the_end_or_inside_a_character_is_still_a_place() {
        assert_eq!(Problem::in_text("f", "", 7..9, "no").to_string(), "f:1:1: no");
        assert_eq!(Problem::in_text("f", "a\n", 2..2, "no").to_string(), "f:2:1: no");
        assert!(Problem::in_text("f", "ß", 1..2, "no").to_string().starts_with("f:1:1: no"));
    }

    #[test]
    fn a_place_in_a_file_is_shown_where_its_text_is_at_hand() {
        let at = |file: &str, line, column| {
            Place::Corefile(Spot { file: Path::new(file).into(), line, column })
                .problem("Corefile", ". {\n  cahce\n}\n", "no")
                .to_string()
        };
        assert_eq!(at("Corefile", 2, 3), "Corefile:2:3: no\n  |\n2 |   cahce\n  |   ^");
        assert_eq!(at("imported", 2, 3), "imported:2:3: no");
        assert_eq!(at("Corefile", 0, 0), "Corefile: no");
        assert_eq!(at("Corefile", 9, 9), "Corefile:9:9: no");
    }

    #[test]
    fn only_a_near_word_is_suggested() {
        let known = ["size", "prefetches"];
        assert_eq!(
            Wrong::unknown("key", "sise", known).to_string(),
            "unknown key `sise`; did you mean `size`?"
        );
        assert_eq!(
            Wrong::unknown("key", "colour", known).to_string(),
            "unknown key `colour`; known: size, prefetches"
        );
    }
}
