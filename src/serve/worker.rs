//! A worker's thread: its event loop, what runs on it, and how it stops.

use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::{Instant, sleep};
use tracing::error;

use crate::cache::Cache;
use crate::listen::bind::Sockets;
use crate::listen::front::Front;
use crate::listen::tcp::Clients;
use crate::listen::udp::Datagrams;
use crate::listen::{self, Served};
use crate::resolve::{self, Resolver, Snapshot};

use super::watchdog::Pulse;

/// How long a stopping worker waits for its flights and connections. Kubernetes waits 30 s before it kills.
const DRAIN: Duration = Duration::from_secs(5);
/// How often a stopping worker looks whether it is done.
const DRAIN_STEP: Duration = Duration::from_millis(10);

/// What a worker is made of.
pub struct Parts {
    /// Its number.
    pub index: usize,
    /// How many there are.
    pub count: usize,
    /// Its sockets, a pair an address, and where it tells what it does at that address.
    pub sockets: Vec<(Sockets, Arc<Served>)>,
    /// The answers that all share.
    pub cache: Arc<Cache>,
    /// Where reloads appear.
    pub published: Arc<ArcSwap<Snapshot>>,
    /// Where new settings for its clients appear.
    pub settings: Arc<ArcSwap<listen::Settings>>,
    /// Its counters.
    pub listen: Arc<listen::Counters>,
    /// Its counters.
    pub resolve: Arc<resolve::Counters>,
    /// Where the watchdog feels it.
    pub pulse: Arc<Pulse>,
}

/// How far a worker is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    Parting,
    Stopping,
}

/// A running worker.
pub struct Worker {
    phase: watch::Sender<Phase>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Worker {
    /// Starts a worker.
    ///
    /// # Errors
    /// No thread or event loop can be had, or a socket cannot be registered with it.
    pub fn start(parts: Parts) -> io::Result<Self> {
        let (phase, phases) = watch::channel(Phase::Serving);
        let (started, result) = std::sync::mpsc::channel();
        let thread =
            std::thread::Builder::new().name(format!("worker-{}", parts.index)).spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
                match runtime {
                    Ok(runtime) => LocalSet::new().block_on(&runtime, serve(parts, phases, started)),
                    Err(error) => drop(started.send(Err(error))),
                }
            })?;
        result.recv().unwrap_or_else(|_| Err(io::Error::other("a worker ended before it began")))?;
        Ok(Self { phase, thread: Mutex::new(Some(thread)) })
    }

    /// Tells it to end its TCP connections as soon as they are answered; see [`Clients::part`].
    pub fn part(&self) {
        self.phase.send_replace(Phase::Parting);
    }

    /// Tells it to stop.
    pub fn stop(&self) {
        self.phase.send_replace(Phase::Stopping);
    }

    /// Waits until it has stopped.
    pub fn join(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic has said all there is to say.
            let _ = thread.join();
        }
    }
}

async fn serve(
    parts: Parts,
    mut phases: watch::Receiver<Phase>,
    started: std::sync::mpsc::Sender<io::Result<()>>,
) {
    let resolver = Resolver::new(parts.index, parts.cache, parts.resolve, parts.published);
    let front = Rc::new(Front::new(Rc::clone(&resolver), parts.settings, parts.listen));
    let clients = Clients::new(Rc::clone(&front), parts.count);
    let mut acceptors = Vec::new();
    let listening = listen(&front, &clients, parts.sockets, &mut acceptors);
    let failed = listening.is_err();
    // The supervisor waits for this message.
    let _ = started.send(listening);
    if failed {
        return;
    }
    spawn_local(async move { parts.pulse.take().await });
    // An error means that the supervisor is gone: stop as well.
    let _ = phases.wait_for(|&phase| phase >= Phase::Parting).await;
    clients.part();
    let _ = phases.wait_for(|&phase| phase == Phase::Stopping).await;
    for acceptor in &acceptors {
        acceptor.abort();
    }
    // Datagrams are served on: what clients have sent is answered, and nobody can tell them to stop.
    let deadline = Instant::now() + DRAIN;
    sleep(DRAIN_STEP).await;
    while resolver.under_way() > 0 && Instant::now() < deadline {
        sleep(DRAIN_STEP).await;
    }
    // Answers of the last flights are still on their way into the connections.
    sleep(DRAIN_STEP).await;
}

/// Has clients served on all addresses.
fn listen(
    front: &Rc<Front>,
    clients: &Rc<Clients>,
    sockets: Vec<(Sockets, Arc<Served>)>,
    acceptors: &mut Vec<JoinHandle<()>>,
) -> io::Result<()> {
    let mut datagrams = Datagrams::new()?;
    for (number, (Sockets { udp, tcp }, served)) in sockets.into_iter().enumerate() {
        datagrams.add(Rc::clone(front), udp, Arc::clone(&served))?;
        datagrams.heed(&tcp)?;
        let tcp = TcpListener::from_std(tcp)?;
        acceptors.push(spawn_local(Rc::clone(clients).serve(tcp, number, served)));
    }
    let (resolver, clients) = (Rc::clone(&front.resolver), Rc::clone(clients));
    let alone = move || resolver.under_way() == 0 && clients.open() == 0;
    spawn_local(async move {
        if let Err(error) = datagrams.serve(alone).await {
            // The watchdog ends a process that does not answer.
            error!(%error, "a worker answers no datagrams any more");
        }
    });
    Ok(())
}
