//! Notices when a file may have changed, by inotify(7); nothing is polled.
//!
//! A path is a chain: directories, symbolic links (a ConfigMap's `..data`, a resolv.conf that points into
//! /run), and the file at its end. Any link of the chain may be replaced, so each directory on the way is
//! watched for its own end, the directory that holds a link or the file for that one name, and the file itself for writes (a bind-mounted
//! resolv.conf is written where no directory of ours sees it). After an event the chain is walked again,
//! because what was replaced may lead elsewhere. Each directory is watched before it is looked into: what
//! changes in between is an event, never a gap. A path may be a folder's: then names that come and go are the change.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;
use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchDescriptor, WatchMask};
use tokio::time::{Instant, timeout_at};

/// Quiet time after an event: a writer writes more than once, and a ConfigMap swap is several renames.
pub const QUIET: Duration = Duration::from_millis(100);
/// A file that never comes to rest is reported after this long all the same.
pub const PATIENCE: Duration = Duration::from_secs(1);
/// Symbolic links in one path; the kernel's own limit is 40 (path_resolution(7)).
pub const LINKS: usize = 40;

/// Bytes for events: each has 16 and a file name of at most 256.
const BUFFER: usize = 4096;

/// What is watched, and how it is heard.
pub struct Watch {
    paths: Vec<PathBuf>,
    events: EventStream<[u8; BUFFER]>,
    /// The names that matter, per watched directory; `None` for a file, where every event does.
    watched: HashMap<WatchDescriptor, Option<HashSet<OsString>>>,
    /// A change that was heard and not reported yet: when our patience with it ends.
    pending: Option<Instant>,
}

impl Watch {
    /// Watches these files and folders, which need not exist yet. Must be called inside of a tokio runtime with I/O.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> io::Result<Self> {
        let events = Inotify::init()?.into_event_stream([0; BUFFER])?;
        let mut watch = Self { paths: Vec::new(), events, watched: HashMap::new(), pending: None };
        watch.replace(paths)?;
        Ok(watch)
    }

    /// Watches these files from now on, and no others.
    pub fn replace(&mut self, paths: impl IntoIterator<Item = PathBuf>) -> io::Result<()> {
        self.paths = paths.into_iter().map(std::path::absolute).collect::<io::Result<_>>()?;
        self.arm()
    }

    /// Returns once any of the files may have changed, and has been quiet since. May be dropped and called
    /// again at any time: a change that nobody waited for is reported by the next call.
    pub async fn changed(&mut self) -> io::Result<()> {
        let patience = match self.pending {
            Some(patience) => patience,
            None => {
                self.relevant().await?;
                *self.pending.insert(Instant::now() + PATIENCE)
            }
        };
        loop {
            // New links of the chain are watched before the rest is awaited.
            self.arm()?;
            let quiet = (Instant::now() + QUIET).min(patience);
            match timeout_at(quiet, self.relevant()).await {
                Ok(event) => event?,
                Err(_) => break,
            }
        }
        self.pending = None;
        Ok(())
    }

    /// Returns at the next event that is about one of our paths.
    async fn relevant(&mut self) -> io::Result<()> {
        while let Some(event) = self.events.next().await {
            if self.matters(&event?) {
                return Ok(());
            }
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    fn matters(&self, event: &EventOwned) -> bool {
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            return true;
        }
        // Watches that we removed ourselves say goodbye too; nobody knows them any more.
        match (self.watched.get(&event.wd), &event.name) {
            (Some(Some(names)), Some(name)) => names.contains(name),
            (watched, _) => watched.is_some(),
        }
    }

    /// Walks every chain, watches what is on it, and lets go of what no longer is.
    fn arm(&mut self) -> io::Result<()> {
        let before = std::mem::take(&mut self.watched);
        for path in std::mem::take(&mut self.paths) {
            let walked = self.walk(&path);
            self.paths.push(path);
            walked?;
        }
        for gone in before.into_keys().filter(|wd| !self.watched.contains_key(wd)) {
            // The kernel may have dropped it already, with the directory.
            let _ = self.events.watches().remove(gone);
        }
        Ok(())
    }
}

