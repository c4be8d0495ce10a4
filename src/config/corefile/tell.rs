//! What is said about a Corefile besides what it means: faults where it stops, notes where it goes on.

use std::path::Path;

use crate::config::problem::{Note, Problem, Spot, shown};
use crate::config::quantity;
use crate::corefile::{Fault, Place, Token};
use crate::limit::Limit;
use std::time::Duration;

/// Gathers notes, and decides what is one.
#[derive(Debug, Default)]
pub(super) struct Teller {
    lenient: bool,
    notes: Vec<Note>,
}

impl Teller {
    /// Nothing said yet.
    pub fn new(lenient: bool) -> Self {
        Self { lenient, notes: Vec::new() }
    }

    /// What was said.
    pub fn notes(self) -> Vec<Note> {
        self.notes
    }

    /// Says what is let pass in any case. The same is said once of a place.
    pub fn note(&mut self, at: &Place, what: impl Into<String>) {
        let note = Note { at: spot(at), what: what.into() };
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// What is asked for in vain: an error, or a note for the lenient.
    pub fn vain(&mut self, at: &Place, what: impl Into<String>, hint: &str) -> Result<(), Fault> {
        let fault = Fault::new(at.clone(), what, hint);
        if !self.lenient {
            return Err(fault);
        }
        self.note(at, format!("{}; {}", fault.what, fault.hint));
        Ok(())
    }

    /// A value of `word` that CoreDNS takes and we do not, if it lies outside of the limits: the lenient get the nearest
    /// one that we do.
    pub fn bounded<T: Copy + PartialOrd + std::fmt::Debug>(
        &mut self,
        word: &Token,
        value: T,
        limit: Limit<T>,
        show: fn(T) -> String,
    ) -> Result<T, Fault> {
        if limit.contains(value) {
            return Ok(value);
        }
        let nearest = if value < limit.min { limit.min } else { limit.max };
        let hint = format!("give {} to {}", show(limit.min), show(limit.max));
        self.vain(&word.at, format!("`{}` is out of bounds", shown(&word.text)), &hint)?;
        Ok(nearest)
    }

    /// The same for a time that is written as seconds, without a unit.
    pub fn seconds(
        &mut self,
        word: &Token,
        time: Duration,
        limit: Limit<Duration>,
    ) -> Result<Duration, Fault> {
        self.bounded(word, time, limit, |time| format!("{} seconds", time.as_secs()))
    }

    /// The same for a time.
    pub fn time(&mut self, word: &Token, value: Duration, limit: Limit<Duration>) -> Result<Duration, Fault> {
        self.bounded(word, value, limit, quantity::time)
    }
}

/// A place as problems and notes have it.
pub(super) fn spot(at: &Place) -> Spot {
    Spot { file: at.file.clone(), line: at.line as usize, column: at.column as usize }
}

/// A fault as people read it; `text` is what the file `origin` says.
pub(super) fn problem(fault: &Fault, origin: &Path, text: &str) -> Problem {
    let mut what = format!("{}; {}", fault.what, fault.hint);
    let mut via = &fault.at.via;
    while let Some(import) = via {
        what += &format!(" (imported at {import})");
        via = &import.via;
    }
    Problem::at(&spot(&fault.at), Some(text).filter(|_| *fault.at.file == *origin), what)
}
