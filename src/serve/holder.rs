//! The thread that holds the node: its link, its rules, and the sockets that the kernel ties them to.
//!
//! It has a descriptor table of its own (CLONE_FILES, unshare(2)). A thread that dies gives up the process' memory
//! first and its descriptors afterwards (`exit_mm` and `exit_files` in the kernel's `do_exit`), and a table that threads
//! share is closed by the last of them, which is also the one that frees the memory: 100 to 200 ms for a gigabyte, in
//! which the rules would keep clients coming to nobody. This thread is started before all others, so it is told of the
//! end among the first; it waits for nothing but the next [deed](Holder::with), and its table holds nothing but what
//! belongs to the node and copies of those by which signals are heard. So what it holds is closed while the others still die.
//!
//! What is opened here stays here: a descriptor's number means nothing to another thread. Nor do those of others mean
//! anything here, so nothing that is done here may wake an event loop. A signal's handler does, by writing to a descriptor:
//! the kernel gives signals of the process to any thread that takes them, so this one and those that it starts take none.
//!
//! It also keeps what blocks from the event loop: a program that waits for the lock of iptables may take many seconds,
//! and whoever asks after our health is not to wait for it.
#![allow(unsafe_code)]

use std::io;
use std::sync::mpsc;

use rustix::process::setpriority_process;
use rustix::thread::{UnshareFlags, unshare_unsafe};
use tokio::task::spawn_blocking;
use tracing::{error, warn};

use crate::node::{Fault, Node};

/// The nice value of who goes first (sched(7): it is a thread's own on Linux).
const FIRST: i32 = -20;

/// Something to be done to the node.
type Deed = Box<dyn FnOnce(&mut Option<Node>) + Send>;

/// The way to the thread; it ends with this.
pub struct Holder(mpsc::Sender<Deed>);

impl Holder {
    /// Starts it. To be called before other threads are, and before anything is opened that it should not have copies of.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start() -> std::io::Result<Self> {
        let (sender, deeds) = mpsc::channel::<Deed>();
        let (apart, is_apart) = mpsc::channel();
        std::thread::Builder::new().name("node".to_owned()).spawn(move || {
            take_no_signals();
            set_apart();
            // So that the end of the process is heard of here before other threads have gone, and this one is left to
            // free the memory. It takes CAP_SYS_NICE; without it that is so most times.
            let _ = setpriority_process(None, FIRST);
            // Whoever starts us waits for this: what it opens from now on has no copy here that would keep it open.
            let _ = apart.send(());
            let mut node = None;
            for deed in deeds {
                deed(&mut node);
            }
        })?;
        is_apart.recv().unwrap_or_else(|_| gone());
        Ok(Self(sender))
    }

    /// Makes the node, there; waits for it. What else is to be known of it, `tell` says.
    ///
    /// # Errors
    /// As `make`.
    pub fn make<T: Send + 'static>(
        &self,
        make: impl FnOnce() -> Result<Node, Fault> + Send + 'static,
        tell: impl FnOnce(&Node) -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let (result, receiver) = mpsc::channel();
        self.send(Box::new(move |place| {
            // Whoever asked is there: it waits.
            let _ = result.send(make().map(|node| tell(place.insert(node))));
        }));
        receiver.recv().unwrap_or_else(|_| gone())
    }

    /// Does something to the node, while the event loop turns. Deeds are done one by one.
    pub async fn with<T: Send + 'static>(&self, deed: impl FnOnce(&mut Node) -> T + Send + 'static) -> T {
        let (result, receiver) = mpsc::channel();
        self.send(Box::new(move |node| {
            if let Some(node) = node {
                // Who has stopped waiting does not want to know.
                let _ = result.send(deed(node));
            }
        }));
        // An event loop is woken by the number of a descriptor, which the node's thread does not have: so another one
        // waits, and wakes it.
        match spawn_blocking(move || receiver.recv()).await {
            Ok(Ok(result)) => result,
            _ => gone(),
        }
    }

    fn send(&self, deed: Deed) {
        if self.0.send(deed).is_err() {
            gone()
        }
    }
}

/// Without this thread nobody sees to the node. With the process its rules go, and clients reach the cluster DNS.
fn gone() -> ! {
    error!(
        "the thread that holds the node has ended, which is a fault of this program; the process ends too"
    );
    std::process::exit(1)
}

/// Leaves the signals that we [hear](super::signals) to other threads. The kernel prefers the main thread, but that
/// one takes none while it starts another: what is sent just then would come here and never be heard of. Other signals
/// stay as they are, since programs that are run here inherit this (iptables needs SIGALRM to end its wait for a lock).
fn take_no_signals() {
    // SAFETY: `set` is ours and lives longer than the calls, the first of which fills it; nothing else is written.
    unsafe {
        let mut set = std::mem::MaybeUninit::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        for signal in [libc::SIGHUP, libc::SIGUSR1, libc::SIGTERM, libc::SIGINT] {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
    }
}

/// Gives this thread a descriptor table of its own.
fn set_apart() {
    // SAFETY: this thread has opened nothing, and uses nothing that the main thread has (the wires of its event
    // loop, by which it hears signals, are copied and never touched); from here on, what other threads open or close is not seen here, and the reverse, which is what is wanted.
    let apart = unsafe { unshare_unsafe(UnshareFlags::FILES) }.or_else(|_| close_nothing_apart());
    if let Err(error) = apart {
        warn!(%error, "when this process is killed, clients fall back only after its memory has been freed");
    }
}

/// The same by another door (CLOSE_RANGE_UNSHARE, Linux 5.9, close_range(2)): the usual seccomp profile of containers
/// refuses unshare(2) whatever it is asked for. The one descriptor of the range is a number that no process has.
fn close_nothing_apart() -> io::Result<()> {
    // SAFETY: as above; and close_range closes nothing here.
    let done = unsafe {
        libc::syscall(libc::SYS_close_range, libc::c_uint::MAX, libc::c_uint::MAX, libc::CLOSE_RANGE_UNSHARE)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
