//! The grammar: which words are keys, directives, arguments and blocks.
//!
//! ```text
//! corefile   = { import | snippet | block } [ keys lines ]           (the last without braces, to the end)
//! snippet    = "(" name ")" "{" anything with as many "{" as "}" "}"
//! block      = keys "{" lines "}"
//! keys       = key { [","] key }                                     (a line; after a comma, the next line too)
//! lines      = { import | directive }
//! directive  = name { argument } [ "{" lines "}" ]                   (a line; the brace at its end)
//! ```

use std::path::Path;

use super::pillar::Shift;
use super::place::shown;
use super::stream::Stream;
use super::{Block, Corefile, Directive, Fault, NESTING, Place, Surroundings, Token, key, print};

/// Reads a text as the content of the file `origin`.
pub(super) fn parse(
    text: &str,
    shifts: &[Shift],
    origin: &Path,
    around: &dyn Surroundings,
) -> Result<Corefile, Fault> {
    let mut parser = Parser { stream: Stream::new(text, shifts, origin, around)?, closed: None };
    let mut blocks = Vec::new();
    while parser.stream.peek().is_some() {
        if parser.stream.at_import() {
            parser.stream.import()?;
        } else {
            blocks.extend(parser.block_or_snippet()?);
        }
    }
    let Stream { files, folders, notes, .. } = parser.stream;
    Ok(Corefile { blocks, files, folders, notes })
}

struct Parser<'a> {
    stream: Stream<'a>,
    /// The last braces that made a pair: where one is missing, they may not have been meant to.
    closed: Option<[Place; 2]>,
}

