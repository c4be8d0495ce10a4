//! Where a word stands, and what is wrong there.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A place in a file: `Corefile:12:5`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, as it was named.
    pub file: Arc<Path>,
    /// The line, from 1; 0 is the file as a whole.
    pub line: u32,
    /// The column, from 1, in characters.
    pub column: u32,
    /// The import that brought it here, if it was not in the Corefile itself.
    pub via: Option<Arc<Place>>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        Ok(())
    }
}

/// What is wrong with a Corefile: where, what, and what to do about it, in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where it stands.
    pub at: Place,
    /// What it is.
    pub what: String,
    /// What to do.
    pub hint: String,
}

impl Fault {
    /// Says where, what and what to do.
    pub fn new(at: Place, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { at, what: what.into(), hint: hint.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.at, self.what, self.hint)?;
        let mut via = &self.at.via;
        while let Some(import) = via {
            write!(f, " (imported at {import})")?;
            via = &import.via;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

/// A foreign word as it may be shown in one line of a terminal or a log.
pub(super) fn shown(word: &str) -> String {
    let mut kept = word.chars();
    let mut escaped: String = kept.by_ref().take(60).flat_map(char::escape_debug).collect();
    if kept.next().is_some() {
        escaped.push('…');
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_one_line_with_the_imports_that_led_to_it() {
        let place = |name: &str, line, via| Place { file: Path::new(name).into(), line, column: 2, via };
        let via = |place| Some(Arc::new(place));
        let at = place("c", 3, via(place("b", 2, via(place("a", 1, None)))));
        assert_eq!(
            Fault::new(at, "wrong", "do right").to_string(),
            "c:3:2: wrong; do right (imported at b:2:2) (imported at a:1:2)"
        );
        assert_eq!(Fault::new(place("a", 0, None), "gone", "look").to_string(), "a: gone; look");
    }

    #[test]
    fn a_foreign_word_stays_short_and_plain() {
        assert_eq!(shown("a\n\u{1b}b"), "a\\n\\u{1b}b");
        assert_eq!(shown(&"ä".repeat(61)), format!("{}…", "ä".repeat(60)));
    }
}
