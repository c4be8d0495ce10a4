//! What is wrong with a rule, and what to write instead.

use std::fmt;

/// A piece of configuration that cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub hint: String,
    /// Which of the words that were given it is about, counted from 0.
    pub word: Option<usize>,
}

impl Refused {
    /// Says what is wrong and what to do.
    pub fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: hint.into(), word: None }
    }

    /// It is about word number `word`.
    #[must_use]
    pub fn at(self, word: usize) -> Self {
        Self { word: Some(word), ..self }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.hint)
    }
}

impl std::error::Error for Refused {}

/// A foreign word as it may be shown in a message.
pub(super) fn shown(word: &str) -> String {
    let mut escaped: String = word.escape_debug().take(80).collect();
    if escaped.len() < word.len() {
        escaped.push('…');
    }
    escaped
}
