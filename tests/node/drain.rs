//! What a stop (SIGTERM) owes to those who have asked: an answer, over TCP and UDP, from whom they have asked.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::dns::{A, SLOW, Who, look_up, on_connection, send_on};
use super::network::{V4, sh};
use super::program::World;

/// What every client is promised.
const PROMISE: Duration = Duration::from_secs(4);

fn connect(address: &str) -> TcpStream {
    let address = SocketAddr::new(address.parse().unwrap(), 53);
    TcpStream::connect_timeout(&address, PROMISE).unwrap()
}

/// On the cluster's address kube-proxy's translation lies beneath our rules, and takes every packet of a connection
/// once they are gone.
#[test]
fn connections_on_the_clusters_address_stay_past_connection_tracking_until_they_are_answered() {
    const CLUSTER: &str = "10.96.0.10";
    let _turn = super::turn();
    let world = World::new();
    let mut flags = World::flags();
    flags.push(format!("--node-address={CLUSTER}"));
    let mut program = world.up(World::command(&flags));
    let (mut asking, mut idle, mut silent) =
        world.network.pod.run(|| (connect(CLUSTER), connect(CLUSTER), connect(CLUSTER)));
    assert_eq!(on_connection(&mut idle, "n.cluster.local", A, PROMISE), Some(Who::Sidestep));
    scope(|scope| {
        let asked = scope.spawn(|| {
            let mut again = asking.try_clone().unwrap();
            let first = scope.spawn(move || on_connection(&mut asking, SLOW, A, PROMISE));
            sleep(Duration::from_millis(1800));
            // Its own packets go out long after the signal, and so do those that say that they have come.
            send_on(&mut again, "m.cluster.local", A).unwrap();
            first.join().unwrap()
        });
        sleep(Duration::from_millis(300));
        let start = Instant::now();
        program.signal(Signal::TERM);
        for other in [&mut idle, &mut silent] {
            other.set_read_timeout(Some(PROMISE)).unwrap();
            assert_eq!(other.read(&mut [0; 1]).unwrap(), 0, "an end in order");
            assert!(start.elapsed() < Duration::from_millis(800), "{:?}", start.elapsed());
        }
        let status = program.ended();
        let took = start.elapsed();
        println!("ended {took:?} after the signal");
        assert_eq!(status.code(), Some(0), "{}", program.log());
        assert!(took < Duration::from_secs(6), "{took:?}");
        assert_eq!(asked.join().unwrap(), Some(Who::Sidestep), "{}", program.log());
    });
}

/// Who always waits for something is not waited for without end: Kubernetes kills after 30 s.
#[test]
fn a_client_that_goes_on_asking_does_not_hold_up_the_end_for_ever() {
    let _turn = super::turn();
    let world = World::new();
    let mut program = world.run();
    let mut client = world.network.pod.run(|| connect(V4));
    scope(|scope| {
        scope.spawn(move || {
            let mut i = 0;
            while send_on(&mut client, &format!("slow.n{i}.cluster.local"), A).is_ok() && i < 60 {
                i += 1;
                sleep(Duration::from_millis(300));
            }
        });
        sleep(Duration::from_secs(1));
        let start = Instant::now();
        assert_eq!(program.end(Signal::TERM).code(), Some(0));
        let took = start.elapsed();
        println!("ended {took:?} after the signal");
        assert!(took > PROMISE && took < Duration::from_secs(12), "{took:?}");
    });
}

/// The node's filter knows nothing but established connections, and what we have put into it. What is answered after
/// NOTRACK has gone begins one, as far as it can see.
#[test]
fn late_datagrams_pass_a_filter_that_drops() {
    let _turn = super::turn();
    for firewall in ["nftables", "iptables"] {
        let world = World::new();
        world.network.node.run(|| {
            sh("for program in iptables-nft ip6tables-nft; do
                $program -P OUTPUT DROP
                $program -A OUTPUT -o lo -j ACCEPT
                $program -A OUTPUT -p ipv6-icmp -j ACCEPT || true
                $program -A OUTPUT -o cluster -j ACCEPT
                $program -A OUTPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
            done")
        });
        let before = world.network.node.run(|| sh("iptables-nft -t filter -S"));
        let mut flags = World::flags();
        flags.push(format!("--firewall={firewall}"));
        let mut program = world.up(World::command(&flags));
        scope(|scope| {
            let asked = scope.spawn(|| world.network.pod.run(|| look_up(V4, SLOW, PROMISE)));
            sleep(Duration::from_millis(300));
            assert_eq!(program.end(Signal::TERM).code(), Some(0));
            assert_eq!(asked.join().unwrap(), Some(Who::Sidestep), "{firewall}: {}", program.log());
        });
        let after = world.network.node.run(|| sh("iptables-nft -t filter -S"));
        assert_eq!(after, before, "{firewall}: nothing of ours stays in there");
    }
}
