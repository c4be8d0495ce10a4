//! Slow names and fast names on the same server. CoreDNS answers one query at a time per connection, in
//! order, so a query that stands behind a slow one waits for it; ours must not stand there.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use super::client::{Client, Stop};
use super::servers::{address, coredns, sidestep};
use super::turn;

/// Fast questions per measurement.
const QUESTIONS: usize = 400;
/// Measurements with and without slow names, in turns.
const ROUNDS: usize = 9;
/// One measurement takes a fraction of this; who has waited longer need not measure on.
const PATIENCE: Duration = Duration::from_secs(20);
/// Slow names that are pending all the time.
const SLOW: usize = 8;

#[test]
fn fast_names_stay_fast_while_eight_slow_ones_are_pending() {
    let _turn = turn();
    let at = address();
    let slow = ("slow.test", "erratic {\n delay 1 1s\n }");
    let fast = ("fast.test", "template IN A {\n answer \"{{ .Name }} 300 IN A 192.0.2.1\"\n }");
    let _server = coredns(at, &[slow, fast], &[]);
    let us = sidestep(&["--upstream", &at.to_string()]);
    let mut client = Client::new(us.address);
    let mut next = 0;
    // Warm: connections are open, the round trip is known.
    p99(&mut client, &mut next);
    let mut ratios = Vec::new();
    for round in 0..ROUNDS {
        let without = p99(&mut client, &mut next);
        let with = with_slow_names(&us, round, || p99(&mut client, &mut next));
        let ratio = with.as_secs_f64() / without.as_secs_f64();
        println!("p99 of fast names: {without:?} alone, {with:?} with {SLOW} slow names, ratio {ratio:.2}");
        ratios.push(ratio);
    }
    // The best of them: whoever waits for slow names does so in each round, and takes a hundred times as long; another
    // program that wants the processors does so in some.
    let best = ratios.iter().copied().min_by(f64::total_cmp).unwrap();
    assert!(best <= 2.0, "with slow names pending, fast names take {best:.2} times as long: {ratios:.2?}");
}

/// Runs `measure` while slow names are pending, and makes sure that they were.
fn with_slow_names(
    us: &super::servers::Server,
    round: usize,
    measure: impl FnOnce() -> Duration,
) -> Duration {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for client in 0..SLOW {
            let stop = &stop;
            let address = us.address;
            scope.spawn(move || {
                let mut resolver = Client::new(address);
                let mut n = 0;
                while !stop.load(Relaxed) {
                    let start = Instant::now();
                    resolver.resolve(&format!("r{round}c{client}n{n}.slow.test.")).unwrap();
                    assert!(start.elapsed() > Duration::from_millis(900), "a slow name was fast");
                    n += 1;
                }
            });
        }
        thread::sleep(Duration::from_millis(100));
        let _stop = Stop(&stop);
        measure()
    })
}

/// The 99th percentile of the time that a fast miss takes, one after the other.
fn p99(client: &mut Client, next: &mut u64) -> Duration {
    let begin = Instant::now();
    let mut times: Vec<_> = (0..QUESTIONS)
        .map(|_| {
            *next += 1;
            let start = Instant::now();
            client.resolve(&format!("n{next}.fast.test.")).unwrap();
            assert!(
                begin.elapsed() < PATIENCE,
                "fast names wait for slow ones: not {QUESTIONS} within {PATIENCE:?}"
            );
            start.elapsed()
        })
        .collect();
    times.sort();
    times[QUESTIONS * 99 / 100]
}
