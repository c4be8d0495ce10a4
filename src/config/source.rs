//! Where a configuration comes from, and the way from there to what it says.

use std::path::{Path, PathBuf};

use super::DNS;
use super::corefile::{self, Around};
use super::file::{self, Written};
use super::problem::{Note, Problem};

/// Where a configuration comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// Nowhere: the defaults hold.
    #[default]
    Nothing,
    /// A file in TOML.
    Toml(PathBuf),
    /// A Corefile, read as it is.
    Corefile {
        /// Where it is.
        path: PathBuf,
        /// Whether what cannot be honoured is told instead of refused.
        lenient: bool,
    },
}

impl Source {
    /// The file at `path`. It is a Corefile if its name says so, in any case of letters, and does not end in `.toml`.
    pub fn file(path: PathBuf, lenient: bool) -> Self {
        let name =
            path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        if name.contains("corefile") && !name.ends_with(".toml") {
            Self::Corefile { path, lenient }
        } else {
            Self::Toml(path)
        }
    }
}

/// What a source says.
pub(super) struct Loaded {
    /// The name of the text, for messages.
    pub origin: String,
    /// The text.
    pub text: String,
    /// What it says.
    pub written: Written,
    /// What is to be told besides.
    pub notes: Vec<Note>,
    /// What was read, the text's own file first.
    pub files: Vec<PathBuf>,
    /// Whether zone `.` is there even if the text does not say so.
    pub has_root: bool,
    /// The port of DNS where none is named.
    pub port: u16,
}

impl Loaded {
    /// Reads a text in TOML.
    pub fn toml(text: String, origin: String) -> Result<Self, Problem> {
        let written = file::read(&text, &origin)?;
        Ok(Self { origin, text, written, notes: Vec::new(), files: Vec::new(), has_root: true, port: DNS })
    }

    /// Reads what the source names.
    pub fn from(source: &Source) -> Result<Self, Problem> {
        match source {
            Source::Nothing => Self::toml(String::new(), "command line".to_owned()),
            Source::Toml(path) => {
                let loaded = Self::toml(super::read(path)?, path.display().to_string())?;
                Ok(Self { files: vec![path.clone()], ..loaded })
            }
            Source::Corefile { path, lenient } => {
                let around = Around { lenient: *lenient, port: DNS, node: None };
                Self::corefile(super::read(path)?, path, &around)
            }
        }
    }

    /// Reads a text as a Corefile.
    fn corefile(text: String, path: &Path, around: &Around) -> Result<Self, Problem> {
        let read = corefile::read(&text, path, around)?;
        let mut files = vec![path.to_owned()];
        files.extend(read.files.into_iter().filter(|file| file != path));
        Ok(Self {
            origin: path.display().to_string(),
            text,
            written: read.written,
            notes: read.notes,
            files,
            has_root: false,
            port: around.port,
        })
    }
}
