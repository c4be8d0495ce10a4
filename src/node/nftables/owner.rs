//! Whose table it is: from the port of a netlink socket to a process.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;

/// Who owns a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The port of its netlink socket, as `nft list ruleset` says it ("progname" is guessed from it there).
    pub port: u32,
    /// Its process; unknown if that is in another PID namespace, or we may not look.
    pub process: Option<u32>,
}

impl Owner {
    /// Looks for the process that holds the socket of this port.
    pub(super) fn find(port: u32) -> Self {
        Self { port, process: inode(port).and_then(holder) }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.process {
            Some(process) => write!(f, "process {process}"),
            None => write!(f, "a process unknown to us (netlink port {})", self.port),
        }
    }
}

/// The inode of the netfilter socket of this port: columns sk, Eth, Pid (the port), Groups, Rmem, Wmem, Dump, Locks,
/// Drops, Inode.
fn inode(port: u32) -> Option<u64> {
    const NETLINK_NETFILTER: &str = "12";
    // Of this thread: a thread may be in a network namespace of its own.
    let table = fs::read_to_string("/proc/thread-self/net/netlink").ok()?;
    table.lines().skip(1).find_map(|line| {
        let columns: Vec<_> = line.split_whitespace().collect();
        let ours = columns.get(1) == Some(&NETLINK_NETFILTER)
            && columns.get(2).is_some_and(|column| column.parse() == Ok(port));
        if ours { columns.get(9)?.parse().ok() } else { None }
    })
}

/// The process of which a thread holds a descriptor of this socket; the thread may have a table of its own.
pub fn holder(inode: u64) -> Option<u32> {
    numbers("/proc").find(|process| {
        let tasks = format!("/proc/{process}/task");
        numbers(&tasks).any(|thread| holds(&format!("{tasks}/{thread}/fd"), inode))
    })
}

fn holds(descriptors: &str, inode: u64) -> bool {
    fs::read_dir(descriptors).is_ok_and(|descriptors| {
        descriptors.flatten().any(|descriptor| {
            fs::metadata(descriptor.path()).is_ok_and(|held| held.ino() == inode && is_socket(&held))
        })
    })
}

/// The entries of a directory of /proc that are numbers. One that is gone has none.
fn numbers(directory: &str) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn is_socket(held: &fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    held.file_type().is_socket()
}
