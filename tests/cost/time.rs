//! Nanoseconds. They drift with the machine and with its other work: compare only what one run says, and quote medians.
//!
//! Everything is timed in short turns, one after the other, so that a slow moment meets all of them alike. Stages are
//! timed as loops that go one step further each; a stage costs what its loop takes more than the one before, which
//! is not exact: in the whole, the processor works on several stages at once.

use std::cell::RefCell;
use std::error::Error;
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use sidestep::cache::near::{Found, Spot};
use sidestep::cache::{Cache, Near, Rules};
use sidestep::clock::Now;
use sidestep::wire::answer::{self, Asker, Ttl};
use sidestep::wire::query::{self, Query};

use crate::packets::{self, Form, Packet};
use crate::worker::{self, Worker};

/// Hits a turn.
const TURN: usize = 20_000;
/// Hits a turn of each thread, where threads are compared: starting them must not count.
const LONG_TURN: usize = 400_000;

/// Has [`TURN`] packets go a part of the way.
type Step<'a> = &'a dyn Fn(&Worker, &[Packet]);

/// Times hits, and prints two tables.
pub fn run(rounds: usize) -> Result<(), Box<dyn Error>> {
    // Nobody is asked.
    let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
    let cores = thread::available_parallelism()?.get();
    pin(0);
    stages(rounds, nobody)?;
    if cores < 2 {
        println!("one core: two threads cannot be compared with one");
        return Ok(());
    }
    threads(rounds.div_ceil(4), nobody)
}

fn stages(rounds: usize, nobody: SocketAddr) -> Result<(), Box<dyn Error>> {
    let worker = Worker::new(worker::cache(), nobody)?;
    let (plain, edns) = (packets::warm(Form::Plain), packets::warm(Form::Edns));
    worker.warm(&plain)?;
    let at_hand = AtHand::of(&worker, [&plain, &edns]);
    let steps: [(&str, Step<'_>); 8] = [
        ("a hit", &|worker, packets| black_box_hits(worker, packets)),
        ("the same name again and again", &|worker, packets| black_box_hits(worker, &packets[..1])),
        ("up to: the question in the packet", &presume),
        ("up to: hash", &|_, packets| {
            at_hand.each(packets, |_, _, spot| {
                black_box(*spot);
            });
        }),
        ("up to: look up", &|worker, packets| {
            at_hand.each(packets, |near, _, spot| {
                black_box(near.find(&worker.front.resolver.cache, spot, at_hand.now).is_some());
            });
        }),
        ("up to: copy and patch", &|worker, packets| at_hand.copy(worker, packets)),
        ("by way of the store, where nothing is at hand", &by_the_store),
        ("the clock, read twice (once a batch)", &|_, _| {
            (0..TURN).for_each(|_| {
                black_box((Now::read(), Now::read()));
            });
        }),
    ];
    println!("| nanoseconds, median (a tenth below, a tenth above) | plain | EDNS |\n|---|--:|--:|");
    let mut times = vec![[const { Vec::new() }; 2]; steps.len()];
    for _ in 0..rounds {
        for ((_, step), times) in steps.iter().zip(&mut times) {
            for (packets, times) in [&plain, &edns].into_iter().zip(times) {
                let start = spent();
                step(&worker, packets);
                times.push(per_hit(spent() - start, TURN));
            }
        }
    }
    for ((what, _), [plain, edns]) in steps.iter().zip(&mut times) {
        println!("| {what} | {} | {} |", Spread::of(plain), Spread::of(edns));
    }
    Ok(())
}

fn black_box_hits(worker: &Worker, packets: &[Packet]) {
    black_box(worker.hit(packets.iter().cycle().take(TURN), |_, _| ()));
}

fn presume(_: &Worker, packets: &[Packet]) {
    for packet in packets.iter().cycle().take(TURN) {
        black_box(query::presume(black_box(&packet.bytes)));
    }
}

fn by_the_store(worker: &Worker, packets: &[Packet]) {
    let (round, rules) = (worker.front.round(), Rules::default());
    for packet in packets.iter().cycle().take(TURN) {
        if let Some((_, key)) = worker.key(black_box(&packet.bytes), &round) {
            drop(black_box(worker.front.resolver.cache.look(&key, &rules, round.now)));
        }
    }
}

/// The answers to all packets, at hand for ever: no time passes.
struct AtHand {
    near: RefCell<Near>,
    now: Now,
}

impl AtHand {
    fn of(worker: &Worker, sets: [&[Packet]; 2]) -> Self {
        let (store, round, rules) = (&worker.front.resolver.cache, worker.front.round(), Rules::default());
        let mut near = Near::new(store);
        for packet in sets.into_iter().flatten() {
            let Some((query, key)) = worker.key(&packet.bytes, &round) else { continue };
            let spot = spot(&near, &query);
            near.look(store, (&spot, &key), (0, &rules), round.now);
        }
        Self { near: near.into(), now: round.now }
    }

    /// Has each packet's question, and where its answer may be, go a part of the way.
    fn each(&self, packets: &[Packet], step: impl Fn(&mut Near, &Query<'_>, &Spot<'_>)) {
        let near = &mut *self.near.borrow_mut();
        for packet in packets.iter().cycle().take(TURN) {
            let Some(query) = query::presume(black_box(&packet.bytes)) else { continue };
            let spot = spot(near, &query);
            step(near, &query, &spot);
        }
    }

    fn copy(&self, worker: &Worker, packets: &[Packet]) {
        let room = RefCell::new([0; 4096]);
        self.each(packets, |near, query, spot| {
            let found = near.find(&worker.front.resolver.cache, spot, self.now);
            let Some(Found { entry, turn, .. }) = found else { return };
            let &Query { header, question, edns } = query;
            let limit = answer::udp_limit(edns, 1232);
            let asker = Asker { header, question, edns, limit, our_size: 1232 };
            let (out, ttl) = (&mut *room.borrow_mut(), Ttl::Aged(entry.age(self.now)));
            black_box(answer::write(black_box(out), &entry.stored(), &asker, ttl, turn, None));
        });
    }
}

fn spot<'q>(near: &Near, query: &Query<'q>) -> Spot<'q> {
    near.spot(query.question.bytes, 0, query.edns.is_some_and(|edns| edns.dnssec_ok), false)
}

