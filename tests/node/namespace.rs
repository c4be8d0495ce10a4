//! Network namespaces. Each is held by one thread of this process, in which a test runs, the library's own code
//! with it; programs that it starts inherit the namespace. It has no name, so that nothing of it is left when the
//! thread has ended.
#![allow(unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread::{Builder, JoinHandle};

use rustix::thread::{UnshareFlags, gettid, unshare_unsafe};

type Job = Box<dyn FnOnce() + Send>;

/// A namespace with nothing in it but `lo`, which is up.
pub struct Namespace {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    id: i32,
}

impl Namespace {
    pub fn new() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "network namespaces need root: run `just test-real` as root"
        );
        let (jobs, queue) = channel::<Job>();
        let (ready, made) = channel();
        let hold = move || {
            // SAFETY: a network namespace is no memory and no descriptor: nothing that this thread or another holds
            // changes its meaning.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("a network namespace of our own");
            ip("link set lo up");
            ready.send(gettid().as_raw_nonzero().get()).unwrap();
            queue.iter().for_each(|job| job());
        };
        let thread = Builder::new().name("namespace".to_owned()).spawn(hold).unwrap();
        let id = made.recv().expect("the namespace is made");
        Self { jobs: Some(jobs), thread: Some(thread), id }
    }

    /// Runs something in here, and returns or fails as it does.
    pub fn run<T: Send + 'static>(&self, body: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = channel();
        let job = move || drop(done.send(catch_unwind(AssertUnwindSafe(body))));
        self.jobs.as_ref().unwrap().send(Box::new(job)).unwrap();
        result.recv().unwrap().unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// What `ip link ... netns` takes for it.
    pub fn id(&self) -> i32 {
        self.id
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Runs a test in a namespace of its own, when it is its turn.
pub fn alone(test: impl FnOnce() + Send + 'static) {
    let _turn = crate::turn();
    Namespace::new().run(test);
}

/// `ip`, with arguments as one would type them; what it prints.
pub fn ip(arguments: &str) -> String {
    try_ip(arguments).unwrap_or_else(|said| panic!("ip {arguments}: {said}"))
}

/// The same, where it may fail; then, what it says.
pub fn try_ip(arguments: &str) -> Result<String, String> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new("ip").args(arguments.split(' ')).env("PATH", path).output();
    let output = output.expect("ip runs: apt-get install iproute2");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}
