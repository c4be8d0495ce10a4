//! `{$NAME}` and `{%NAME%}` in a word: the environment's value stands there instead.
//!
//! A value never is syntax, and is not looked into again: one that makes another reference, or that no
//! Corefile could say, is refused. So what was read can be printed and reads back the same.

use super::lexer::Word;
use super::place::shown;
use super::{Fault, Place, Token, WORD, print};

/// What a word says once its variables are replaced, and the names of those that are not set.
pub(super) fn fill(
    word: Word,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<(Token, Vec<String>), Fault> {
    let Word { text, at, mut quoted, .. } = word;
    let mut filled = String::new();
    let mut unset = Vec::new();
    let mut rest = text.as_str();
    while let Some(reference) = find(rest) {
        let name = checked(reference.name, &at)?;
        let value = variable(name).unwrap_or_else(|| {
            unset.push(name.to_owned());
            String::new()
        });
        filled.push_str(&rest[..reference.start]);
        filled.push_str(&value);
        if filled.len() > WORD {
            let what = format!("with the value of `{name}` a word has more than {WORD} bytes");
            return Err(Fault::new(at, what, "give the variable a shorter value"));
        }
        rest = &rest[reference.end..];
    }
    if rest.len() == text.len() {
        return Ok((Token { text, at, quoted }, unset));
    }
    filled.push_str(rest);
    if find(&filled).is_some() {
        let hint = "write the other variable into the Corefile itself";
        return Err(Fault::new(at, "the value of a variable brings another variable", hint));
    }
    quoted |= print::needs_quotes(&filled);
    if quoted && !print::may_be_quoted(&filled) {
        let hint = "leave out the backslash";
        return Err(Fault::new(at, "the value of a variable has a `\\` before a quote or at its end", hint));
    }
    Ok((Token { text: filled, at, quoted }, unset))
}

struct Reference<'t> {
    start: usize,
    end: usize,
    name: &'t str,
}

/// The first reference. One that is empty or never ends is only letters.
fn find(text: &str) -> Option<Reference<'_>> {
    let mut from = 0;
    let mut percent = true;
    while let Some(open) = text[from..].find('{') {
        let start = from + open;
        let inner = start + 2;
        let close = match text.as_bytes().get(start + 1) {
            Some(b'$') => "}",
            Some(b'%') if percent => "%}",
            _ => {
                from = start + 1;
                continue;
            }
        };
        match text[inner..].find(close) {
            Some(0) => {}
            Some(length) => {
                let name = &text[inner..inner + length];
                return Some(Reference { start, end: inner + length + close.len(), name });
            }
            // No later one ends either: not looking again keeps this linear.
            None if close == "}" => return None,
            None => percent = false,
        }
        from = inner;
    }
    None
}

fn checked<'n>(name: &'n str, at: &Place) -> Result<&'n str, Fault> {
    if name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b)) {
        return Ok(name);
    }
    let hint = if name.contains(':') {
        "leave out the default value, which CoreDNS does not know, and set the variable"
    } else {
        "`{$` and `{%` begin a variable everywhere; write a name with letters, digits, `_`, `-` and `.`"
    };
    Err(Fault::new(at.clone(), format!("`{}` is no variable's name", shown(name)), hint))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn filled(text: &str) -> Result<(String, bool, usize), String> {
        let at = Place { file: Path::new("f").into(), line: 1, column: 1, via: None };
        let word = Word { text: text.to_owned(), at, quoted: false, first: true };
        let variable = |name: &str| match name {
            "A" => Some("one".to_owned()),
            "BLANK" => Some("a b".to_owned()),
            "BRACE" => Some("{".to_owned()),
            "SLASH" => Some("a b\\".to_owned()),
            "LONG" => Some("x".repeat(WORD)),
            _ => None,
        };
        let (token, unset) = fill(word, &variable).map_err(|fault| fault.to_string())?;
        Ok((token.text, token.quoted, unset.len()))
    }

    #[test]
    fn both_ways_of_writing_stand_for_a_value_anywhere_in_a_word() {
        let ok = |text: &str| Ok((text.to_owned(), false, 0));
        assert_eq!(filled("x{$A}y{%A%}z"), ok("xoneyonez"));
        for letters in ["{$}", "{%%}", "{%}", "{$A", "{%A}", "{A}", "{{", "{", "é{"] {
            assert_eq!(filled(letters), ok(letters));
        }
        assert_eq!(filled("{$}{%A{$A}"), ok("{$}{%Aone"));
    }

    #[test]
    fn a_variable_that_is_not_set_is_empty_and_told() {
        assert_eq!(filled("{$NONE}"), Ok((String::new(), true, 1)));
    }

    #[test]
    fn a_value_is_text_and_never_syntax() {
        assert_eq!(filled("{$BLANK}"), Ok(("a b".to_owned(), true, 0)));
        assert_eq!(filled("{$BRACE}"), Ok(("{".to_owned(), true, 0)));
        assert!(filled("{$BRACE}$A}").unwrap_err().contains("brings another variable"));
        assert!(filled("{$SLASH}").unwrap_err().contains("at its end"));
        assert!(filled("{$LONG}x{$A}").unwrap_err().contains("more than"));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        assert!(filled("{$A:b}").unwrap_err().contains("default value"));
        assert!(filled("{{$x := .Name}}").unwrap_err().contains("is no variable's name"));
        assert!(filled("{$A=}").unwrap_err().contains("is no variable's name"));
    }
}