/// One hot name over one cache: one worker, and two, each on a thread and a core of its own.
fn threads(rounds: usize, nobody: SocketAddr) -> Result<(), Box<dyn Error>> {
    let cache = worker::cache();
    Worker::new(Arc::clone(&cache), nobody)?.warm(&packets::warm(Form::Plain))?;
    let sets = [("one hot name", 1), ("1,000 names", 2000)];
    let mut ratios = vec![Vec::new(); sets.len()];
    let mut times = vec![[const { Vec::new() }; 2]; sets.len()];
    for _ in 0..rounds {
        for ((&(_, names), ratios), times) in sets.iter().zip(&mut ratios).zip(&mut times) {
            let (one, two) = (together(&cache, nobody, 1, names), together(&cache, nobody, 2, names));
            ratios.push(2.0 * one / two);
            times[0].push(one);
            times[1].push(two);
        }
    }
    println!(
        "\n| threads | one, ns a hit | two, ns a hit of each | two do so much more than one |\n|---|--:|--:|--:|"
    );
    for (((what, _), ratios), [one, two]) in sets.iter().zip(&mut ratios).zip(&mut times) {
        println!("| {what} | {} | {} | {:.2} |", Spread::of(one), Spread::of(two), Spread::of(ratios).median);
    }
    Ok(())
}

/// Nanoseconds a hit, when so many workers hit the first of the warm names at once; the slowest counts.
fn together(cache: &Arc<Cache>, nobody: SocketAddr, workers: usize, names: usize) -> f64 {
    let start = Barrier::new(workers);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..workers)
            .map(|core| {
                let (cache, start) = (Arc::clone(cache), &start);
                scope.spawn(move || {
                    pin(core);
                    let worker = Worker::new(cache, nobody).ok()?;
                    let packets = packets::warm(Form::Plain);
                    let packets = &packets[..names];
                    black_box(worker.hit(packets.iter().cycle().take(TURN), |_, _| ()));
                    start.wait();
                    let begin = Instant::now();
                    black_box(worker.hit(packets.iter().cycle().take(LONG_TURN), |_, _| ()));
                    Some(per_hit(begin.elapsed(), LONG_TURN))
                })
            })
            .collect();
        threads.into_iter().filter_map(|thread| thread.join().ok().flatten()).fold(0.0, f64::max)
    })
}

/// Binds this thread to a core; where that is not allowed, the numbers are just less steady.
fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    let _ = sched_setaffinity(None, &set);
}

/// The processor time of this thread: what other threads have of the core is not counted.
fn spent() -> Duration {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

fn per_hit(took: Duration, hits: usize) -> f64 {
    took.as_nanos() as f64 / hits as f64
}

/// The middle of many numbers, and how far they are from it.
struct Spread {
    median: f64,
    low: f64,
    high: f64,
}

impl Spread {
    /// Sorts `numbers`, of which there must be one.
    fn of(numbers: &mut [f64]) -> Self {
        numbers.sort_by(f64::total_cmp);
        let at = |tenths: usize| numbers[(numbers.len() - 1) * tenths / 10];
        Self { median: at(5), low: at(1), high: at(9) }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.0} ({:.0}, {:.0})", self.median, self.low, self.high)
    }
}