impl Parser<'_> {
    /// A block; nothing if it was a snippet.
    fn block_or_snippet(&mut self) -> Result<Option<Block>, Fault> {
        let words = self.keys()?;
        let open = self.open_brace()?;
        let Some(at) = words.first().map(|word| word.at.clone()) else {
            return open.map_or(Ok(None), |open| Err(no_key(open)));
        };
        if let [word] = words.as_slice()
            && let Some(name) = snippet_name(word)
        {
            let Some(open) = open else {
                let hint = "write `{` after it, and `}` below what belongs to it";
                return Err(Fault::new(at, "a snippet without braces", hint));
            };
            self.stream.define(name.to_owned(), at, &open)?;
            return Ok(None);
        }
        let mut keys = Vec::new();
        for word in words {
            if word.text.is_empty() {
                let what = "an empty word is no zone and is left out";
                self.stream.note(Fault::new(word.at, what, "take it away"));
            } else {
                keys.push(key::parse(word)?);
            }
        }
        if keys.is_empty() {
            return Err(no_key(at));
        }
        let directives = self.lines(open.as_ref(), 1)?;
        Ok(Some(Block { keys, directives, at }))
    }

    /// The words up to the line's end or a brace, without their commas.
    fn keys(&mut self) -> Result<Vec<Token>, Fault> {
        let mut keys = Vec::new();
        let mut comma: Option<Place> = None;
        while let Some(word) = self.stream.peek() {
            if word.is("{") || (word.first && comma.is_none() && !keys.is_empty()) {
                break;
            }
            if word.first && word.is("import") {
                self.stream.import()?;
                continue;
            }
            let Some(mut word) = self.stream.take()? else { break };
            if word.is("}") {
                return Err(stray(word.at));
            }
            // Before the variables: a comma that one brings is no syntax.
            let follows = (!word.quoted && word.text.ends_with(',')).then(|| word.at.clone());
            if follows.is_some() {
                word.text.pop();
                word.quoted = print::needs_quotes(&word.text);
            }
            let key = self.stream.fill(word)?;
            // A word that says nothing does not keep what the comma before it promised.
            if follows.is_some() || !key.text.is_empty() {
                comma = follows;
            }
            keys.push(key);
        }
        match comma {
            Some(at) => Err(Fault::new(at, "no key follows this comma", "leave the comma out")),
            None => Ok(keys),
        }
    }

    fn open_brace(&mut self) -> Result<Option<Place>, Fault> {
        if self.stream.peek().is_some_and(|word| word.is("{")) {
            return Ok(self.stream.take()?.map(|brace| brace.at));
        }
        Ok(None)
    }

    /// Directives up to the brace that closes `open`, or to the end where there is none.
    fn lines(&mut self, open: Option<&Place>, depth: usize) -> Result<Vec<Directive>, Fault> {
        let mut lines = Vec::new();
        loop {
            match (self.stream.peek(), open) {
                (None, None) => return Ok(lines),
                (None, Some(open)) => return Err(self.never_closed(open)),
                (Some(word), _) if word.is("}") => {
                    let brace = self.stream.take()?;
                    return match (open, brace) {
                        (None, Some(brace)) => Err(stray(brace.at)),
                        (Some(open), Some(brace)) => {
                            self.closed = Some([open.clone(), brace.at]);
                            Ok(lines)
                        }
                        _ => Ok(lines),
                    };
                }
                (Some(word), _) if word.is("import") => self.stream.import()?,
                (Some(_), _) => lines.extend(self.directive(depth)?),
            }
        }
    }

    fn never_closed(&self, open: &Place) -> Fault {
        let inside = |[first, _]: &&[Place; 2]| first.file == open.file && first.line > open.line;
        let hint = match self.closed.as_ref().filter(inside) {
            Some([first, last]) => format!(
                "close it with `}}` on a line of its own; the last one, in line {}, closes the `{{` of line {}",
                last.line, first.line
            ),
            None => "close it with `}` on a line of its own".to_owned(),
        };
        Fault::new(open.clone(), "this `{` is never closed", hint)
    }

    fn directive(&mut self, depth: usize) -> Result<Option<Directive>, Fault> {
        let Some(name) = self.stream.take()? else { return Ok(None) };
        if name.is("{") {
            let hint = "put it at the end of the line that it belongs to";
            return Err(Fault::new(name.at, "`{` with nothing before it", hint));
        }
        if name.text.ends_with('{') && !name.quoted {
            let what = format!("`{}` ends with a brace", shown(&name.text));
            return Err(Fault::new(name.at, what, "put a blank before `{`, or the word in quotes"));
        }
        let name = self.stream.fill(name)?;
        let mut directive = Directive { name, arguments: Vec::new(), body: None };
        while self.stream.peek().is_some_and(|word| !word.first) {
            let Some(word) = self.stream.take()? else { break };
            if word.is("}") || directive.body.is_some() {
                let what = format!("`{}` has to stand on a line of its own", shown(&word.text));
                return Err(Fault::new(word.at, what, "break the line before it"));
            }
            if !word.is("{") {
                directive.arguments.push(self.stream.fill(word)?);
                continue;
            }
            if depth == NESTING {
                let what = format!("more than {NESTING} blocks within each other");
                return Err(Fault::new(word.at, what, "look for a `}` that is missing"));
            }
            directive.body = Some(self.lines(Some(&word.at), depth + 1)?);
        }
        Ok(Some(directive))
    }
}

fn stray(at: Place) -> Fault {
    Fault::new(at, "this `}` closes nothing", "take it away, or open its block with `{`")
}

fn no_key(at: Place) -> Fault {
    Fault::new(at, "a block without a key", "write its zones before `{`; `.` is all names")
}

/// The name of the snippet that a block with this key is.
fn snippet_name(key: &Token) -> Option<&str> {
    if key.quoted { None } else { key.text.strip_prefix('(')?.strip_suffix(')') }
}

#[cfg(test)]
mod tests {
    use super::super::Disk;
    use super::*;

    fn tree(text: &str) -> Result<Corefile, String> {
        parse(text, &[], Path::new("f"), &Disk).map_err(|fault| fault.to_string())
    }

