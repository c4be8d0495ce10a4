//! Files beside the road: those that we write because node-cache's users look for them, and those that are read.
//!
//! Nobody is refused an answer for a file that cannot be written: a container's root may be read-only.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tracing::{debug, warn};

use crate::config::Config;

/// Writes the Corefile as it was filled in, where there is one, for people to look at. Nobody reads it again.
pub(super) fn write_filled(config: &Config) {
    let Some((path, text)) = &config.filled else { return };
    if fs::read(path).is_ok_and(|there| there == text.as_bytes()) {
        return;
    }
    match replace(path, text) {
        Ok(()) => debug!("wrote {}", path.display()),
        Err(error) => {
            debug!(%error, "{} is not written, which is for people to look at only", path.display())
        }
    }
}

/// Those of the files that are empty.
pub(super) fn empty(files: &[PathBuf]) -> Vec<PathBuf> {
    let is_empty = |path: &&PathBuf| path.metadata().is_ok_and(|m| m.is_file() && m.len() == 0);
    files.iter().filter(is_empty).cloned().collect()
}

/// A file with our process id, which goes with this.
pub(super) struct Pidfile(PathBuf);

impl Pidfile {
    /// Writes it; where that cannot be, it is told.
    pub fn write(path: &Path) -> Option<Self> {
        let written = replace(path, &format!("{}\n", std::process::id()));
        let problem = |error: &io::Error| warn!(%error, "{} is not written", path.display());
        written.inspect_err(problem).is_ok().then(|| Self(path.to_owned()))
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        // Another process' id may stand there by now: a rolling update starts it before we end.
        let ours =
            fs::read_to_string(&self.0).is_ok_and(|text| text.trim() == std::process::id().to_string());
        if ours && let Err(error) = fs::remove_file(&self.0) {
            warn!(%error, "{} stays", self.0.display());
        }
    }
}

/// Makes `text` the content of the file, all at once: who reads it finds the old one or the new one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut beside = name.to_owned();
    beside.push(".sidestep");
    let beside = path.with_file_name(beside);
    // What an earlier run has left. Nor is a link followed that somebody else has put there: the file must be new.
    let _ = fs::remove_file(&beside);
    let written = fs::File::create_new(&beside).and_then(|mut file| file.write_all(text.as_bytes()));
    written.and_then(|()| fs::rename(&beside, path)).inspect_err(|_| {
        let _ = fs::remove_file(&beside);
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_filled_corefile_is_written_whole_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("Corefile");
        symlink("/etc/hostname", dir.path().join("Corefile.sidestep")).unwrap();
        for text in ["one", "two"] {
            write_filled(&Config { filled: Some((path.clone(), text.to_owned())), ..Config::default() });
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        }
        write_filled(&Config {
            filled: Some(("/nonexistent/Corefile".into(), String::new())),
            ..Config::default()
        });
    }

    #[test]
    fn a_pidfile_goes_with_its_process_unless_it_is_anothers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let pidfile = Pidfile::write(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        drop(pidfile);
        assert!(!path.exists());
        let pidfile = Pidfile::write(&path).unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(pidfile);
        assert!(path.exists());
        assert!(Pidfile::write(Path::new("/nonexistent/pid")).is_none());
    }

    #[test]
    fn empty_files_are_found_and_folders_are_none() {
        let dir = tempfile::tempdir().unwrap();
        let [full, hollow] = ["full", "hollow"].map(|name| dir.path().join(name));
        fs::write(&full, "x").unwrap();
        fs::write(&hollow, "").unwrap();
        let gone = dir.path().join("gone");
        assert_eq!(empty(&[dir.path().to_owned(), full, hollow.clone(), gone]), [hollow]);
    }
}
