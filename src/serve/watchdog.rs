//! The watchdog: it asks our own listeners, and ends the process when they no longer answer.
//!
//! A process of which a part hangs is worse than none: pods keep coming, and nobody answers them. With the process
//! its sockets and rules go, and pods reach the cluster DNS.
//!
//! - It runs on a thread of its own, with an event loop of its own: **outside** of the serving threads. It asks each
//!   address as clients do: over UDP with every beat, which also keeps the node's rules awake when no client asks, and
//!   over TCP with every sixth.
//! - Questions that are lost in a flood speak against nobody who answers others meanwhile ([`Door`]).
//! - Each worker has a [`Pulse`] that its event loop must take: **inside**. The kernel spreads queries over the
//!   workers, so one worker that hangs would show as every second query lost.
//! - It never asks an upstream: when these are down, our expired answers are what keeps the node alive.
//! - It counts beats, not time: a process that was stopped and goes on (SIGSTOP, a frozen cgroup, a suspended
//!   machine) has missed none.
//! - It goes to sleep when the rules are gone at the end: what drains then answers nobody new, and need not hurry.
//! - systemd's watchdog ([`manager`](super::manager)) is fed by each beat that found all well. Where it wants to be fed,
//!   a process without a node has a watchdog, too.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::{debug, error};

use super::door::Door;
use super::manager::{Manager, State};
use crate::listen::Served;
use crate::telemetry::health::{self, Protocol};

/// The pause between two beats; well below the time that one answer keeps the rules awake.
pub const BEAT: Duration = Duration::from_millis(500);

/// How many beats there are from one connection to the next: each costs two wake-ups more than a datagram, and an entry
/// of the kernel's for a minute. One that fails is followed by another with the next beat.
const TCP_EVERY: u64 = 6;

/// What the end of the process is good for where nobody answers in its stead.
pub const ANEW: &str = "whoever started it can start it anew";

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
    /// The addresses that are asked, and what each worker does there.
    pub addresses: Vec<(SocketAddr, Vec<Arc<Served>>)>,
    /// The mark on the questions; see [`health`].
    pub mark: Option<u32>,
    /// The event loops, by number.
    pub pulses: Vec<Arc<Pulse>>,
    /// How long each may be silent.
    pub bound: Duration,
    /// What the end of the process is good for, as the last line of the log has it.
    pub hope: &'static str,
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
        error!("{why}; the process ends, so that {}", watched.hope);
        (watched.last_deed)();
        std::process::exit(1);
    })?;
    Ok(watchdog)
}

