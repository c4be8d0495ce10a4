//! Files that are read because something names them: regular ones alone. Opening a pipe waits for somebody at its other
//! end, and the thread that reads files has signals and pages to answer meanwhile.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::OFlags;

/// Reads a regular file; of a longer one than `most` bytes, one byte more than these.
///
/// # Errors
/// It cannot be opened or read, or is no regular file.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    read_dated(path, most).map(|(bytes, _)| bytes)
}

/// The same, with when it was written last, where that is known: of the file that was read, whatever stands in its place
/// meanwhile.
///
/// # Errors
/// As there.
pub fn read_dated(path: &Path, most: u64) -> io::Result<(Vec<u8>, Option<SystemTime>)> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    let kind = metadata.file_type();
    if !kind.is_file() {
        let what = if kind.is_dir() { "it is a folder" } else { "it is no regular file" };
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok((bytes, metadata.modified().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    #[test]
    fn a_pipe_is_refused_at_once_and_a_file_is_read_as_far_as_asked() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, file) = (folder.path().join("pipe"), folder.path().join("file"));
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert_eq!(read(&pipe, 9).unwrap_err().to_string(), "it is no regular file");
        assert_eq!(read(folder.path(), 9).unwrap_err().to_string(), "it is a folder");
        std::fs::write(&file, "0123456789").unwrap();
        assert_eq!(read(&file, 3).unwrap(), b"0123");
        assert_eq!(read(&file, 10).unwrap(), b"0123456789");
        assert_eq!(read(&folder.path().join("none"), 1).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
