//! The fuzz body of the Corefile: whatever the bytes, no panic and an end; what is read prints and reads back.

use std::io;
use std::path::Path;

use super::pillar::{self, Variables};
use super::{Block, Corefile, Directive, Surroundings, Token, parse};

/// Its files all have the text itself, its folders three of them, and a variable's value is its name backwards.
struct Mirror<'t>(&'t str);

impl Surroundings for Mirror<'_> {
    fn file(&self, path: &Path) -> io::Result<String> {
        let name = path.to_string_lossy();
        let part = self.0.split("---").nth(name.len() % 4);
        part.map(str::to_owned).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn folder(&self, _path: &Path) -> io::Result<Vec<String>> {
        Ok(["a", "b.c", "dd.e"].map(str::to_owned).into())
    }

    fn variable(&self, name: &str) -> Option<String> {
        (name != "NONE").then(|| name.chars().rev().collect())
    }
}

/// Fills and reads the bytes as a Corefile; its parts between `---` are the files that it can import.
pub fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let around = Mirror(&text);
    let first = text.split("---").next().unwrap_or_default();
    let one = Some("1".to_owned());
    let variables = Variables { domain: one.clone(), local: one, ..Variables::default() };
    if let Ok(filled) = pillar::fill(first, Path::new("fuzz"), &variables) {
        assert_eq!(filled.text().lines().count(), first.lines().count(), "lines stay lines");
    }
    match parse(first, Path::new("fuzz"), &around) {
        Ok(tree) => {
            let printed = tree.to_string();
            let again = parse(&printed, Path::new("printed"), &around);
            assert!(again.is_ok_and(|again| same(&tree, &again)), "it reads back as it was:\n{printed}");
        }
        Err(fault) => {
            assert!(!fault.what.is_empty() && !fault.hint.is_empty(), "a fault says what and what to do")
        }
    }
}

/// Whether two trees say the same, wherever they stand.
fn same(a: &Corefile, b: &Corefile) -> bool {
    all(&a.blocks, &b.blocks, |a: &Block, b: &Block| {
        all(&a.keys, &b.keys, |a, b| {
            a.token.text == b.token.text && (a.transport, &a.zones, a.port) == (b.transport, &b.zones, b.port)
        }) && all(&a.directives, &b.directives, line)
    })
}

fn line(a: &Directive, b: &Directive) -> bool {
    let bodies = match (&a.body, &b.body) {
        (Some(a), Some(b)) => all(a, b, line),
        (a, b) => a.is_none() && b.is_none(),
    };
    bodies && word(&a.name, &b.name) && all(&a.arguments, &b.arguments, word)
}

fn word(a: &Token, b: &Token) -> bool {
    (&a.text, a.quoted) == (&b.text, b.quoted)
}

fn all<T>(a: &[T], b: &[T], same: impl Fn(&T, &T) -> bool) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
}
