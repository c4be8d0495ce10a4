//! The watchdog: it asks our own listeners, and ends the process when they no longer answer.
//!
//! A process of which a part hangs is worse than none: pods keep coming, and nobody answers them. With the process
//! its sockets and rules go, and pods reach the cluster DNS.
//!
//! - It runs on a thread of its own, with an event loop of its own: **outside** of the serving threads. It asks each
//!   address over UDP, as clients do; these answers also keep the node's rules awake when no client asks.
//! - Each worker has a [`Pulse`] that its event loop must take: **inside**. The kernel spreads queries over the
//!   workers, so one worker that hangs would show as every second query lost.
//! - It never asks an upstream: when these are down, our expired answers are what keeps the node alive.
//! - It counts beats, not time: a process that was stopped and goes on (SIGSTOP, a frozen cgroup, a suspended
//!   machine) has missed none.
//! - It goes to sleep when the rules are gone at the end: what drains then answers nobody new, and need not hurry.
//! - systemd's watchdog (sd_watchdog_enabled(3)) is fed by each beat that found all well.

use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::{debug, error};

use crate::telemetry::health;

/// The pause between two beats; well below the time that one answer keeps the rules awake.
pub const BEAT: Duration = Duration::from_millis(500);

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_millis(400);

/// Shows that an event loop turns: whoever runs on it takes what the watchdog gives.
#[derive(Debug, Default)]
pub struct Pulse {
    /// Beats that have not been taken.
    missed: AtomicU32,
    given: Notify,
}

impl Pulse {
    /// Takes every beat, for ever. To be run by the event loop in question.
    pub async fn take(&self) {
        loop {
            self.given.notified().await;
            self.missed.store(0, Relaxed);
        }
    }

    /// Gives a beat; how many were not taken before it.
    fn give(&self) -> u32 {
        let missed = self.missed.fetch_add(1, Relaxed);
        self.given.notify_one();
        missed
    }
}

/// What is watched, and what happens at the end.
pub struct Watched {
    /// The addresses that are asked.
    pub addresses: Vec<SocketAddr>,
    /// The mark on the questions; see [`health`].
    pub mark: Option<u32>,
    /// The event loops, by number.
    pub pulses: Vec<Arc<Pulse>>,
    /// How long each may be silent.
    pub bound: Duration,
    /// Takes away, as fast as it can, what would keep clients coming.
    pub last_deed: Box<dyn FnOnce() + Send>,
}

/// A watchdog that runs.
#[derive(Debug)]
pub struct Watchdog(Arc<AtomicBool>);

impl Watchdog {
    /// From now on it minds nothing.
    pub fn sleep(&self) {
        self.0.store(true, Relaxed);
    }
}

/// Starts the watchdog. It runs until it is told to sleep.
///
/// # Errors
/// No thread or event loop can be had.
pub fn start(watched: Watched) -> std::io::Result<Watchdog> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let thread = std::thread::Builder::new().name("watchdog".to_owned());
    let asleep = Arc::new(AtomicBool::new(false));
    let watchdog = Watchdog(Arc::clone(&asleep));
    thread.spawn(move || {
        let Some(why) = runtime.block_on(watch(&watched, &asleep)) else { return };
        error!("{why}; the process ends, so that clients reach the cluster DNS without it");
        (watched.last_deed)();
        std::process::exit(1);
    })?;
    Ok(watchdog)
}

/// Watches until something is over, and says what; nothing if it is to sleep.
async fn watch(watched: &Watched, asleep: &AtomicBool) -> Option<String> {
    let manager = Manager::of_the_environment();
    let bound = beats(watched.bound);
    let mut silent = vec![0; watched.addresses.len()];
    let mut beat = interval_at(Instant::now() + BEAT, BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        let missed: Vec<u32> = watched.pulses.iter().map(|pulse| pulse.give()).collect();
        let answers = health::ask_over_udp(&watched.addresses, watched.mark, PATIENCE).await;
        if asleep.load(Relaxed) {
            return None;
        }
        for (index, (answer, silent)) in answers.iter().zip(&mut silent).enumerate() {
            *silent = if answer.is_ok() { 0 } else { *silent + 1 };
            if let Err(why) = answer {
                debug!("the watchdog's question: {why}");
            }
            if *silent >= bound {
                let address = watched.addresses[index];
                let bound = watched.bound;
                return Some(format!("{address} has not answered our own questions for {bound:?}"));
            }
        }
        if let Some(worker) = missed.iter().position(|&missed| missed >= bound) {
            return Some(format!("worker {worker} has not turned for {:?}", watched.bound));
        }
        if let Some(manager) = &manager
            && silent.iter().chain(&missed).all(|&n| n == 0)
        {
            manager.feed();
        }
    }
}

