//! A place: a network namespace without a name, held by one thread that works in it.
//!
//! Sockets belong to the namespace of the thread that made them, whoever uses them later; so do the processes that
//! it starts. Nothing here has a name on the machine: when the thread ends, the links, addresses, rows and
//! connections of its place end with it, and the kernel kills the processes it started. That holds as well when
//! this program is killed itself.
//!
//! Two calls need `unsafe`, and both stand in this file: unshare(2), which could give threads different tables of
//! open files (the flags here do not), and the code between fork and exec of a child.
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};

use rustix::io::Errno;
use rustix::process::{Signal, getegid, geteuid, set_parent_process_death_signal};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::{Doing, Trouble};

type Job = Box<dyn FnOnce() + Send>;

/// See the module.
pub(super) struct Place {
    name: &'static str,
    jobs: Option<Sender<Job>>,
    namespace: File,
    thread: Option<JoinHandle<()>>,
}

impl Place {
    /// A new place with nothing in it but a loopback that is down.
    pub fn new(name: &'static str) -> Result<Self, Trouble> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (ready, made) = mpsc::channel();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _ = ready.send(leave_the_network().and_then(|()| File::open("/proc/thread-self/ns/net")));
            while let Ok(job) = inbox.recv() {
                job();
            }
        });
        let thread = thread.doing("starting a thread")?;
        let namespace = made.recv().doing("starting a thread")?.doing("making a network namespace")?;
        Ok(Self { name, jobs: Some(jobs), namespace, thread: Some(thread) })
    }

    /// Does something here, and waits for it.
    pub fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, Trouble> {
        let (done, result) = mpsc::channel();
        let job: Job = Box::new(move || {
            let _ = done.send(job());
        });
        let gone = || Trouble(format!("the thread of {} has ended", self.name));
        self.jobs.as_ref().ok_or_else(gone)?.send(job).map_err(|_| gone())?;
        result.recv().map_err(|_| gone())?
    }

    /// Starts a process here. The kernel kills it when this place or this program ends.
    pub fn spawn(&self, mut command: Command) -> Result<Child, Trouble> {
        // SAFETY: between fork and exec the child makes two system calls, and neither takes a lock nor memory.
        unsafe {
            command.pre_exec(|| set_parent_process_death_signal(Some(Signal::KILL)).map_err(Into::into));
        }
        self.run(move || command.spawn().doing("starting a process"))
    }

    /// The descriptor of the namespace, which lives as long as this place does.
    pub fn namespace(&self) -> RawFd {
        self.namespace.as_raw_fd()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Without anybody who could send more, the thread ends.
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A network namespace for the calling thread alone.
fn leave_the_network() -> io::Result<()> {
    // SAFETY: the table of open files stays shared (no CLONE_FILES).
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.map_err(Into::into)
}

/// Who we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rights {
    /// Somebody who may make network namespaces.
    Root,
    /// Root in a user namespace of our own, nobody special outside.
    UserNamespace,
}

/// Gets the right to make network namespaces: as root we have it, anybody else has it in a user namespace.
///
/// The calling thread is in an empty network afterwards, so nothing that is done by mistake reaches the host's.
/// Must be called while the program has one thread (user_namespaces(7)).
pub(super) fn rights() -> Result<Rights, Trouble> {
    match leave_the_network() {
        Ok(()) => return Ok(Rights::Root),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::PERM) => {}
        Err(error) => return Err(Trouble(format!("making a network namespace: {error}"))),
    }
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    // SAFETY: the table of open files stays shared (no CLONE_FILES).
    unsafe { unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNET) }.doing(
        "making a user namespace (it needs root, or sysctl user.max_user_namespaces above 0 and no \
         kernel.apparmor_restrict_unprivileged_userns or kernel.unprivileged_userns_clone=0)",
    )?;
    // Without this, a group map is refused to those without rights (user_namespaces(7)).
    let maps = [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {user} 1")),
        ("gid_map", format!("0 {group} 1")),
    ];
    for (file, text) in maps {
        fs::write(format!("/proc/self/{file}"), text).doing("becoming root in a user namespace")?;
    }
    Ok(Rights::UserNamespace)
}
