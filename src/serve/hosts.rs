//! Hosts files: each is read once for all zones that name it, by a thread of its own.
//!
//! A list of names to block takes a second to read, and the supervisor has signals and pages to answer meanwhile. So it
//! names the files, and says when they may have changed ([`HostsFiles::look`]); the thread looks, reads, and puts what it
//! found onto the [`Shelf`] that the zones share. It also looks by itself, as often as `reload` says: not every file
//! system tells of changes, and a file that could not be read may be readable later.
//!
//! - A file is as it was while its device, inode, size and both of its times are. That cannot be known of one that has
//!   changed a moment ago, since clocks of file systems are coarse: it is read once more, [`COARSE`] later.
//! - A file that changes while it is read is read again.
//! - An empty file in the place of entries is believed when it has been so for [`BEING_WRITTEN`]: writers empty a file
//!   before they fill it. Where the file is gone, so are its entries.
//!
//! What was answered by rules is cached like anything else. New rules are another zone, which finds nothing of what was
//! cached; a new hosts file is not, so what it says counts when the TTLs of what it said before are over.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use tracing::{info, warn};

use crate::local::{Hosts, Shelf, Table};

/// The coarsest times that file systems keep: two seconds (FAT); most are a hundred times finer.
const COARSE: Duration = Duration::from_secs(2);
/// How long an empty file may be one that is being written.
const BEING_WRITTEN: Duration = Duration::from_secs(1);
/// The pause before a file that changes while it is read is read again.
const AGAIN: Duration = Duration::from_millis(200);

/// A file, and how often it is looked at.
type Key = (PathBuf, Duration);

/// The hosts files of the running configuration.
#[derive(Default)]
pub(super) struct HostsFiles {
    files: BTreeMap<Key, Arc<HostsFile>>,
    /// The way to the thread, which ends with it; there is none before there is a file.
    reader: Option<Sender<Arc<HostsFile>>>,
    arrivals: Arc<Arrivals>,
}

/// One of them.
#[derive(Debug)]
struct HostsFile {
    path: PathBuf,
    /// Zero is: once.
    reload: Duration,
    shelf: Arc<Shelf>,
}

/// Tells of files that were read.
#[derive(Debug, Default)]
struct Arrivals {
    lock: Mutex<()>,
    news: Condvar,
}