    /// The tree in its printed form, with one blank wherever there are some.
    fn shape(text: &str) -> String {
        let printed = tree(text).unwrap().to_string();
        printed.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// What is wrong, at the place that `^` marks.
    fn refused(text: &str, what: &str) {
        let before = &text[..text.find('^').unwrap()];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        let fault = tree(&text.replacen('^', "", 1)).unwrap_err();
        assert!(
            fault.starts_with(&format!("f:{line}:{column}: ")) && fault.contains(what),
            "{text}: {fault}"
        );
    }

    #[test]
    fn a_block_has_keys_and_lines() {
        let tree = tree("a:53 b,\nc, # and so on\n d\n{\n errors\n cache 30 {\n  prefetch 1\n }\n}\n.{}")
            .unwrap_err();
        assert!(tree.starts_with("f:10:1: the key `.{}`"), "{tree}");
        assert_eq!(
            shape("a:53 b,\nc, # and so on\n d\n{\n errors\n cache 30 {\n  prefetch 1\n }\n}\n. { }"),
            "a:53 b c d { errors cache 30 { prefetch 1 } } . { }"
        );
    }

    #[test]
    fn lines_may_begin_beside_their_brace_and_a_block_beside_the_last_ones_end() {
        assert_eq!(
            shape("a { errors\n hosts { b c\n}\nlog { }\n} d {\n}"),
            "a { errors hosts { b c } log { } } d { }"
        );
    }

    #[test]
    fn the_last_block_needs_no_braces() {
        assert_eq!(shape("a {\n}\nb\nerrors\nx y {\n z\n}\n"), "a { } b { errors x y { z } }");
        assert_eq!(shape("a b"), "a b { }");
        assert_eq!(shape(" # nothing\n"), "");
    }

    #[test]
    fn a_quoted_word_is_never_syntax() {
        assert_eq!(
            shape("a {\n x \"{\" \"}\"\n \"import\" y\n \"}\"\n}"),
            r#"a { x "{" "}" "import" y "}" }"#
        );
        assert_eq!(shape("a {\n x y\\\" \"y\\\"\" {{ }} {b}\n}"), r#"a { x y\" "y\"" {{ }} {b} }"#);
        assert_eq!(shape("import, b {\n}"), r#""import" b { }"#);
    }

    #[test]
    fn braces_that_do_not_match_are_faults_where_they_stand() {
        refused("a ^{\n errors", "never closed");
        refused("a {\n b ^{\n c {\n }\n", "the last one, in line 4, closes the `{` of line 3");
        refused("a {\n}\nb ^{\n", "closed; close it with `}` on a line of its own");
        refused("a\nerrors\n^}\nb {\n}", "closes nothing");
        refused("a {\n}\n^}", "closes nothing");
        refused("^{\n errors\n}", "without a key");
        refused("^\"\" {\n errors\n}", "without a key");
        refused("a {\n errors ^}", "a line of its own");
        refused("a {\n b { c ^}\n}", "a line of its own");
        refused("a {\n b {\n c\n } ^d\n}", "a line of its own");
        refused("a {\n b {\n c {\n d\n } ^}\n}", "a line of its own");
        refused("a {\n b\n ^{\n c\n }\n}", "nothing before it");
        refused("a {\n ^b{\n c\n }\n}", "ends with a brace");
        refused("^a{\n b\n}", "put a blank before a brace");
    }

    #[test]
    fn a_comma_promises_a_key() {
        refused("a ^b, {\n}", "no key follows");
        refused("^a,", "no key follows");
        refused("^a, \"\"", "no key follows");
        refused("^a,b {\n}", "put a blank after a comma");
    }

    #[test]
    fn an_empty_word_is_no_key_and_is_told() {
        let tree = tree("a \"\" {\n}").unwrap();
        assert_eq!((tree.blocks[0].keys.len(), tree.notes.len()), (1, 1));
        assert!(tree.notes[0].to_string().starts_with("f:1:3: an empty word"));
    }

    #[test]
    fn blocks_nest_so_far_and_no_further() {
        let nested = |n: usize| format!("a {{\n{}{}}}", "b {\n".repeat(n), "}\n".repeat(n));
        assert!(tree(&nested(NESTING - 1)).is_ok());
        assert!(tree(&nested(NESTING)).unwrap_err().starts_with("f:17:3: more than 16 blocks"));
        assert!(tree(&"a {\n".repeat(100_000)).is_err());
    }
}