impl Watch {
    /// Watches each directory on the way to `path`, which is absolute, and the file at its end.
    fn walk(&mut self, path: &Path) -> io::Result<()> {
        let mut here = PathBuf::from("/");
        let mut rest: VecDeque<OsString> = names(path);
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                here.pop();
                continue;
            }
            let next = here.join(&name);
            if !rest.is_empty() && self.stays(&next)? {
                here = next;
                continue;
            }
            self.directory(&here, &name)?;
            match std::fs::read_link(&next) {
                Ok(target) => {
                    links += 1;
                    if links > LINKS {
                        return Ok(());
                    }
                    if target.is_absolute() {
                        here = PathBuf::from("/");
                    }
                    for name in names(&target).into_iter().rev() {
                        rest.push_front(name);
                    }
                }
                // Not a link. Nor need it be there: then its directory tells when it comes.
                Err(_) => here = next,
            }
        }
        self.file(&here)
    }

    /// Whether `path` is a directory, itself and not through a link. If so it is watched for its own end, and
    /// what happens around it need not wake us: a parent such as /tmp is busy with other names.
    fn stays(&mut self, path: &Path) -> io::Result<bool> {
        let mask =
            WatchMask::DELETE_SELF | WatchMask::MOVE_SELF | WatchMask::ONLYDIR | WatchMask::DONT_FOLLOW;
        // Another path may watch the same directory for names: this adds to that.
        let watch = self.add(path, mask | WatchMask::MASK_ADD)?;
        Ok(watch.map(|wd| self.watched.entry(wd).or_insert_with(|| Some(HashSet::new()))).is_some())
    }

    fn directory(&mut self, directory: &Path, name: &OsString) -> io::Result<()> {
        let mask = WatchMask::CREATE
            | WatchMask::DELETE
            | WatchMask::MOVED_FROM
            | WatchMask::MOVED_TO
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR
            | WatchMask::MASK_ADD;
        if let Some(wd) = self.add(directory, mask)? {
            let names = self.watched.entry(wd).or_insert_with(|| Some(HashSet::new()));
            if let Some(names) = names {
                names.insert(name.clone());
            }
        }
        Ok(())
    }

    /// Watches what is at the end of a path: of a folder, which names come and go.
    fn file(&mut self, file: &Path) -> io::Result<()> {
        if file.is_dir() {
            let names = WatchMask::CREATE | WatchMask::DELETE | WatchMask::MOVED_FROM | WatchMask::MOVED_TO;
            if let Some(wd) = self.add(file, names | WatchMask::DELETE_SELF | WatchMask::MASK_ADD)? {
                self.watched.insert(wd, None);
            }
            return Ok(());
        }
        let mask = WatchMask::CLOSE_WRITE | WatchMask::MODIFY | WatchMask::ATTRIB | WatchMask::DELETE_SELF;
        if let Some(wd) = self.add(file, mask)? {
            self.watched.insert(wd, None);
        }
        Ok(())
    }

    /// Watches a path, unless it is not there or not ours to watch.
    fn add(&mut self, path: &Path, mask: WatchMask) -> io::Result<Option<WatchDescriptor>> {
        use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
        match self.events.watches().add(path, mask) {
            Ok(wd) => Ok(Some(wd)),
            Err(e) if matches!(e.kind(), NotFound | NotADirectory | PermissionDenied) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// The names on a path, without its root.
fn names(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter(|c| matches!(c, Component::Normal(_) | Component::ParentDir))
        .map(|c| c.as_os_str().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// A watch on `path` that must report what `change` does, and then be quiet.
    async fn notices(watch: &mut Watch, what: &str, change: impl FnOnce()) {
        assert!(quiet(watch).await, "before {what}: something was reported already");
        change();
        let heard = tokio::time::timeout(Duration::from_secs(5), watch.changed()).await;
        heard.unwrap_or_else(|_| panic!("{what}: not reported")).unwrap();
    }

    async fn quiet(watch: &mut Watch) -> bool {
        tokio::time::timeout(Duration::from_millis(20), watch.changed()).await.is_err()
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn a_plain_file_is_written_replaced_removed_and_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sidestep.toml");
        fs::write(&file, "1").unwrap();
        runtime().block_on(async {
            let watch = &mut Watch::new([file.clone()]).unwrap();
            notices(watch, "a write", || fs::write(&file, "2").unwrap()).await;
            notices(watch, "a rename over it", || {
                fs::write(dir.path().join("new"), "3").unwrap();
                fs::rename(dir.path().join("new"), &file).unwrap();
            })
            .await;
            notices(watch, "a write to the new file", || fs::write(&file, "4").unwrap()).await;
            notices(watch, "a removal", || fs::remove_file(&file).unwrap()).await;
            notices(watch, "a new file", || fs::write(&file, "5").unwrap()).await;
            fs::write(dir.path().join("other"), "6").unwrap();
            fs::read(&file).unwrap();
            assert!(quiet(watch).await, "another file, and reading ours, are no change");
        });
    }

    #[test]
    fn a_config_map_swaps_its_data_link_again_and_again() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let publish = |version: &str| {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("sidestep.toml"), version).unwrap();
            symlink(version, at("..data_tmp")).unwrap();
            fs::rename(at("..data_tmp"), at("..data")).unwrap();
        };
        publish("..v1");
        symlink("..data/sidestep.toml", at("sidestep.toml")).unwrap();
        runtime().block_on(async {
            let watch = &mut Watch::new([at("sidestep.toml")]).unwrap();
            for (old, new) in [("..v1", "..v2"), ("..v2", "..v3")] {
                notices(watch, "a swap", || {
                    publish(new);
                    fs::remove_dir_all(at(old)).unwrap();
                })
                .await;
                assert_eq!(fs::read_to_string(at("sidestep.toml")).unwrap(), new);
            }
            notices(watch, "a write behind the links", || {
                fs::write(at("..v3").join("sidestep.toml"), "written").unwrap();
            })
            .await;
        });
    }

    #[test]
    fn a_link_into_a_directory_that_goes_and_comes() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run/resolve");
        fs::create_dir_all(dir.path().join("etc")).unwrap();
        let link = dir.path().join("etc/resolv.conf");
        symlink("../run/resolve/stub.conf", &link).unwrap();
        runtime().block_on(async {
            let watch = &mut Watch::new([link.clone()]).unwrap();
            notices(watch, "the directory comes", || fs::create_dir_all(&run).unwrap()).await;
            notices(watch, "the file comes", || fs::write(run.join("stub.conf"), "1").unwrap()).await;
            notices(watch, "the file is written", || fs::write(run.join("stub.conf"), "2").unwrap()).await;
            notices(watch, "the directory goes", || fs::remove_dir_all(&run).unwrap()).await;
            notices(watch, "the directory comes back whole", || {
                fs::create_dir_all(&run).unwrap();
                fs::write(run.join("stub.conf"), "3").unwrap();
            })
            .await;
            notices(watch, "the link points elsewhere", || {
                fs::remove_file(&link).unwrap();
                symlink("../own.conf", &link).unwrap();
            })
            .await;
            notices(watch, "elsewhere is written", || fs::write(dir.path().join("own.conf"), "4").unwrap())
                .await;
        });
    }

    #[test]
    fn other_files_may_be_watched_instead_and_links_may_turn_in_a_circle() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        symlink("two", &one).unwrap();
        symlink("one", &two).unwrap();
        let three = dir.path().join("three");
        runtime().block_on(async {
            let watch = &mut Watch::new([one.clone()]).unwrap();
            notices(watch, "the circle is cut", || {
                fs::remove_file(&two).unwrap();
                fs::write(&two, "1").unwrap();
            })
            .await;
            watch.replace([three.clone()]).unwrap();
            fs::write(&two, "2").unwrap();
            assert!(quiet(watch).await, "what is no longer watched is not reported");
            notices(watch, "the new path", || fs::write(&three, "3").unwrap()).await;
        });
    }

    #[test]
    fn a_folder_tells_which_names_come_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("d");
        let inside = folder.join("a.server");
        runtime().block_on(async {
            let watch = &mut Watch::new([folder.clone(), inside.clone()]).unwrap();
            notices(watch, "the folder comes", || fs::create_dir(&folder).unwrap()).await;
            notices(watch, "a name comes", || fs::write(folder.join("b.server"), "1").unwrap()).await;
            notices(watch, "a file that was named", || fs::write(&inside, "1").unwrap()).await;
            notices(watch, "it is written", || fs::write(&inside, "2").unwrap()).await;
            notices(watch, "a name goes", || fs::remove_file(folder.join("b.server")).unwrap()).await;
            fs::write(dir.path().join("x"), "").unwrap();
            assert!(quiet(watch).await, "beside it is no matter");
        });
    }

    #[test]
    fn a_change_is_not_lost_when_the_wait_for_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        runtime().block_on(async {
            let watch = &mut Watch::new([file.clone()]).unwrap();
            fs::write(&file, "1").unwrap();
            assert!(quiet(watch).await, "heard, but not at rest yet");
            tokio::time::timeout(Duration::from_secs(5), watch.changed()).await.unwrap().unwrap();
            assert!(quiet(watch).await, "reported once");
        });
    }

    #[test]
    fn many_events_at_once_are_one_change() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        runtime().block_on(async {
            let watch = &mut Watch::new([file.clone()]).unwrap();
            notices(watch, "a hundred writes", || (0..100).for_each(|n| fs::write(&file, [n]).unwrap()))
                .await;
            assert!(quiet(watch).await);
        });
    }
}
