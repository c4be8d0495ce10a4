//! The words in the order in which they count: an import's words stand where the import was.
//!
//! It is a stack of what is being read, the Corefile at its bottom. So an import that is under way is seen when it
//! is imported again, and each word knows the imports that led to it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::lexer::{self, Word};
use super::pillar::Shift;
use super::{Fault, NOTES, Place, Surroundings, TEXT, Token, WORDS, environment};

/// What is being read: words, how many of them are taken, and where they were imported.
pub(super) struct Frame {
    pub words: Arc<[Word]>,
    pub taken: usize,
    pub via: Option<Arc<Place>>,
    /// The snippet that it is; `None` for files.
    pub snippet: Option<String>,
}

/// What is being read, what is known so far, and what was counted against the limits.
pub(super) struct Stream<'a> {
    pub around: &'a dyn Surroundings,
    pub frames: Vec<Frame>,
    pub snippets: HashMap<String, (Place, Arc<[Word]>)>,
    pub imports: usize,
    bytes: usize,
    words: usize,
    pub files: Vec<PathBuf>,
    pub folders: Vec<PathBuf>,
    pub notes: Vec<Fault>,
}

impl<'a> Stream<'a> {
    /// The words of a text, which is the content of the file `origin`.
    pub fn new(
        text: &str,
        shifts: &[Shift],
        origin: &Path,
        around: &'a dyn Surroundings,
    ) -> Result<Self, Fault> {
        let mut stream = Self {
            around,
            frames: Vec::new(),
            snippets: HashMap::new(),
            imports: 0,
            bytes: 0,
            words: 0,
            files: Vec::new(),
            folders: Vec::new(),
            notes: Vec::new(),
        };
        let start = Place { file: Arc::from(origin), line: 0, column: 0, via: None };
        let words = stream.open(origin, text, shifts, &start)?;
        stream.frames.push(Frame { words: words.into(), taken: 0, via: None, snippet: None });
        Ok(stream)
    }

    /// The next word, not taken.
    pub fn peek(&mut self) -> Option<&Word> {
        while self.frames.last()?.taken == self.frames.last()?.words.len() {
            self.frames.pop();
        }
        let frame = self.frames.last()?;
        frame.words.get(frame.taken)
    }

    /// Takes the next word as it is written.
    pub fn take(&mut self) -> Result<Option<Word>, Fault> {
        if self.peek().is_none() {
            return Ok(None);
        }
        let Some(frame) = self.frames.last_mut() else { return Ok(None) };
        let mut word = frame.words[frame.taken].clone();
        word.at.via.clone_from(&frame.via);
        frame.taken += 1;
        self.words += 1;
        if self.words > WORDS {
            let what = format!("more than {WORDS} words with all imports");
            return Err(Fault::new(word.at, what, "look for imports that repeat each other"));
        }
        Ok(Some(word))
    }

    /// Replaces the variables of a word.
    pub fn fill(&mut self, word: Word) -> Result<Token, Fault> {
        let (token, unset) = environment::fill(word, &|name| self.around.variable(name))?;
        for name in unset {
            let what = format!("the variable `{name}` is not set and leaves nothing here");
            self.note(Fault::new(token.at.clone(), what, "set it, or leave it out"));
        }
        Ok(token)
    }

    /// Keeps a note.
    pub fn note(&mut self, note: Fault) {
        if self.notes.len() < NOTES {
            self.notes.push(note);
        } else if self.notes.len() == NOTES {
            self.notes.push(Fault::new(note.at, "there are more notes", "look at those above first"));
        }
    }

    /// Takes a file apart and remembers it.
    pub fn open(
        &mut self,
        path: &Path,
        text: &str,
        shifts: &[Shift],
        via: &Place,
    ) -> Result<Vec<Word>, Fault> {
        self.bytes += text.len();
        if self.bytes > TEXT {
            let what = format!("more than {TEXT} bytes with all imports");
            return Err(Fault::new(via.clone(), what, "look for imports that repeat each other"));
        }
        remember(&mut self.files, path);
        lexer::words(text, &Arc::from(path), shifts)
    }
}

/// Adds a path to those that are to be watched.
pub(super) fn remember(paths: &mut Vec<PathBuf>, path: &Path) {
    if !paths.iter().any(|known| known == path) {
        paths.push(path.to_owned());
    }
}