impl Arrivals {
    /// Nothing is behind the lock that a panic could leave broken.
    fn lock(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HostsFiles {
    /// Where it is seen what the file of `hosts` says. One that was not known is read from now on.
    pub fn shelf(&mut self, hosts: &Hosts) -> Option<Arc<Shelf>> {
        let key = (hosts.file.clone()?, hosts.reload);
        if let Some(file) = self.files.get(&key) {
            return Some(Arc::clone(&file.shelf));
        }
        let (path, reload) = key.clone();
        let file = Arc::new(HostsFile { path, reload, shelf: Arc::default() });
        self.files.insert(key, Arc::clone(&file));
        let shelf = Arc::clone(&file.shelf);
        self.ask_for(file);
        Some(shelf)
    }

    /// Has all files looked at that may change.
    pub fn look(&mut self) {
        let files: Vec<_> = self.files.values().filter(|file| !file.reload.is_zero()).cloned().collect();
        files.into_iter().for_each(|file| self.ask_for(file));
    }

    /// Forgets the files that no zone needs, and nobody waits for.
    pub fn keep<'h>(&mut self, hosts: impl Iterator<Item = &'h Hosts>) {
        let used: Vec<_> = hosts.filter_map(|hosts| Some((hosts.file.as_deref()?, hosts.reload))).collect();
        let is_used = |key: &Key| used.contains(&(key.0.as_path(), key.1));
        self.files.retain(|key, file| is_used(key) || Arc::strong_count(file) > 1);
    }

    /// Those that were not read yet.
    pub fn unread(&self) -> Unread {
        let unread = |file: &&Arc<HostsFile>| file.shelf.load().is_none();
        Unread {
            files: self.files.values().filter(unread).cloned().collect(),
            arrivals: Arc::clone(&self.arrivals),
        }
    }

    /// Without a thread a file is read here and now: late is better than never.
    fn ask_for(&mut self, file: Arc<HostsFile>) {
        if self.reader.is_none() {
            self.reader = start(&self.arrivals)
                .inspect_err(|error| warn!(%error, "no thread that reads hosts files can be had"))
                .ok();
        }
        let sent = self.reader.as_ref().map(|reader| reader.send(Arc::clone(&file)));
        if !matches!(sent, Some(Ok(()))) {
            Followed::new(&file).look();
        }
    }
}

/// Files that are still to be read; none of them is forgotten before this is.
pub(super) struct Unread {
    files: Vec<Arc<HostsFile>>,
    arrivals: Arc<Arrivals>,
}

impl Unread {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Waits until all have been read or could not be, and no longer than this.
    pub fn wait(&self, patience: Duration) {
        let to_come = |file: &Arc<HostsFile>| file.shelf.load().is_none();
        let (lock, are_left) = (self.arrivals.lock(), |_: &mut ()| self.files.iter().any(to_come));
        // Whatever the lock says, the shelves say what is left.
        drop(self.arrivals.news.wait_timeout_while(lock, patience, are_left));
        for file in self.files.iter().filter(|file| to_come(file)) {
            let file = file.path.display();
            warn!(%file, "the hosts file is still being read: what it may answer is SERVFAIL until then");
        }
    }
}

/// Starts the thread.
fn start(arrivals: &Arc<Arrivals>) -> io::Result<Sender<Arc<HostsFile>>> {
    let (sender, requests) = channel();
    let arrivals = Arc::clone(arrivals);
    std::thread::Builder::new().name("hosts".to_owned()).spawn(move || follow(&requests, &arrivals))?;
    Ok(sender)
}

/// Looks at files when asked to, and when their time has come. A request that comes during a look is another look.
fn follow(requests: &Receiver<Arc<HostsFile>>, arrivals: &Arrivals) {
    let mut all: Vec<Followed> = Vec::new();
    loop {
        let due = all.iter().filter_map(|followed| followed.next).min();
        let request = match due {
            Some(due) => requests.recv_timeout(due.saturating_duration_since(Instant::now())),
            None => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        all.retain(|followed| followed.file.strong_count() > 0);
        match request {
            Ok(file) => {
                let known = all.iter_mut().find(|followed| followed.file.as_ptr() == Arc::as_ptr(&file));
                match known {
                    Some(known) => known.look(),
                    None => {
                        let mut new = Followed::new(&file);
                        new.look();
                        all.push(new);
                    }
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let now = Instant::now();
        all.iter_mut().filter(|followed| followed.next.is_some_and(|at| at <= now)).for_each(Followed::look);
        // Whoever looks whether he has to wait holds the lock until he does.
        drop(arrivals.lock());
        arrivals.news.notify_all();
    }
}

/// What tells one content of a file from another without reading it: device, inode, size, and both times.
type Look = (u64, u64, u64, [i64; 4]);

/// A file as it was when it was read last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// It was not, or may have been caught while it changed: it is to be read, however it looks.
    Unsure,
    /// There was none.
    Gone,
    /// So it looked.
    As(Look),
}

/// A file that the thread looks at.
struct Followed {
    /// It ends when nobody else has it.
    file: Weak<HostsFile>,
    seen: Seen,
    /// What it looked like last, and since when: its times may be those of another machine, whose clock is ahead.
    looks: (Seen, Instant),
    /// What was told last of why it cannot be read.
    complaint: String,
    /// When it is looked at next.
    next: Option<Instant>,
}

impl Followed {
    fn new(file: &Arc<HostsFile>) -> Self {
        Self {
            file: Arc::downgrade(file),
            seen: Seen::Unsure,
            looks: (Seen::Unsure, Instant::now()),
            complaint: String::new(),
            next: None,
        }
    }

    /// Reads the file if it is not as it was.
    fn look(&mut self) {
        let Some(file) = self.file.upgrade() else { return };
        let pause = match look(&file) {
            Ok(now) if now == self.seen => None,
            Ok(now) => self.read(&file, now),
            Err(error) => self.complain(&file, &error),
        };
        let reload = (!file.reload.is_zero()).then_some(file.reload);
        self.next = pause.into_iter().chain(reload).min().map(|pause| Instant::now() + pause);
    }

    /// Reads what looks so; says when to look again, where that is not when it usually is.
    fn read(&mut self, file: &HostsFile, now: Seen) -> Option<Duration> {
        if self.looks.0 != now {
            self.looks = (now, Instant::now());
        }
        let age = age(now).max(self.looks.1.elapsed());
        let table = match now {
            Seen::Gone => Ok(Table::default()),
            _ => Table::read(&file.path),
        };
        let table = match table {
            Ok(table) => table,
            Err(error) => return self.complain(file, &error),
        };
        let before = file.shelf.load_full();
        let emptied = matches!(now, Seen::As((_, _, 0, _)))
            && before.as_ref().is_some_and(|before| before.entries() > 0);
        if emptied && age < BEING_WRITTEN {
            self.seen = Seen::Unsure;
            return Some(BEING_WRITTEN);
        }
        if before.as_deref() != Some(&table) {
            tell(file, now, &table);
        }
        file.shelf.store(Some(Arc::new(table)));
        self.complaint.clear();
        let still = look(file).is_ok_and(|after| after == now);
        if still && age >= COARSE {
            self.seen = now;
            return None;
        }
        self.seen = Seen::Unsure;
        // Once is once.
        (!file.reload.is_zero()).then_some(if still { COARSE } else { AGAIN })
    }

    /// The entries that it had stay; without any, there are none.
    fn complain(&mut self, file: &HostsFile, error: &io::Error) -> Option<Duration> {
        self.seen = Seen::Unsure;
        let complaint = error.to_string();
        if complaint != self.complaint {
            warn!(file = %file.path.display(), %error, "the hosts file cannot be read");
            self.complaint = complaint;
        }
        if file.shelf.load().is_none() {
            file.shelf.store(Some(Arc::default()));
        }
        None
    }
}

fn tell(file: &HostsFile, now: Seen, table: &Table) {
    let path = file.path.display();
    if now == Seen::Gone {
        return warn!(file = %path, "there is no such hosts file; it is read when it comes");
    }
    let (entries, skipped, left_out) = (table.entries(), table.skipped(), table.left_out());
    info!(file = %path, entries, skipped, left_out, "hosts file read");
}

/// How a file looks, links followed.
fn look(file: &HostsFile) -> io::Result<Seen> {
    match fs::metadata(&file.path) {
        Ok(m) => {
            let times = [m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()];
            Ok(Seen::As((m.dev(), m.ino(), m.len(), times)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Seen::Gone),
        Err(error) => Err(error),
    }
}

/// How long ago it changed; none at all if that is to come. Of no file there is nothing to be unsure of.
fn age(seen: Seen) -> Duration {
    let Seen::As((.., [_, _, seconds, nanos])) = seen else { return Duration::MAX };
    let since = Duration::new(seconds.try_into().unwrap_or(0), nanos.try_into().unwrap_or(0));
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    now.saturating_sub(since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_not_changed_since_we_look_is_believed_whatever_its_clock_says() {
        let path = std::env::temp_dir().join(format!("sidestep-hosts-ahead-{}", std::process::id()));
        fs::write(&path, "192.0.2.1 a.test\n").unwrap();
        let shelf = Arc::<Shelf>::default();
        let file = Arc::new(HostsFile {
            path: path.clone(),
            reload: Duration::from_secs(5),
            shelf: Arc::clone(&shelf),
        });
        let entries = || shelf.load().as_ref().map_or(0, |table| table.entries());
        let mut followed = Followed::new(&file);
        followed.look();
        assert_eq!(entries(), 1);
        fs::write(&path, "").unwrap();
        // As a server says that is an hour ahead of us.
        let ahead = (SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() + 3600) as i64;
        let empty = Seen::As((0, 0, 0, [ahead, 0, ahead, 0]));
        assert_eq!(followed.read(&file, empty), Some(BEING_WRITTEN));
        assert_eq!(entries(), 1, "it may be being written");
        followed.looks.1 -= BEING_WRITTEN;
        followed.read(&file, empty);
        assert_eq!(entries(), 0, "it is empty");
        fs::remove_file(path).unwrap();
    }
}
