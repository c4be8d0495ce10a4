//! Where a configuration comes from, and the way from there to what it says.

use std::path::{Path, PathBuf};

use super::corefile::{self, Around};
use super::file::{self, Written};
use super::node_cache::{self, Options};
use super::problem::{Note, Problem};
use super::{DNS, read};
use crate::corefile::{Disk, Surroundings};

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
    /// node-cache's flags, and the files that they name.
    NodeCache(Box<Options>),
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

    /// The same, with what cannot be honoured told instead of refused.
    pub fn leniently(mut self) -> Self {
        match &mut self {
            Self::Corefile { lenient, .. } => *lenient = true,
            Self::NodeCache(options) => options.lenient = true,
            Self::Nothing | Self::Toml(_) => {}
        }
        self
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
    /// What is to be written, and where.
    pub filled: Option<(PathBuf, String)>,
    /// The port of DNS where none is named.
    pub port: u16,
}

impl Loaded {
    /// Reads what the source names.
    pub fn from(source: &Source) -> Result<Self, Problem> {
        match source {
            Source::Nothing => Self::toml(String::new(), "command line".to_owned()),
            Source::Toml(path) => {
                let loaded = Self::toml(read(path)?, path.display().to_string())?;
                Ok(Self { files: vec![path.clone()], ..loaded })
            }
            Source::Corefile { path, lenient } => {
                let around = Around { lenient: *lenient, port: DNS, node: None };
                Self::corefile(read(path)?, path, &around, &Disk).map(|(loaded, _)| loaded)
            }
            Source::NodeCache(options) => node_cache::load(options, &|name| std::env::var(name).ok()),
        }
    }

    /// Reads a text in TOML.
    pub fn toml(text: String, origin: String) -> Result<Self, Problem> {
        let written = file::read(&text, &origin)?;
        Ok(Self { origin, text, written, notes: Vec::new(), files: Vec::new(), filled: None, port: DNS })
    }

    /// Reads a text as a Corefile. The other text is that with its variables filled in.
    pub fn corefile(
        text: String,
        path: &Path,
        around: &Around,
        disk: &dyn Surroundings,
    ) -> Result<(Self, String), Problem> {
        let read = corefile::read(&text, path, around, disk)?;
        let mut files = vec![path.to_owned()];
        files.extend(read.files.into_iter().filter(|file| file != path));
        let loaded = Self {
            origin: path.display().to_string(),
            text,
            written: read.written,
            notes: read.notes,
            files,
            filled: None,
            port: around.port,
        };
        Ok((loaded, read.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_name_says_what_it_is() {
        for name in ["Corefile", "/etc/coredns/Corefile", "Corefile.base", "my-COREFILE", "corefile.old"] {
            let source = Source::file(name.into(), true);
            assert_eq!(source, Source::Corefile { path: name.into(), lenient: true }, "{name}");
        }
        for name in ["sidestep.toml", "Corefile.toml", "/etc/Corefile/sidestep", "core.file", ""] {
            assert_eq!(Source::file(name.into(), true), Source::Toml(name.into()), "{name}");
        }
    }
}
