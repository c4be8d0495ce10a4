//! What the doctor says: findings as data. Text and JSON are made from them and add nothing.

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Lookups fail or will: something is to be done.
    Problem,
    /// It could not be looked at.
    Unknown,
    /// Worth knowing; lookups do not fail of it by itself.
    Note,
    /// As it should be.
    Healthy,
}

impl Level {
    /// Its word, in JSON and in the text.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Problem => "problem",
            Self::Unknown => "unknown",
            Self::Note => "note",
            Self::Healthy => "healthy",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// Its name for scripts, `subject.aspect`; it stays the same from version to version.
    pub check: &'static str,
    /// What was found, in plain words.
    pub what: String,
    /// What to do about it.
    pub remedy: Option<String>,
    /// What the kernel or a file said, for those who want to see for themselves.
    pub evidence: Vec<String>,
}

impl Finding {
    /// A finding without remedy and evidence.
    pub fn new(level: Level, check: &'static str, what: impl Into<String>) -> Self {
        Self { level, check, what: what.into(), remedy: None, evidence: Vec::new() }
    }

    /// [`Level::Healthy`].
    pub fn healthy(check: &'static str, what: impl Into<String>) -> Self {
        Self::new(Level::Healthy, check, what)
    }

    /// [`Level::Note`].
    pub fn note(check: &'static str, what: impl Into<String>) -> Self {
        Self::new(Level::Note, check, what)
    }

    /// [`Level::Problem`], which always has a remedy.
    pub fn problem(check: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Level::Problem, check, what).remedy(remedy)
    }

    /// [`Level::Unknown`]; the remedy says how it could be looked at.
    pub fn unknown(check: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Level::Unknown, check, what).remedy(remedy)
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// One more thing that was seen.
    #[must_use]
    pub fn evidence(mut self, seen: impl Into<String>) -> Self {
        self.evidence.push(seen.into());
        self
    }
}

/// Everything that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// In the order in which it was looked at.
    pub findings: Vec<Finding>,
}

impl Report {
    /// How many findings there are of a level.
    pub fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|finding| finding.level == level).count()
    }

    /// 1 if there is a problem; else 2 if something could not be looked at; else 0. A note is no problem.
    pub fn exit_code(&self) -> u8 {
        match (self.count(Level::Problem), self.count(Level::Unknown)) {
            (0, 0) => 0,
            (0, _) => 2,
            _ => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_outweighs_what_could_not_be_looked_at_and_a_note_nothing() {
        let healthy = Finding::healthy("a.b", "");
        let note = Finding::note("a.b", "");
        let unknown = Finding::unknown("a.b", "", "");
        let problem = Finding::problem("a.b", "", "");
        for (findings, code) in [
            (vec![], 0),
            (vec![healthy.clone(), note.clone()], 0),
            (vec![healthy, unknown.clone()], 2),
            (vec![unknown, problem, note], 1),
        ] {
            assert_eq!(Report { findings }.exit_code(), code);
        }
    }
}