/// A time in beats, at least two: one may be lost to bad luck.
fn beats(time: Duration) -> u32 {
    u32::try_from(time.as_millis() / BEAT.as_millis()).unwrap_or(u32::MAX).max(2)
}

/// The service manager's socket (sd_notify(3)).
struct Manager(UnixDatagram);

impl Manager {
    /// The one that the environment names, if it wants to be fed by this process.
    fn of_the_environment() -> Option<Self> {
        let variable = |name| std::env::var(name).ok();
        variable("WATCHDOG_USEC")?;
        if variable("WATCHDOG_PID").is_some_and(|pid| pid != std::process::id().to_string()) {
            return None;
        }
        Self::at(&variable("NOTIFY_SOCKET")?)
    }

    /// The one at this path; an abstract one begins with `@`.
    fn at(path: &str) -> Option<Self> {
        let socket = UnixDatagram::unbound().ok()?;
        let address = match path.strip_prefix('@') {
            Some(name) => UnixAddr::from_abstract_name(name),
            None => UnixAddr::from_pathname(Path::new(path)),
        };
        socket.connect_addr(&address.ok()?).ok()?;
        socket.set_nonblocking(true).ok()?;
        Some(Self(socket))
    }

    fn feed(&self) {
        // A manager that does not listen will say so itself, by ending us.
        let _ = self.0.send(b"WATCHDOG=1");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static AWAKE: AtomicBool = AtomicBool::new(false);

    fn run<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(test)
    }

    fn watched(addresses: Vec<SocketAddr>, pulses: Vec<Arc<Pulse>>) -> Watched {
        Watched { addresses, mark: None, pulses, bound: Duration::from_secs(2), last_deed: Box::new(|| ()) }
    }

    #[test]
    fn a_loop_that_turns_is_left_alone_and_one_that_hangs_is_named() {
        let (turning, hanging) = (Arc::new(Pulse::default()), Arc::new(Pulse::default()));
        run(async {
            let well = watched(Vec::new(), vec![Arc::clone(&turning)]);
            let taking = Arc::clone(&turning);
            tokio::select! {
                why = watch(&well, &AWAKE) => panic!("{why:?}"),
                () = taking.take() => unreachable!("it never ends"),
                () = tokio::time::sleep(Duration::from_secs(60)) => {}
            }
            let ill = watched(Vec::new(), vec![Arc::clone(&turning), Arc::clone(&hanging)]);
            let why = tokio::select! {
                why = watch(&ill, &AWAKE) => why,
                () = turning.take() => unreachable!("it never ends"),
            };
            assert_eq!(why.unwrap(), "worker 1 has not turned for 2s");
        });
    }

    #[test]
    fn asleep_it_minds_nothing() {
        let asleep = AtomicBool::new(false);
        let hanging = watched(Vec::new(), vec![Arc::new(Pulse::default())]);
        run(async {
            let tired = async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                asleep.store(true, Relaxed);
                std::future::pending::<()>().await;
            };
            tokio::select! {
                why = watch(&hanging, &asleep) => assert_eq!(why, None),
                () = tired => unreachable!("it never ends"),
            }
        });
    }

    #[test]
    fn a_listener_that_is_silent_is_named_after_the_bound() {
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap();
        run(async {
            let before = Instant::now();
            let why = watch(&watched(vec![address], Vec::new()), &AWAKE).await.unwrap();
            assert_eq!(why, format!("{address} has not answered our own questions for 2s"));
            assert!(before.elapsed() >= Duration::from_millis(1500), "{:?}", before.elapsed());
        });
    }

    #[test]
    fn the_service_manager_is_fed_at_its_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Manager::at(path.to_str().unwrap()).unwrap().feed();
        let mut buffer = [0; 32];
        let length = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"WATCHDOG=1");
    }
}
