//! The program killed, stopped, restarted and robbed, while a pod asks every millisecond: how many lookups are lost.
//!
//! Lookups are counted, not timed: what waits in a process' sockets when it is killed is lost with it, one or two at
//! this spacing.

use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::dns::{TXT, Tally, Who, look_up, look_up_tcp, on_connection, stream};
use super::namespace::ip;
use super::network::{V4, V6, sh};
use super::program::{LINK, Program, World};

/// Lookups of one stream.
const LOOKUPS: u32 = 3000;
/// How many of them may be lost.
const MAY_BE_LOST: usize = 2;
/// A large cache, in bytes.
const LARGE: u64 = 256 << 20;
const PATIENCE: Duration = Duration::from_secs(2);

/// A pod asks; a second later something happens. What became of the lookups, in milliseconds since then.
fn during(world: &World, what: &str, count: u32, happens: impl FnOnce()) -> (Tally, Vec<i128>) {
    let (done, tally) = std::sync::mpsc::channel();
    let pod = &world.network.pod;
    std::thread::scope(|scope| {
        scope.spawn(move || done.send(pod.run(move || stream(V4, count))));
        sleep(Duration::from_secs(1));
        let then = Instant::now();
        happens();
        let took = then.elapsed();
        let tally = tally.recv().unwrap();
        let lost = tally.lost_since(then);
        println!(
            "{what} ({took:?}): {} by us, {} by the cluster DNS, lost {lost:?} (ms since then)",
            tally.by_us, tally.by_cluster
        );
        (tally, lost)
    })
}

/// Those that were asked before, and not answered yet, die with the process: how many that is, the machine's other work
/// decides.
const UNANSWERED: usize = 100;

#[track_caller]
fn few_are_lost(lost: &[i128]) {
    let (before, since): (Vec<i128>, Vec<i128>) = lost.iter().partition(|&&asked| asked <= 0);
    assert!(since.len() <= MAY_BE_LOST, "{} of {LOOKUPS} are lost: {lost:?}", since.len());
    assert!(before.len() <= UNANSWERED, "{} lookups had no answer yet: {lost:?}", before.len());
}

/// A program that ends so, over and over, and is started again while a pod asks.
fn ends_and_starts(world: &World, signal: Signal, times: usize, before: impl Fn(&World, &Program)) {
    let mut program = Some(world.run());
    for _ in 0..times {
        before(world, program.as_ref().unwrap());
        let (tally, lost) = during(world, &format!("{signal:?}"), LOOKUPS, || {
            program.take().unwrap().end(signal);
            program = Some(world.run());
        });
        assert!(tally.by_cluster > 0, "it made no difference: {tally:?}");
        assert!(tally.by_us > 1000, "it has not come back: {tally:?}");
        few_are_lost(&lost);
    }
}

#[test]
fn killed_and_started_again() {
    let _turn = super::turn();
    ends_and_starts(&World::new(), Signal::KILL, 3, |_, _| ());
}

#[test]
fn ended_and_started_again() {
    let _turn = super::turn();
    ends_and_starts(&World::new(), Signal::TERM, 3, |_, _| ());
}

/// Has it hold this much, in answers that are in its cache.
fn fill(world: &World, program: &Program) {
    world.network.pod.run(|| {
        let mut connection = TcpStream::connect((V4, 53)).unwrap();
        for i in 0..LARGE / 60_000 {
            let who = on_connection(&mut connection, &format!("n{i}.large"), TXT, Duration::from_secs(4));
            assert_eq!(who, Some(Who::Sidestep), "answer {i}");
        }
    });
    let resident = program.resident();
    assert!(resident > LARGE, "{resident} bytes resident");
}

/// With a memory whose release takes the kernel time.
fn large(signal: Signal) {
    let _turn = super::turn();
    let world = World::new();
    let mut flags = World::flags();
    flags.push("--cache-size=1GiB".to_owned());
    let mut program = world.up(World::command(&flags));
    fill(&world, &program);
    let (tally, lost) = during(&world, &format!("{signal:?} with {LARGE} bytes"), LOOKUPS, || {
        program.end(signal);
    });
    assert!(tally.by_cluster > 1000, "{tally:?}");
    few_are_lost(&lost);
}

#[test]
fn killed_with_a_large_memory() {
    large(Signal::KILL);
}

#[test]
fn aborted_with_a_large_memory() {
    large(Signal::ABORT);
}

#[test]
fn stopped_for_four_seconds() {
    let _turn = super::turn();
    let world = World::new();
    let program = world.run();
    let (tally, lost) = during(&world, "SIGSTOP", 7000, || {
        program.signal(Signal::STOP);
        sleep(Duration::from_secs(4));
        program.signal(Signal::CONT);
    });
    assert!((1400..=3100).contains(&lost.len()), "2 to 3 s are lost: {}", lost.len());
    assert!(lost.iter().all(|ms| (-5..3100).contains(ms)), "{lost:?}");
    assert!(tally.by_cluster > 800 && tally.by_us > 2000, "{} {}", tally.by_cluster, tally.by_us);
}

#[test]
fn robbed_of_rules() {
    let _turn = super::turn();
    let world = World::new();
    let program = world.run();
    let right = world.state();
    for robbery in ["nft flush ruleset", "nft delete table inet sidestep-failopen"] {
        let (_, lost) =
            during(&world, robbery, LOOKUPS, || world.network.node.run(move || drop(sh(robbery))));
        few_are_lost(&lost);
        let ours =
            |state: &str| state.split("table inet sidestep").skip(1).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(ours(&world.state()), ours(&right), "{robbery}: {}", program.log());
    }
}

#[test]
fn robbed_of_link_and_address() {
    let _turn = super::turn();
    let world = World::new();
    let program = world.run();
    for robbery in
        [format!("addr del {V4}/32 dev {LINK}"), format!("link set {LINK} down"), format!("link del {LINK}")]
    {
        let what = robbery.clone();
        let (_, lost) = during(&world, &what, LOOKUPS, || world.network.node.run(move || drop(ip(&robbery))));
        // Nobody else has the address: what comes before it is back is lost.
        assert!(lost.iter().all(|ms| (-5..250).contains(ms)), "{what}: {lost:?}\n{}", program.log());
    }
}

#[test]
fn without_us_the_host_network_reaches_the_cluster_dns_although_its_node_has_our_address_too() {
    let _turn = super::turn();
    let world = World::new();
    let mut program = world.run();
    let asked = |who: Who| {
        for side in [&world.network.node, &world.network.pod] {
            side.run(move || {
                for address in [V4, V6] {
                    for _ in 0..20 {
                        assert_eq!(look_up(address, "n.cluster.local", PATIENCE), Some(who), "{address}");
                        assert_eq!(
                            look_up_tcp(address, "n.cluster.local", PATIENCE),
                            Some(who),
                            "{address} TCP"
                        );
                    }
                }
            });
        }
    };
    let held = world.network.cluster.run(|| ip("-o addr show dev lo"));
    assert!(held.contains(V4) && held.contains(V6), "this would test nothing: {held}");
    asked(Who::Sidestep);
    program.end(Signal::KILL);
    asked(Who::Cluster);
    let mut program = world.run();
    asked(Who::Sidestep);
    program.end(Signal::TERM);
    asked(Who::Cluster);
}
