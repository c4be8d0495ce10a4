//! Files of the kernel and of the node, below a root: `/` on a node, a folder of recorded files in a test.

use std::fs;
use std::io;
use std::path::PathBuf;

/// Where the node's files stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root(PathBuf);

impl Default for Root {
    fn default() -> Self {
        Self(PathBuf::from("/"))
    }
}

impl Root {
    /// Another place than `/`.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Where the file is.
    pub fn path(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    /// Reads a text.
    ///
    /// # Errors
    /// In words, with the path.
    pub fn text(&self, path: &str) -> Result<String, String> {
        fs::read_to_string(self.path(path)).map_err(|e| format!("/{path}: {e}"))
    }

    /// Reads a text that need not be there.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn optional(&self, path: &str) -> Result<Option<String>, String> {
        match fs::read_to_string(self.path(path)) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(format!("/{path}: {e}")),
        }
    }

    /// A file with one number in it.
    pub fn number(&self, path: &str) -> Option<u64> {
        self.text(path).ok()?.trim().parse().ok()
    }

    /// Whether a folder holds a file whose name begins like this.
    pub fn holds(&self, folder: &str, beginning: &str) -> bool {
        fs::read_dir(self.path(folder)).is_ok_and(|entries| {
            entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with(beginning))
        })
    }
}
