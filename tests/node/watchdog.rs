//! The watchdog beside a whole program: what it must end, and what it must not.

use std::net::UdpSocket;
use std::process::Command;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use super::dns::{Who, look_up, look_up_tcp};
use super::network::{V4, sh};
use super::program::World;

const PATIENCE: Duration = Duration::from_secs(2);
/// The shortest bound that may be set.
const WATCHDOG: &str = "watchdog = \"2s\"";

#[test]
fn connections_that_nobody_accepts_end_the_process_and_pods_fall_back() {
    let _turn = super::turn();
    let world = World::new();
    let mut program = world.up(world.configured(WATCHDOG, &["tcp://10.2.0.2:53"]));
    let start = Instant::now();
    // Datagrams are answered as before.
    world.network.node.run(|| {
        sh("nft 'add table inet deaf; add chain inet deaf input { type filter hook input priority -10; }; \
            add rule inet deaf input tcp dport 53 drop'")
    });
    assert_eq!(program.ended().code(), Some(1));
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "3 s to the next question, 2 s of them: {:?}",
        start.elapsed()
    );
    assert!(program.log().contains("over TCP for 2s"), "{}", program.log());
    world.network.pod.run(|| {
        assert_eq!(look_up(V4, "n.cluster.local", PATIENCE), Some(Who::Cluster));
        assert_eq!(look_up_tcp(V4, "n.cluster.local", PATIENCE), Some(Who::Cluster));
    });
}

/// How many datagrams the kernel dropped at the sockets of port 53 in this namespace (proc(5), /proc/net/udp).
fn dropped() -> u64 {
    let table = std::fs::read_to_string("/proc/thread-self/net/udp").unwrap();
    let at_53 = table.lines().filter(|line| line.contains(":0035 "));
    at_53.map(|line| line.split_whitespace().last().unwrap().parse::<u64>().unwrap()).sum()
}

/// A worker that gets next to no processor time, while whoever floods it gets all there is.
#[test]
fn a_flood_that_fills_the_receive_buffer_does_not_end_it() {
    const FLOOD: Duration = Duration::from_secs(10);
    let _turn = super::turn();
    let world = World::new();
    let command = world.configured(WATCHDOG, &["tcp://10.2.0.2:53"]);
    let mut nice = Command::new("nice");
    nice.args(["-n", "15"]).arg(command.get_program()).args(command.get_args()).arg("--workers=1");
    let program = world.up(nice);
    let end = Instant::now() + FLOOD;
    let sockets: Vec<UdpSocket> = world.network.pod.run(|| {
        let connected = |_| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect((V4, 53)).unwrap();
            socket
        };
        (0..4).map(connected).collect()
    });
    let query = super::message::message(
        7,
        0x0100,
        &super::message::question("n.cluster.local", super::dns::A),
        [&[], &[], &[]],
    );
    scope(|scope| {
        for socket in &sockets {
            scope.spawn(|| {
                while Instant::now() < end {
                    let _ = socket.send(&query);
                }
            });
        }
    });
    sleep(Duration::from_millis(500));
    assert!(!program.log().contains("has not answered"), "{}", program.log());
    println!("{} queries were dropped at a full buffer", world.network.node.run(dropped));
    assert!(world.network.node.run(dropped) > 100_000, "that was no flood");
    world.network.pod.run(|| assert_eq!(look_up(V4, "n.cluster.local", PATIENCE), Some(Who::Sidestep)));
}
