//! Imports and snippets: what is put on the stack of a [`Stream`].

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::lexer::Word;
use super::place::shown;
use super::source::Pattern;
use super::stream::{Frame, Stream, remember};
use super::{DEPTH, Fault, IMPORTS, Place, Token};

impl Stream<'_> {
    /// Takes the words of a snippet, whose `{` is taken already.
    pub fn define(&mut self, name: String, at: Place, open: &Place) -> Result<(), Fault> {
        if let Some((first, _)) = self.snippets.get(&name) {
            let what = format!("the snippet `({})` stands at {first} already", shown(&name));
            return Err(Fault::new(at, what, "give it another name"));
        }
        let mut words: Vec<Word> = Vec::new();
        let mut depth = 1;
        while let Some(word) = self.take()? {
            depth += usize::from(word.is("{"));
            depth -= usize::from(word.is("}"));
            if depth == 0 {
                if let Some(word) = words.first_mut() {
                    word.first = true;
                }
                self.snippets.insert(name, (at, words.into()));
                return Ok(());
            }
            words.push(word);
        }
        Err(Fault::new(open.clone(), "this `{` is never closed", "close it with `}` on a line of its own"))
    }

    /// Whether an import comes next.
    pub fn at_import(&mut self) -> bool {
        self.peek().is_some_and(|word| word.is("import"))
    }

    /// Takes an import, so that what it brings comes next.
    pub fn import(&mut self) -> Result<(), Fault> {
        let Some(import) = self.take()? else { return Ok(()) };
        let what = match self.take_beside()? {
            Some(word) if !word.is("{") => self.fill(word)?,
            _ => {
                let hint = "name a snippet or a file after it, on the same line";
                return Err(Fault::new(import.at, "`import` of nothing", hint));
            }
        };
        if let Some(word) = self.take_beside()? {
            let hint = "write one import on a line; CoreDNS knows no arguments for snippets";
            return Err(Fault::new(word.at, "`import` takes one snippet, file or pattern", hint));
        }
        if what.text.is_empty() {
            return Err(Fault::new(what.at, "`import` of nothing", "name a snippet or a file"));
        }
        let via = Arc::new(import.at);
        match self.snippets.get(&what.text) {
            Some((_, words)) => {
                let words = words.clone();
                let under_way = self.frames.iter().any(|f| f.snippet.as_ref() == Some(&what.text));
                self.count_import(under_way, &what.text, &via)?;
                self.frames.push(Frame { words, taken: 0, via: Some(via), snippet: Some(what.text) });
                Ok(())
            }
            None => self.import_files(&what, &via),
        }
    }

    /// Takes the next word if it is on the same line. What is read to its end stays on the stack: it is under way
    /// until the import at its end is over.
    fn take_beside(&mut self) -> Result<Option<Word>, Fault> {
        let beside = self.frames.last().and_then(|frame| frame.words.get(frame.taken));
        if beside.is_some_and(|word| !word.first) { self.take() } else { Ok(None) }
    }

    fn import_files(&mut self, what: &Token, via: &Arc<Place>) -> Result<(), Fault> {
        let path = what.at.file.parent().unwrap_or(Path::new("")).join(&what.text);
        let wrong = |what: String, hint: &str| Fault::new((**via).clone(), what, hint);
        let shown = shown(&what.text);
        let pattern = Pattern::of(&path).map_err(|hint| wrong(format!("`{shown}` is no pattern"), hint))?;
        let paths = match &pattern {
            Some(pattern) => self.matching(pattern, via)?,
            None => vec![path],
        };
        let mut words = Vec::new();
        for path in paths {
            // The last word that was taken of a frame tells which of its files is under way.
            let current = |f: &Frame| f.taken.checked_sub(1).map(|last| f.words[last].at.file.clone());
            let under_way =
                self.frames.iter().any(|f| f.snippet.is_none() && current(f).as_deref() == Some(&path));
            self.count_import(under_way, &path.display().to_string(), via)?;
            let text = self.around.file(&path).map_err(|error| match pattern {
                Some(_) => wrong(
                    format!("{} cannot be read: {error}", path.display()),
                    "let the pattern find readable files only",
                ),
                None => wrong(
                    format!("`{shown}` is no snippet above, and {} cannot be read: {error}", path.display()),
                    "define the snippet before it is imported, or name a file that can be read",
                ),
            })?;
            words.extend(self.open(&path, &text, &[], via)?);
        }
        self.frames.push(Frame { words: words.into(), taken: 0, via: Some(via.clone()), snippet: None });
        Ok(())
    }

    /// The files that a pattern finds, in the order of their names.
    fn matching(&mut self, pattern: &Pattern, via: &Place) -> Result<Vec<PathBuf>, Fault> {
        remember(&mut self.folders, &pattern.folder);
        let mut names = match self.around.folder(&pattern.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let what = format!("{} cannot be listed: {error}", pattern.folder.display());
                return Err(Fault::new(via.clone(), what, "name a folder that this process may read"));
            }
            names => names.unwrap_or_default(),
        };
        names.retain(|name| pattern.matches(name));
        names.sort_unstable();
        if names.is_empty() {
            let hint = "this is fine if files may appear there later";
            self.note(Fault::new(via.clone(), format!("no file in {} fits", pattern.folder.display()), hint));
        }
        Ok(names.into_iter().map(|name| pattern.folder.join(name)).collect())
    }

    /// Counts an import, which may not be one of itself.
    fn count_import(&mut self, under_way: bool, what: &str, via: &Place) -> Result<(), Fault> {
        self.imports += 1;
        let (wrong, hint) = if under_way {
            (format!("`{}` imports itself", shown(what)), "break the circle")
        } else if self.frames.len() > DEPTH {
            (format!("more than {DEPTH} imports within each other"), "write it flatter")
        } else if self.imports > IMPORTS {
            (format!("more than {IMPORTS} imports"), "look for imports that repeat each other")
        } else {
            return Ok(());
        };
        Err(Fault::new(via.clone(), wrong, hint))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Corefile, FILE, NOTES, Surroundings, WORDS, parse};
    use super::*;

    /// Files, each with its content; the rest does not exist.
    struct Files<'t>(&'t [(&'t str, &'t str)]);

    impl Surroundings for Files<'_> {
        fn file(&self, path: &Path) -> io::Result<String> {
            let found = self.0.iter().find(|(name, _)| Path::new(name) == path);
            found.map(|(_, text)| (*text).to_owned()).ok_or_else(|| io::ErrorKind::NotFound.into())
        }

        fn folder(&self, path: &Path) -> io::Result<Vec<String>> {
            let inside = |name: &&str| Path::new(name).parent() == Some(path);
            let names: Vec<String> = self
                .0
                .iter()
                .map(|(name, _)| *name)
                .filter(inside)
                .collect::<Vec<_>>()
                .iter()
                .filter_map(|name| Some(Path::new(name).file_name()?.to_str()?.to_owned()))
                .collect();
            if names.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(names) }
        }

        fn variable(&self, name: &str) -> Option<String> {
            (name == "WHICH").then(|| "s".to_owned())
        }
    }

    fn tree(text: &str, files: &[(&str, &str)]) -> Result<Corefile, String> {
        parse(text, Path::new("d/f"), &Files(files)).map_err(|fault| fault.to_string())
    }

    fn shape(text: &str, files: &[(&str, &str)]) -> String {
        let printed = tree(text, files).unwrap().to_string();
        printed.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_snippet_stands_wherever_it_is_imported() {
        let snippet = "(s) { errors\n log {\n class all\n }\n}\n";
        assert_eq!(
            shape(&format!("{snippet}a {{\n import s\n b {{ c\n import {{$WHICH}}\n }}\n}}\n"), &[]),
            "a { errors log { class all } b { c errors log { class all } } }"
        );
        assert_eq!(shape("(s) {\n a {\n b\n }\n}\nimport s\nimport s\n", &[]), "a { b } a { b }");
        assert_eq!(shape("(s) {\n}\na {\n import s\n b\n}", &[]), "a { b }");
        assert_eq!(shape("(s) {\n b\n}\na,\nimport s\nc {\n}", &[]), "a b { c { } }");
    }

    #[test]
    fn a_files_imports_are_beside_it() {
        let files = [
            ("d/e/g", "import h\nimport /i\nimport ../j"),
            ("d/e/h", "b"),
            ("/i", "c 1"),
            ("d/e/../j", "\"\""),
        ];
        assert_eq!(shape("a {\n import e/g\n z\n}", &files), r#"a { b c 1 "" z }"#);
        let tree = tree("a {\n import e/g\n}", &files).unwrap();
        let expected: Vec<PathBuf> = ["d/f", "d/e/g", "d/e/h", "/i", "d/e/../j"].map(PathBuf::from).into();
        assert_eq!(tree.files, expected);
        let c = tree.blocks[0].directives[1].at();
        let via = c.via.as_deref().unwrap();
        assert_eq!((c.to_string(), via.to_string()), ("/i:1:1".to_owned(), "d/e/g:2:1".to_owned()));
        assert_eq!(via.via.as_deref().unwrap().to_string(), "d/f:2:2");
    }

    #[test]
    fn a_pattern_finds_files_in_the_order_of_their_names() {
        let files = [("d/c/2.x", "two"), ("d/c/1.x", "one"), ("d/c/3.y", "three")];
        let tree = tree("a {\n import c/*.x\n import c/*.z\n import n/*\n}", &files).unwrap();
        let names: Vec<&str> = tree.blocks[0].directives.iter().map(|d| d.name.text.as_str()).collect();
        assert_eq!(names, ["one", "two"]);
        assert_eq!(tree.folders, [PathBuf::from("d/c"), PathBuf::from("d/n")]);
        let notes: Vec<String> = tree.notes.iter().map(Fault::to_string).collect();
        assert!(notes[0].starts_with("d/f:3:2: no file in d/c fits"), "{notes:?}");
        assert!(notes[1].starts_with("d/f:4:2: no file in d/n fits"), "{notes:?}");
    }

    #[test]
    fn files_that_a_pattern_finds_may_import_each_other() {
        let files = [("d/c/1.x", "one\nimport 2.x"), ("d/c/2.x", "two")];
        assert_eq!(shape("a {\n import c/*.x\n}", &files), "a { one two two }");
    }

    #[test]
    fn what_imports_itself_is_refused_with_its_way_there() {
        let fault = tree("a {\n import g\n}", &[("d/g", "x\nimport h"), ("d/h", "import g")]).unwrap_err();
        assert_eq!(
            fault,
            "d/h:1:1: `d/g` imports itself; break the circle (imported at d/g:2:1) (imported at d/f:2:2)"
        );
        assert!(tree("a {\n import f\n}", &[("d/f", "")]).unwrap_err().contains("`d/f` imports itself"));
        for text in [
            "(s) {\n import s\n}\na {\n import s\n}",
            "(s) {\n x {\n  import t\n }\n}\n(t) {\n import s\n y\n}\nimport s",
        ] {
            assert!(tree(text, &[]).unwrap_err().contains("imports itself"), "{text}");
        }
    }

    #[test]
    fn imports_end_though_they_multiply() {
        let mut text = "(s0) {\n}\n".to_owned();
        for n in 1..DEPTH {
            text += &format!("(s{n}) {{\n{}}}\n", format!("import s{}\n", n - 1).repeat(4));
        }
        let fault = tree(&format!("{text}a {{\nimport s{}\n}}", DEPTH - 1), &[]).unwrap_err();
        assert!(fault.contains("more than 10000 imports"), "{fault}");
        let chain: Vec<(String, String)> =
            (0..=DEPTH).map(|n| (format!("d/{n}"), format!("import {}", n + 1))).collect();
        let files: Vec<(&str, &str)> = chain.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
        assert!(tree("import 0", &files).unwrap_err().contains("more than 16 imports within"));
        let large = format!("x{}", " x".repeat(WORDS / 2));
        let fault = tree("a {\nimport l\nimport l\n}", &[("d/l", &large)]).unwrap_err();
        assert!(fault.contains("words with all imports"), "{fault}");
        let comment = "#".repeat(FILE);
        let fault = tree(&"import l\n".repeat(17), &[("d/l", &comment)]).unwrap_err();
        assert!(fault.starts_with("d/f:16:1: more than 16777216 bytes"), "{fault}");
    }

    #[test]
    fn an_import_takes_one_thing_that_is_there() {
        for (text, what) in [
            ("import", "d/f:1:1: `import` of nothing"),
            ("import\ns", "d/f:1:1: `import` of nothing"),
            ("a {\n import {\n}\n}", "d/f:2:2: `import` of nothing"),
            ("import \"\"", "d/f:1:8: `import` of nothing"),
            ("import a b", "d/f:1:10: `import` takes one"),
            ("a {\n import b }", "d/f:2:11: `import` takes one"),
            ("import a", "d/f:1:1: `a` is no snippet above, and d/a cannot be read"),
            ("import s\n(s) {\n}", "d/f:1:1: `s` is no snippet above"),
            ("import **", "d/f:1:1: `**` is no pattern"),
            ("(s) {\n}\n(s) {\n}", "d/f:3:1: the snippet `(s)` stands at d/f:1:1 already"),
            ("(s)\nerrors", "d/f:1:1: a snippet without braces"),
            ("(s) {\n b {\n}", "d/f:1:5: this `{` is never closed"),
            ("(s) b {\n}", "d/f:1:1: the key `(s)`"),
        ] {
            let fault = tree(text, &[]).unwrap_err();
            assert!(fault.starts_with(what), "{text}: {fault}");
        }
    }

    #[test]
    fn a_variable_that_is_not_set_is_a_note_and_there_are_not_too_many() {
        let tree = tree(&format!("a {{\n{}}}", "b {$NONE}\n".repeat(NOTES + 9)), &[]).unwrap();
        assert_eq!(tree.blocks[0].directives[0].arguments[0].text, "");
        assert!(tree.notes[0].to_string().starts_with("d/f:2:3: the variable `NONE` is not set"));
        assert_eq!(tree.notes.len(), NOTES + 1);
        assert_eq!(tree.notes[NOTES].what, "there are more notes");
    }
}
