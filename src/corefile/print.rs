//! The tree as a Corefile again: every import and variable replaced, one way of writing everything.

use std::fmt::{self, Write};

use super::{Block, Corefile, Directive, Token};

/// Writes a Corefile that reads back as the same tree.
impl fmt::Display for Corefile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, block) in self.blocks.iter().enumerate() {
            if i > 0 {
                f.write_char('\n')?;
            }
            write!(f, "{block}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, key) in self.keys.iter().enumerate() {
            // An empty word stood before it, so that it was no directive.
            let quoted = key.token.quoted || i == 0 && key.token.text == "import";
            write!(f, "{} ", Token { quoted, ..key.token.clone() })?;
        }
        body(f, &self.directives, 0)
    }
}

impl fmt::Display for Directive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(f, self, 0)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.quoted {
            write!(f, "\"{}\"", self.text.replace('"', "\\\""))
        } else {
            f.write_str(&self.text)
        }
    }
}

fn line(f: &mut fmt::Formatter<'_>, directive: &Directive, depth: usize) -> fmt::Result {
    write!(f, "{:1$}{2}", "", depth * 4, directive.name)?;
    for argument in &directive.arguments {
        write!(f, " {argument}")?;
    }
    match &directive.body {
        None => f.write_char('\n'),
        Some(lines) => {
            f.write_char(' ')?;
            body(f, lines, depth)
        }
    }
}

fn body(f: &mut fmt::Formatter<'_>, lines: &[Directive], depth: usize) -> fmt::Result {
    f.write_str("{\n")?;
    for directive in lines {
        line(f, directive, depth + 1)?;
    }
    writeln!(f, "{:1$}}}", "", depth * 4)
}

/// Whether a word would be something else without quotes.
pub(super) fn needs_quotes(text: &str) -> bool {
    text.is_empty()
        || ["{", "}", "import"].contains(&text)
        || text.starts_with(['"', '\u{feff}'])
        || text.ends_with(['{', ','])
        || text.contains(|c: char| c == '#' || c.is_whitespace())
}

/// Whether a word can be written in quotes: `\"` is the only escape, so a quote or the end has no odd number of
/// backslashes before it.
pub(super) fn may_be_quoted(text: &str) -> bool {
    let mut odd = false;
    for c in text.chars() {
        if c == '"' && odd {
            return false;
        }
        odd = c == '\\' && !odd;
    }
    !odd
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_backslash_before_a_quote_cannot_be_written() {
        for (text, expected) in
            [("", true), ("\\", false), ("\\\\", true), ("\\\"", false), ("\\\\\"", true), ("\\a\"", true)]
        {
            assert_eq!(may_be_quoted(text), expected, "{text}");
        }
    }
}