/// Watches until something is over, and says what; nothing if it is to sleep.
async fn watch(watched: &Watched, asleep: &AtomicBool) -> Option<String> {
    let manager = Manager::with_a_watchdog();
    let bound = beats(watched.bound);
    let mut doors: Vec<Door> = watched
        .addresses
        .iter()
        .flat_map(|(address, served)| {
            [Protocol::Udp, Protocol::Tcp].map(|protocol| Door::new(*address, protocol, served))
        })
        .collect();
    let mut beat = interval_at(Instant::now() + BEAT, BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0_u64.. {
        beat.tick().await;
        let missed: Vec<u32> = watched.pulses.iter().map(|pulse| pulse.give()).collect();
        let due = doors.iter_mut().filter(|door| is_due(door, number));
        join_all(due.map(|door| knock(door, watched.mark))).await;
        if asleep.load(Relaxed) {
            return None;
        }
        if let Some(why) = doors.iter().find_map(|door| door.verdict(bound, watched.bound)) {
            return Some(why);
        }
        if let Some(worker) = missed.iter().position(|&missed| missed >= bound) {
            return Some(format!("worker {worker} has not turned for {:?}", watched.bound));
        }
        if let Some(manager) = &manager
            && missed.iter().all(|&missed| missed == 0)
            && doors.iter().all(Door::is_well)
        {
            manager.tell(State::Well);
        }
    }
    None
}

/// Whether this beat brings a question here.
fn is_due(door: &Door, number: u64) -> bool {
    door.protocol == Protocol::Udp || number.is_multiple_of(TCP_EVERY) || door.is_in_doubt()
}

/// Asks once.
async fn knock(door: &mut Door, mark: Option<u32>) {
    let answer = health::ask_once(door.address, door.protocol, mark, PATIENCE).await;
    if let Err(why) = &answer {
        debug!("the watchdog's question: {why}");
    }
    door.note(answer.is_ok());
}

/// A time in beats, at least two: one may be lost to bad luck.
fn beats(time: Duration) -> u32 {
    u32::try_from(time.as_millis() / BEAT.as_millis()).unwrap_or(u32::MAX).max(2)
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

    /// One worker at each address.
    fn watched(addresses: &[SocketAddr], pulses: Vec<Arc<Pulse>>) -> Watched {
        let addresses = addresses.iter().map(|&address| (address, vec![Arc::default()])).collect();
        Watched {
            addresses,
            mark: None,
            pulses,
            bound: Duration::from_secs(2),
            hope: "",
            last_deed: Box::new(|| ()),
        }
    }

    #[test]
    fn a_loop_that_turns_is_left_alone_and_one_that_hangs_is_named() {
        let (turning, hanging) = (Arc::new(Pulse::default()), Arc::new(Pulse::default()));
        run(async {
            let well = watched(&[], vec![Arc::clone(&turning)]);
            let taking = Arc::clone(&turning);
            tokio::select! {
                why = watch(&well, &AWAKE) => panic!("{why:?}"),
                () = taking.take() => unreachable!("it never ends"),
                () = tokio::time::sleep(Duration::from_secs(60)) => {}
            }
            let ill = watched(&[], vec![Arc::clone(&turning), Arc::clone(&hanging)]);
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
        let hanging = watched(&[], vec![Arc::new(Pulse::default())]);
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

    /// A UDP and a TCP socket at one port, which nobody reads.
    fn silent() -> (std::net::UdpSocket, std::net::TcpListener, SocketAddr) {
        loop {
            let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = tcp.local_addr().unwrap();
            if let Ok(udp) = std::net::UdpSocket::bind(address) {
                return (udp, tcp, address);
            }
        }
    }

    #[test]
    fn a_listener_that_is_silent_is_named_after_the_bound() {
        let (_udp, _tcp, address) = silent();
        run(async {
            let before = Instant::now();
            let why = watch(&watched(&[address], Vec::new()), &AWAKE).await.unwrap();
            assert_eq!(why, format!("{address} has not answered our own questions over UDP for 2s"));
            assert!(before.elapsed() >= Duration::from_millis(1500), "{:?}", before.elapsed());
        });
    }

    #[test]
    fn connections_that_nobody_accepts_are_noticed_although_datagrams_are_answered() {
        let (udp, _tcp, address) = silent();
        udp.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        std::thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((length, from)) = udp.recv_from(&mut query) {
                query[2] |= 0x80; // QR
                let _ = udp.send_to(&query[..length], from);
            }
        });
        // In real time: the answers come from a thread of their own.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let why = runtime.block_on(async { watch(&watched(&[address], Vec::new()), &AWAKE).await });
        assert_eq!(why.unwrap(), format!("{address} has not answered our own questions over TCP for 2s"));
    }

    #[test]
    fn a_flood_in_which_our_questions_are_lost_ends_nobody_who_answers_others() {
        let (_udp, _tcp, address) = silent();
        let watched = watched(&[address], Vec::new());
        let served = Arc::clone(&watched.addresses[0].1[0]);
        run(async {
            let busy = async {
                for _ in 0..600 {
                    served.answers.add(64);
                    served.connections.bump();
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            };
            tokio::select! {
                why = watch(&watched, &AWAKE) => panic!("{why:?}"),
                () = busy => {}
            }
        });
    }
}
