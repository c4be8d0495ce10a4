//! What lies around a Corefile: files, folders and the environment. Tests and fuzzing bring their own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::FILE;
use crate::regular;

/// Where imports and variables come from.
pub trait Surroundings {
    /// The content of a file.
    fn file(&self, path: &Path) -> io::Result<String>;

    /// The names in a folder, in any order.
    fn folder(&self, path: &Path) -> io::Result<Vec<String>>;

    /// A variable of the environment.
    fn variable(&self, name: &str) -> Option<String>;
}

/// The disk and the environment of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Surroundings for Disk {
    fn file(&self, path: &Path) -> io::Result<String> {
        let bytes = regular::read(path, FILE as u64)?;
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        if bytes.len() > FILE {
            return Err(invalid(format!("it has more than {FILE} bytes")));
        }
        String::from_utf8(bytes).map_err(|error| {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = good.iter().filter(|b| **b == b'\n').count() + 1;
            invalid(format!("line {line} is not UTF-8"))
        })
    }

    /// Names that are not UTF-8 are left out: no pattern can match them.
    fn folder(&self, path: &Path) -> io::Result<Vec<String>> {
        let names = fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(Result::transpose).collect()
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

/// An import's pattern: a folder, and what names in it look like.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    pub folder: PathBuf,
    name: String,
}

impl Pattern {
    /// The pattern that this path is, `None` for a plain path.
    pub fn of(path: &Path) -> Result<Option<Self>, &'static str> {
        let text = path.to_string_lossy();
        if !text.contains(['*', '?', '[']) {
            return Ok(None);
        }
        if text.matches('*').count() > 1 || text.matches('?').count() > 1 || text.contains(['[', '\\']) {
            return Err("write at most one `*` and one `?`, and no `[` nor `\\`");
        }
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        match (path.parent(), name) {
            (Some(folder), Some(name)) if !folder.to_string_lossy().contains(['*', '?']) => {
                Ok(Some(Self { folder: folder.to_owned(), name }))
            }
            _ => Err("write `*` and `?` only into the last part of the path"),
        }
    }

    /// Whether a name looks like it: `?` is any one character, `*` any number of them.
    pub fn matches(&self, name: &str) -> bool {
        let same = |pattern: &str, name: &str| {
            pattern.chars().count() == name.chars().count()
                && pattern.chars().zip(name.chars()).all(|(p, n)| p == '?' || p == n)
        };
        let Some((head, tail)) = self.name.split_once('*') else { return same(&self.name, name) };
        let length = name.chars().count();
        let (before, after) = (head.chars().count(), tail.chars().count());
        let part = |from: usize, to: usize| name.chars().skip(from).take(to - from).collect::<String>();
        length >= before + after && same(head, &part(0, before)) && same(tail, &part(length - after, length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_has_one_star_and_one_question_mark() {
        let matches =
            |pattern: &str, name: &str| Pattern::of(Path::new(pattern)).unwrap().unwrap().matches(name);
        for (pattern, name, expected) in [
            ("d/*.conf", "a.conf", true),
            ("d/*.conf", ".conf", true),
            ("d/*.conf", "a.conf~", false),
            ("*", "", true),
            ("a*a", "a", false),
            ("a?*.é", "äb.é", false),
            ("?*.é", "äb.é", true),
            ("*?", "", false),
            ("x?", "xy", true),
            ("x?", "xyz", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
        assert_eq!(Pattern::of(Path::new("d/plain")), Ok(None));
        for wrong in ["**", "a*/b", "a[b]", "??", "a\\*"] {
            assert!(Pattern::of(Path::new(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_disk_refuses_what_is_no_text_and_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, b"a\n\xff").unwrap();
        assert_eq!(Disk.file(&path).unwrap_err().to_string(), "line 2 is not UTF-8");
        fs::write(&path, "ok").unwrap();
        assert_eq!(Disk.file(&path).unwrap(), "ok");
        assert_eq!(Disk.folder(folder.path()).unwrap(), ["f"]);
        assert!(Disk.file(Path::new("/dev/zero")).unwrap_err().to_string().contains("no regular file"));
        assert!(Disk.file(folder.path()).is_err());
    }
}
