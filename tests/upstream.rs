//! Upstreams against a scripted server: one test for each thing that the road relies on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may stop")]

mod support;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use futures_util::future::join_all;
use sidestep::cache::{Entry, Rules};
use sidestep::clock::Now;
use sidestep::upstream::{
    Ask, Asking, Counters, Failure, Group, Member, Policy, Server, Settings, TRIES, Terms, Transport,
    Upstreams,
};
use support::scripted::{Action, Order, Query, Scripted};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// A client's whole wait.
const DEADLINE: Duration = Duration::from_millis(3900);

/// Runs `body` as a worker would, for at most 20 s.
fn worker<F: Future<Output = ()>>(body: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bounded = async { timeout(Duration::from_secs(20), body).await.expect("the test takes too long") };
    tokio::task::LocalSet::new().block_on(&runtime, bounded);
}

/// A group over scripted servers, and what it counts about each.
struct Bench {
    group: Group,
    counters: Vec<Arc<Counters>>,
    upstreams: Upstreams,
}

impl Bench {
    fn new(transport: Transport, servers: &[&Scripted]) -> Self {
        Self::with(unhedged(), Policy::Ordered, transport, servers)
    }

    fn with(settings: Settings, policy: Policy, transport: Transport, servers: &[&Scripted]) -> Self {
        Self::asking(settings, &policy.into(), transport, servers)
    }

    fn asking(settings: Settings, asking: &Asking, transport: Transport, servers: &[&Scripted]) -> Self {
        let upstreams = Upstreams::new(settings);
        let counters: Vec<_> = servers.iter().map(|_| Arc::new(Counters::default())).collect();
        let members: Vec<_> = servers
            .iter()
            .zip(&counters)
            .map(|(s, c)| Member::new(Server { address: s.address, transport }, c.clone()))
            .collect();
        Self { group: upstreams.group(&members, &[], asking, &Arc::default()), counters, upstreams }
    }

    async fn ask(&self, name: &str) -> Result<Vec<u8>, Failure> {
        self.group.ask(&ask(name), Instant::now() + DEADLINE).await
    }

    /// Asks for `name` once and checks that the answer is right.
    async fn good(&self, name: &str) {
        good(&self.group, name).await;
    }

    /// Asks for `count` names of this kind at once, each in a task of its own, as flights are.
    async fn many(&self, kind: &str, count: usize) {
        let mut flights = JoinSet::new();
        for i in 0..count {
            let (group, name) = (self.group.clone(), format!("{kind}{i}.test"));
            flights.spawn_local(async move { good(&group, &name).await });
        }
        flights.join_all().await;
    }
}

async fn good(group: &Group, name: &str) {
    let reply = group.ask(&ask(name), Instant::now() + DEADLINE).await;
    let reply = reply.unwrap_or_else(|e| panic!("{name}: {e:?}"));
    assert_eq!(rcode(&reply), 0, "{name}");
    assert!(has_address(&reply), "{name}: {reply:?}");
}

fn ask(name: &str) -> Ask {
    let mut wire = Vec::new();
    for label in name.split('.') {
        wire.push(label.len() as u8);
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    Ask { name: wire.into(), rtype: 1, class: 1, dnssec_ok: false, checking_disabled: false }
}

/// Tests that count tries want none that the scheduler of a busy machine decides on.
fn unhedged() -> Settings {
    Settings { hedge_percent: 0, ..Settings::default() }
}

fn rcode(reply: &[u8]) -> u8 {
    reply[3] & 0x0f
}

fn has_address(reply: &[u8]) -> bool {
    reply.windows(4).any(|w| w == [192, 0, 2, 1])
}

fn answer(_: &Query) -> Vec<Action> {
    vec![Action::Answer]
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Waits for something that comes at once, or on a busy machine some time later.
async fn until(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + ms(10_000);
    while !done() {
        assert!(Instant::now() < end, "{what} does not come");
        sleep(ms(5)).await;
    }
}

#[test]
fn a_thousand_queries_at_once_share_few_connections() {
    worker(async {
        let server = Scripted::good();
        let bench = Bench::new(Transport::Tcp, &[&server]);
        bench.many("warm", 1).await;
        bench.many("n", 1000).await;
        assert_eq!(bench.counters[0].mismatched.get(), 0);
        assert_eq!(bench.counters[0].latency[0].count(), 1001);
        assert!(server.connections().len() <= 32);
        assert_eq!(bench.counters[0].outstanding.get(), 0);
    });
}

#[test]
fn queries_of_one_round_go_out_together_at_its_end() {
    worker(async {
        let server = Scripted::good();
        let settings = Settings { connections: 1, ..unhedged() };
        let bench = Bench::with(settings, Policy::Ordered, Transport::Tcp, &[&server]);
        bench.many("warm", 1).await;
        let round = bench.upstreams.together();
        let flights = bench.many("n", 100);
        tokio::pin!(flights);
        assert!(timeout(ms(100), &mut flights).await.is_err());
        assert_eq!(server.seen().len(), 1, "the round is not over");
        drop(round);
        flights.await;
        assert_eq!(bench.counters[0].latency[0].count(), 101);
    });
}

#[test]
fn ids_may_run_out_and_over() {
    worker(async {
        let server = Scripted::good();
        let settings = Settings { connections: 1, ..Settings::default() };
        let bench = Bench::with(settings, Policy::Ordered, Transport::Tcp, &[&server]);
        for round in 0..175 {
            bench.many(&format!("r{round}-"), 400).await; // 70,000 queries, 65,536 ids
        }
        assert_eq!(server.connections().len(), 1);
        assert_eq!(bench.counters[0].mismatched.get(), 0);
    });
}

#[test]
fn replies_in_any_order_and_in_one_write_reach_who_asked() {
    worker(async {
        let server = Scripted::start(Order::InOrder, |q| match q.name.as_str() {
            "last.test" => vec![Action::Hold, Action::Release],
            "first.test" | "middle.test" => vec![Action::Hold],
            _ => vec![Action::Answer],
        });
        let settings = Settings { connections: 1, ..unhedged() };
        let bench = Bench::with(settings, Policy::Ordered, Transport::Tcp, &[&server]);
        bench.good("warm.test").await;
        tokio::join!(bench.good("first.test"), bench.good("middle.test"), bench.good("last.test"));
        assert_eq!(server.connections().len(), 1);
        assert_eq!(server.seen().len(), 4);
    });
}

#[test]
fn a_reply_may_come_byte_by_byte() {
    worker(async {
        let server = Scripted::start(Order::InOrder, |_| vec![Action::Bytewise]);
        let bench = Bench::new(Transport::Tcp, &[&server]);
        bench.many("n", 5).await;
    });
}

#[test]
fn wrong_replies_are_dropped_and_counted_and_the_right_one_is_taken() {
    worker(async {
        let server = Scripted::start(Order::AtOnce, |q| {
            let short = if q.tcp { b"\x00\x03abc".to_vec() } else { b"abc".to_vec() };
            vec![
                Action::WrongId,
                Action::WrongQuestion,
                Action::Bytes(short),
                Action::Wait(ms(3)),
                Action::Answer,
            ]
        });
        for transport in [Transport::Tcp, Transport::Udp] {
            let settings = unhedged();
            let bench = Bench::with(settings, Policy::Ordered, transport, &[&server]);
            bench.good("name.test").await;
            assert_eq!(bench.counters[0].mismatched.get(), 3, "{transport:?}");
            assert_eq!(bench.counters[0].sent.get(), 1, "{transport:?}");
        }
    });
}

/// CoreDNS-like: 8 slow names are always pending, fast names are not harmed.
#[test]
fn slow_names_do_not_hold_up_fast_ones() {
    const SLOW: Duration = Duration::from_millis(400);
    worker(async {
        let server = Scripted::start(Order::InOrder, |q| match q.name.starts_with("slow") {
            true => vec![Action::Wait(SLOW), Action::Answer],
            false => vec![Action::Answer],
        });
        let bench = Rc::new(Bench::new(Transport::Tcp, &[&server]));
        bench.many("warm", 20).await;
        let done = Rc::new(Cell::new(false));
        for lane in 0..8 {
            let (bench, done) = (bench.clone(), done.clone());
            tokio::task::spawn_local(async move {
                for i in 0.. {
                    bench.good(&format!("slow{lane}-{i}.test")).await;
                    if done.get() {
                        return;
                    }
                }
            });
        }
        sleep(ms(100)).await;
        let mut times = Vec::new();
        for i in 0..400 {
            let began = Instant::now();
            bench.good(&format!("fast{i}.test")).await;
            times.push(began.elapsed());
            sleep(ms(1)).await;
        }
        done.set(true);
        times.sort();
        // Behind a slow one, they would take as long as it does.
        assert!(times[200] < SLOW / 2, "median {:?}", times[200]);
        assert!(server.connections().len() <= 32);
    });
}

#[test]
fn who_stands_behind_a_slow_name_is_asked_for_elsewhere() {
    worker(async {
        let server = Scripted::start(Order::InOrder, |q| match q.name.starts_with("slow") {
            true => vec![Action::Wait(ms(2000)), Action::Answer],
            false => vec![Action::Answer],
        });
        let settings = unhedged();
        let bench = Rc::new(Bench::with(settings, Policy::Ordered, Transport::Tcp, &[&server]));
        for i in 0..10 {
            bench.good(&format!("warm{i}.test")).await;
        }
        // In one batch, onto the one connection that stands: fast ones behind two slow ones.
        let slow = bench.clone();
        tokio::task::spawn_local(async move { slow.many("slow", 2).await });
        tokio::task::yield_now().await;
        let began = Instant::now();
        bench.many("fast", 20).await;
        assert!(began.elapsed() < ms(1500), "{:?}", began.elapsed());
        let rescued = bench.counters[0].rescued.get();
        assert!((1..=66).contains(&rescued), "{rescued}");
        assert_eq!(bench.counters[0].timeouts.get(), 0);
    });
}

#[test]
fn at_the_limit_connections_are_shared_and_that_is_counted() {
    worker(async {
        let server = Scripted::start(Order::InOrder, |q| match q.name.starts_with("slow") {
            true => vec![Action::Wait(ms(600)), Action::Answer],
            false => vec![Action::Answer],
        });
        let settings = Settings { connections: 2, ..Settings::default() };
        let bench = Bench::with(settings, Policy::Ordered, Transport::Tcp, &[&server]);
        bench.many("warm", 10).await;
        tokio::join!(bench.many("slow", 4), async {
            sleep(ms(30)).await; // both connections are held up
            bench.many("fast", 3).await;
        });
        assert_eq!(server.connections().len(), 2);
        assert!(bench.counters[0].connections_limit.get() >= 3);
    });
}

#[test]
fn a_server_killed_under_load_is_not_noticed_while_another_lives() {
    worker(async {
        let mut first = Scripted::start(Order::InOrder, |_| vec![Action::Wait(ms(1)), Action::Answer]);
        let second = Scripted::good();
        let settings = unhedged();
        let bench = Rc::new(Bench::with(settings, Policy::RoundRobin, Transport::Tcp, &[&first, &second]));
        let lanes: Vec<_> = (0..32)
            .map(|lane| {
                let bench = bench.clone();
                tokio::task::spawn_local(async move {
                    for i in 0..100 {
                        bench.good(&format!("n{lane}-{i}.test")).await;
                    }
                })
            })
            .collect();
        sleep(ms(50)).await;
        first.kill();
        for lane in lanes {
            lane.await.unwrap();
        }
        assert!(bench.counters[0].handed_over.get() > 0);
        assert!(bench.counters[0].latency[0].count() > 0, "it was asked before");
        assert_eq!(bench.counters[0].taken_out.get(), 1);
        assert_eq!(bench.counters[0].out.get(), 1);
    });
}

#[test]
fn a_restarted_server_is_asked_again() {
    worker(async {
        let mut first = Scripted::good();
        let bench = Bench::new(Transport::Tcp, &[&first]);
        bench.good("a.test").await;
        first.kill();
        for _ in 0..4 {
            assert_eq!(bench.ask("b.test").await, Err(Failure::Network));
        }
        assert_eq!(bench.counters[0].out.get(), 1);
        let _first = Scripted::start_at(first.address, Order::AtOnce, answer);
        bench.good("c.test").await; // the only one, so it is asked although it is out
        assert_eq!(bench.counters[0].out.get(), 0);
    });
}

#[test]
fn a_query_that_kills_connections_travels_twice_and_others_survive() {
    for end in [Action::Close, Action::Reset] {
        worker(async move {
            let script = move |q: &Query| match q.name.as_str() {
                "poison.test" => vec![end.clone()],
                _ => vec![Action::Wait(ms(2)), Action::Answer],
            };
            let servers =
                [Scripted::start(Order::AtOnce, script.clone()), Scripted::start(Order::AtOnce, script)];
            for members in [vec![&servers[0]], vec![&servers[0], &servers[1]]] {
                let bench = Bench::new(Transport::Tcp, &members);
                bench.many("warm", 4).await;
                let before: usize = servers.iter().map(|s| s.asked("poison.test")).sum();
                let (poisoned, ()) = tokio::join!(bench.ask("poison.test"), bench.good("other.test"));
                assert_eq!(poisoned, Err(Failure::Network));
                let after: usize = servers.iter().map(|s| s.asked("poison.test")).sum();
                assert_eq!(after - before, 2);
            }
        });
    }
}

#[test]
fn a_connection_that_ends_in_the_middle_of_a_reply_is_handed_over() {
    worker(async {
        let server = Scripted::start(Order::AtOnce, |q| match q.connection {
            0 => vec![Action::Half, Action::Close],
            _ => vec![Action::Answer],
        });
        let bench = Bench::new(Transport::Tcp, &[&server]);
        bench.good("name.test").await;
        assert_eq!(bench.counters[0].handed_over.get(), 1);
        assert_eq!(bench.counters[0].errors.get(), 1);
    });
}

#[test]
fn a_connection_that_ends_right_behind_its_reply_has_answered() {
    worker(async {
        let server = Scripted::start(Order::AtOnce, |_| vec![Action::Answer, Action::Close]);
        let bench = Bench::new(Transport::Tcp, &[&server]);
        let Counters { connections, failures, errors, handed_over, .. } = &*bench.counters[0];
        for name in 0..20 {
            bench.good(&format!("{name}.test")).await;
            until("its end", || connections.get() == 0).await;
        }
        assert_eq!((failures.get(), errors.get(), handed_over.get()), (0, 0, 0));
    });
}

#[test]
fn a_silent_connection_is_left_and_closed() {
    worker(async {
        let server = Scripted::start(Order::AtOnce, |q| match q.connection {
            0 => vec![Action::Silence],
            _ => vec![Action::Answer],
        });
        let settings = Settings { try_timeout: ms(100), connections: 1, ..unhedged() };
        let bench = Bench::with(settings, Policy::Ordered, Transport::Tcp, &[&server]);
        let began = Instant::now();
        bench.good("name.test").await;
        assert!(began.elapsed() < ms(3000), "{:?}", began.elapsed());
        assert_eq!(bench.counters[0].timeouts.get(), 2, "two unanswered tries in a row");
        assert!(server.connections()[0].closed.is_some());
    });
}

#[test]
fn a_slow_answer_beats_the_try_that_came_after() {
    worker(async {
        let slow = Scripted::start(Order::AtOnce, |_| vec![Action::Wait(ms(200)), Action::Answer]);
        let dead = Scripted::start(Order::AtOnce, |_| vec![Action::Silence]);
        let settings = Settings { try_timeout: ms(100), ..unhedged() };
        for transport in [Transport::Tcp, Transport::Udp] {
            let bench = Bench::with(settings, Policy::Ordered, transport, &[&slow, &dead]);
            bench.good("name.test").await;
            assert_eq!(bench.counters[0].timeouts.get(), 1, "{transport:?}");
            assert_eq!(bench.counters[1].sent.get(), 1, "{transport:?}");
        }
    });
}

#[test]
fn nobody_answers() {
    worker(async {
        let dead = Scripted::start(Order::AtOnce, |_| vec![Action::Silence]);
        let settings = Settings { try_timeout: ms(50), ..Settings::default() };
        for transport in [Transport::Tcp, Transport::Udp] {
            let bench = Bench::with(settings, Policy::Ordered, transport, &[&dead]);
            let began = Instant::now();
            let reply = bench.group.ask(&ask("name.test"), began + ms(600)).await;
            assert_eq!(reply, Err(Failure::Timeout));
            assert!((ms(590)..ms(3000)).contains(&began.elapsed()), "{:?}", began.elapsed());
            assert!(bench.counters[0].sent.get() <= TRIES.max as u64);
            assert_eq!(bench.counters[0].outstanding.get(), 0);
            assert_eq!(bench.counters[0].taken_out.get(), 1);
        }
        let nobody = Bench::new(Transport::Tcp, &[]);
        assert_eq!(nobody.ask("name.test").await, Err(Failure::Network));
    });
}

#[test]
fn hedges_stay_within_their_share() {
    worker(async {
        let slow = Scripted::start(Order::AtOnce, |q| match q.number % 10 {
            9 => vec![Action::Wait(ms(60)), Action::Answer],
            _ => vec![Action::Answer],
        });
        let settings = Settings { hedge_percent: 5, ..Settings::default() };
        let bench = Bench::with(settings, Policy::Ordered, Transport::Udp, &[&slow]);
        for round in 0..50 {
            bench.many(&format!("r{round}-"), 10).await;
        }
        let (hedges, denied) = (bench.counters[0].hedges.get(), bench.counters[0].hedges_denied.get());
        assert!((1..=26).contains(&hedges), "{hedges}");
        assert!(denied > 0, "{denied}");
        assert_eq!(bench.counters[0].timeouts.get(), 0);
    });
}

#[test]
fn errors_go_to_the_next_server_and_nxdomain_does_not() {
    worker(async {
        let first = Scripted::start(Order::AtOnce, |q| match q.name.as_str() {
            "nxdomain.test" => vec![Action::Rcode(3)],
            "refused.test" => vec![Action::Rcode(5)],
            _ => vec![Action::Rcode(2)],
        });
        let second = Scripted::start(Order::AtOnce, |q| match q.name.as_str() {
            "broken.test" => vec![Action::Rcode(5)],
            _ => vec![Action::Answer],
        });
        for transport in [Transport::Tcp, Transport::Udp] {
            let bench = Bench::new(transport, &[&first, &second]);
            for _ in 0..10 {
                bench.good("servfail.test").await;
                bench.good("refused.test").await;
            }
            assert_eq!(rcode(&bench.ask("nxdomain.test").await.unwrap()), 3);
            assert_eq!(rcode(&bench.ask("broken.test").await.unwrap()), 2, "the better of two errors");
            assert_eq!(second.asked("nxdomain.test"), 0);
            assert_eq!(bench.counters[0].taken_out.get(), 0, "codes say nothing about health");
            assert_eq!(bench.counters[0].sent.get(), 22, "nobody is asked twice");
        }
    });
}

#[test]
fn an_error_without_a_question_is_an_answer() {
    worker(async {
        let server = Scripted::start(Order::AtOnce, |q| {
            let mut message = vec![0; 12];
            message[..2].copy_from_slice(&q.message[..2]);
            message[2..4].copy_from_slice(&[0x80, 5]);
            vec![Action::Message(message)]
        });
        let bench = Bench::new(Transport::Udp, &[&server]);
        assert_eq!(rcode(&bench.ask("name.test").await.unwrap()), 5);
    });
}

#[test]
fn a_server_without_edns_is_asked_again_without() {
    worker(async {
        let server = Scripted::start(Order::AtOnce, |q| match q.has_opt() {
            true => {
                let mut message = q.rcode(1);
                message.truncate(message.len() - 11);
                message[11] = 0;
                vec![Action::Message(message)]
            }
            false => vec![Action::Answer],
        });
        for transport in [Transport::Tcp, Transport::Udp] {
            let bench = Bench::new(transport, &[&server]);
            bench.good("name.test").await;
            assert_eq!(bench.counters[0].sent.get(), 2, "{transport:?}");
        }
    });
}

#[test]
fn truncated_answers_are_asked_for_again_over_tcp() {
    worker(async {
        let server = Scripted::start(Order::AtOnce, |q| match (q.tcp, q.name.as_str()) {
            (true, "broken.test") => vec![Action::Close],
            (true, _) => vec![Action::Answer],
            (false, _) => vec![Action::Truncated],
        });
        let bench = Bench::new(Transport::Udp, &[&server]);
        bench.many("n", 3).await;
        assert_eq!(bench.counters[0].truncated.get(), 3);
        let reply = bench.ask("broken.test").await.unwrap();
        assert_eq!(reply[2] & 2, 2, "a truncated answer is better than none");
    });
}

#[test]
fn a_datagram_longer_than_our_room_is_asked_for_again_over_tcp() {
    worker(async {
        let server = Scripted::start(Order::AtOnce, |q| match (q.tcp, q.name.as_str()) {
            (true, "broken.test") => vec![Action::Close],
            (true, _) => vec![Action::Answer],
            (false, _) => vec![Action::Message([q.answer(), vec![0; 5000]].concat())],
        });
        let bench = Bench::new(Transport::Udp, &[&server]);
        bench.good("long.test").await;
        assert_eq!(bench.counters[0].truncated.get(), 1);
        let reply = bench.ask("broken.test").await.unwrap();
        let entry = Entry::from_reply(&reply, &Rules::default(), Now::read()).expect("a whole message");
        assert!(entry.is_truncated() && rcode(&reply) == 0, "a truncated answer is better than none");
    });
}

#[test]
fn nonsense_is_not_given_out_before_the_others_were_asked() {
    worker(async {
        let cut = |q: &Query| q.answer()[..q.answer().len() - 3].to_vec();
        let first = Scripted::start(Order::AtOnce, move |q| vec![Action::Message(cut(q))]);
        let second = Scripted::good();
        for transport in [Transport::Tcp, Transport::Udp] {
            let bench = Bench::new(transport, &[&first, &second]);
            bench.good("name.test").await;
            assert_eq!(bench.counters[0].taken_out.get(), 0);
        }
    });
}

#[test]
fn slow_names_do_not_take_a_server_out() {
    worker(async {
        let server = Scripted::start(Order::InOrder, |q| match q.name.starts_with("slow") {
            true => vec![Action::Wait(ms(300)), Action::Answer],
            false => vec![Action::Answer],
        });
        let bench = Bench::new(Transport::Tcp, &[&server]);
        for i in 0..10 {
            bench.good(&format!("fast{i}.test")).await;
        }
        bench.many("slow", 8).await;
        assert_eq!(bench.counters[0].taken_out.get(), 0);
    });
}

#[test]
fn each_datagram_has_its_own_port_and_id() {
    worker(async {
        let server = Scripted::good();
        let bench = Bench::new(Transport::Udp, &[&server]);
        bench.many("n", 50).await;
        let mut ids: Vec<_> = server.seen().iter().map(|q| [q.message[0], q.message[1]]).collect();
        ids.sort_unstable();
        ids.dedup();
        assert!(ids.len() > 45);
        assert!(ids.windows(3).any(|w| w[1][0] != w[0][0]), "they do not count up");
    });
}

#[test]
fn sockets_are_bounded() {
    worker(async {
        let server = Scripted::start(Order::AtOnce, |_| vec![Action::Wait(ms(30)), Action::Answer]);
        let settings = Settings { datagrams: 16, ..unhedged() };
        let bench = Bench::with(settings, Policy::Ordered, Transport::Udp, &[&server]);
        let names: Vec<_> = (0..20).map(|i| format!("n{i}.test")).collect();
        let replies = join_all(names.iter().map(|name| bench.ask(name))).await;
        assert_eq!(replies.iter().filter(|r| **r == Err(Failure::Limit)).count(), 4);
        assert_eq!(bench.counters[0].datagrams_limit.get(), 4);
        bench.many("later", 16).await;
    });
}

#[test]
fn a_closed_udp_port_is_an_error_and_the_next_is_asked() {
    worker(async {
        let mut first = Scripted::good();
        let second = Scripted::good();
        let bench = Bench::new(Transport::Udp, &[&first, &second]);
        first.kill();
        for i in 0..10 {
            bench.good(&format!("n{i}.test")).await;
        }
        assert_eq!(bench.counters[0].timeouts.get(), 0, "no timeout is needed");
        assert!(bench.counters[0].errors.get() >= 3);
        assert_eq!(bench.counters[0].taken_out.get(), 1);
    });
}

#[test]
fn the_policies() {
    worker(async {
        let servers = [Scripted::good(), Scripted::good()];
        for (policy, expected) in
            [(Policy::Ordered, [20, 0]), (Policy::RoundRobin, [10, 10]), (Policy::LeastOutstanding, [10, 10])]
        {
            let bench = Bench::with(unhedged(), policy, Transport::Udp, &[&servers[0], &servers[1]]);
            for i in 0..20 {
                bench.good(&format!("n{i}.test")).await;
            }
            let sent: Vec<_> = bench.counters.iter().map(|c| c.sent.get()).collect();
            assert_eq!(sent, expected, "{policy:?}");
        }
        let busy = Scripted::start(Order::AtOnce, |_| vec![Action::Wait(ms(1500)), Action::Answer]);
        let settings = unhedged();
        let bench = Bench::with(settings, Policy::LeastOutstanding, Transport::Udp, &[&busy, &servers[0]]);
        let (_, ()) = tokio::join!(bench.many("first", 2), async {
            sleep(ms(20)).await;
            for i in 0..10 {
                bench.good(&format!("n{i}.test")).await;
            }
        });
        assert_eq!(bench.counters[0].sent.get(), 1, "whoever is busy is spared");
    });
}

#[test]
fn idle_connections_are_closed_at_the_servers_wish() {
    worker(async {
        let server = Scripted::start(Order::AtOnce, |q| match q.name.as_str() {
            "short.test" => vec![Action::Message(q.answer_with_options(b"\x00\x0b\x00\x02\x00\x0a"))],
            "now.test" => vec![Action::Message(q.answer_with_options(b"\x00\x0b\x00\x02\x00\x00"))],
            _ => vec![Action::Answer],
        });
        let bench = Bench::new(Transport::Tcp, &[&server]);
        bench.good("usual.test").await;
        sleep(ms(400)).await;
        assert_eq!(server.open_connections(), 1, "8 s by default");
        bench.good("short.test").await; // 1 s, so we close after 0.8 s
        sleep(ms(300)).await;
        assert_eq!(server.open_connections(), 1);
        until("its wish", || server.open_connections() == 0).await;
        bench.good("now.test").await;
        until("its wish", || server.open_connections() == 0).await;
        assert_eq!(bench.counters[0].connections.get(), 0);
        assert_eq!(bench.counters[0].errors.get(), 0);
    });
}

#[test]
fn connections_do_not_grow_old() {
    worker(async {
        let server = Scripted::good();
        let settings = Settings { max_age: ms(200), ..Settings::default() };
        let bench = Bench::with(settings, Policy::Ordered, Transport::Tcp, &[&server]);
        let began = Instant::now();
        for i in 0..100 {
            bench.good(&format!("n{i}.test")).await;
            sleep(ms(6)).await;
        }
        let lives = 1 + usize::try_from(began.elapsed().as_millis() / 100).unwrap();
        let connections = server.connections();
        assert!((3..=2 * lives).contains(&connections.len()), "{}", connections.len());
        assert!(connections.iter().filter_map(|c| Some(c.closed? - c.opened)).all(|age| age < ms(3000)));
        assert_eq!(bench.counters[0].errors.get(), 0);
        assert_eq!(bench.counters[0].handed_over.get(), 0);
    });
}

#[test]
fn a_server_that_no_group_names_is_forgotten_and_others_stay() {
    worker(async {
        let (kept, gone) = (Scripted::good(), Scripted::good());
        let upstreams = Upstreams::new(Settings::default());
        let members: Vec<_> = [&kept, &gone]
            .map(|s| Member::new(Server { address: s.address, transport: Transport::Tcp }, Arc::default()))
            .into();
        let old = upstreams.group(&members, &[], &Policy::RoundRobin.into(), &Arc::default());
        for _ in 0..4 {
            old.ask(&ask("name.test"), Instant::now() + ms(1000)).await.unwrap();
        }
        let new = upstreams.group(&members[..1], &[], &Policy::RoundRobin.into(), &Arc::default());
        drop(old);
        new.ask(&ask("name.test"), Instant::now() + ms(1000)).await.unwrap();
        until("the end of its connection", || gone.open_connections() == 0).await;
        assert_eq!(kept.connections().len(), 1, "its connection serves the new group too");
    });
}

#[test]
fn who_goes_away_leaves_nothing_behind() {
    worker(async {
        let answering = Arc::new(AtomicBool::new(false));
        let script_answering = answering.clone();
        let server = Scripted::start(Order::AtOnce, move |_| match script_answering.load(Relaxed) {
            true => vec![Action::Answer],
            false => vec![Action::Wait(ms(100)), Action::Answer],
        });
        let bench = Bench::new(Transport::Tcp, &[&server]);
        let abandoned = join_all((0..50).map(|_| bench.ask("slow.test")));
        assert!(timeout(ms(30), abandoned).await.is_err());
        assert_eq!(bench.counters[0].outstanding.get(), 0);
        answering.store(true, Relaxed);
        sleep(ms(150)).await;
        assert_eq!(bench.counters[0].mismatched.get(), 0, "late replies are known as such");
        bench.good("name.test").await;
    });
}

/// A group of these servers with others in reserve, over TCP.
fn with_reserve(settings: Settings, servers: &[&Scripted], reserve: &[&Scripted]) -> (Group, Upstreams) {
    let upstreams = Upstreams::new(settings);
    let members = |servers: &[&Scripted]| -> Vec<_> {
        let tcp = |s: &&Scripted| Server { address: s.address, transport: Transport::Tcp };
        servers.iter().map(|s| Member::new(tcp(s), Arc::default())).collect()
    };
    let group =
        upstreams.group(&members(servers), &members(reserve), &Policy::RoundRobin.into(), &Arc::default());
    (group, upstreams)
}

#[test]
fn the_reserve_is_asked_only_when_the_others_cannot_be() {
    worker(async {
        let (mut one, mut two, reserve) = (Scripted::good(), Scripted::good(), Scripted::good());
        let (group, _upstreams) = with_reserve(unhedged(), &[&one, &two], &[&reserve]);
        let asked = |n: usize| {
            let group = group.clone();
            async move {
                let name = format!("n{n}.test");
                group.ask(&ask(&name), Instant::now() + DEADLINE).await.expect("an answer");
            }
        };
        for n in 0..10 {
            asked(n).await;
        }
        assert_eq!((one.seen().len(), two.seen().len(), reserve.seen().len()), (5, 5, 0), "it is spread");
        one.kill();
        for n in 10..20 {
            asked(n).await;
        }
        assert_eq!((two.seen().len(), reserve.seen().len()), (15, 0), "one is left");
        two.kill();
        for n in 20..30 {
            asked(n).await;
        }
        assert_eq!(reserve.seen().len(), 10, "nobody waits for servers that are gone");
        let back = Scripted::start_at(two.address, Order::AtOnce, |_| vec![Action::Answer]);
        let end = Instant::now() + ms(5000);
        let mut n = 30;
        while back.seen().len() < 3 {
            assert!(Instant::now() < end, "a server that is back is asked again");
            asked(n).await;
            n += 1;
            sleep(ms(20)).await;
        }
    });
}

#[test]
fn the_reserve_is_not_asked_for_what_others_have_refused() {
    worker(async {
        let fails = || Scripted::start(Order::AtOnce, |_| vec![Action::Rcode(2)]);
        let (one, two, reserve) = (fails(), fails(), Scripted::good());
        let (group, _upstreams) = with_reserve(unhedged(), &[&one, &two], &[&reserve]);
        let reply = group.ask(&ask("broken.test"), Instant::now() + DEADLINE).await.unwrap();
        assert_eq!(reply[3] & 0x0f, 2);
        assert_eq!((one.seen().len(), two.seen().len(), reserve.seen().len()), (1, 1, 0));
    });
}

#[test]
fn the_reserve_answers_while_silent_servers_are_not_known_to_be_dead() {
    worker(async {
        let silent = || Scripted::start(Order::AtOnce, |_| vec![Action::Silence]);
        let (one, two, reserve) = (silent(), silent(), Scripted::good());
        let (group, _upstreams) = with_reserve(unhedged(), &[&one, &two], &[&reserve]);
        group.ask(&ask("name.test"), Instant::now() + DEADLINE).await.expect("an answer in time");
        assert_eq!((one.seen().len(), two.seen().len(), reserve.seen().len()), (1, 1, 1));
    });
}

#[test]
fn the_reserve_is_no_place_for_a_hedge() {
    worker(async {
        let slow = |query: &Query| match query.name.as_str() {
            "slow.test" => vec![Action::Wait(ms(100)), Action::Answer],
            _ => vec![Action::Answer],
        };
        let (server, reserve) = (Scripted::start(Order::AtOnce, slow), Scripted::good());
        let settings = Settings { hedge_percent: 20, ..Settings::default() };
        let (group, _upstreams) = with_reserve(settings, &[&server], &[&reserve]);
        for name in ["one.test", "two.test", "three.test", "slow.test"] {
            group.ask(&ask(name), Instant::now() + DEADLINE).await.expect("an answer");
        }
        assert_eq!((server.asked("slow.test"), reserve.seen().len()), (2, 0));
    });
}

/// What a zone says about how its servers are asked.
mod asking {
    use super::*;

    fn bench(asking: Asking, servers: &[&Scripted]) -> Bench {
        Bench::asking(unhedged(), &Asking { policy: Policy::Ordered, ..asking }, Transport::Tcp, servers)
    }

    fn on(terms: Terms) -> Asking {
        Asking { terms, ..Asking::default() }
    }

    fn rcode_of(reply: Result<Vec<u8>, Failure>) -> u8 {
        reply.unwrap()[3] & 15
    }

    fn says(rcode: u8) -> Scripted {
        Scripted::start(Order::AtOnce, move |_| vec![Action::Rcode(rcode)])
    }

    fn silent() -> Scripted {
        Scripted::start(Order::AtOnce, |_| vec![Action::Silence])
    }

    #[test]
    fn anybody_is_asked() {
        worker(async {
            let servers = [Scripted::good(), Scripted::good()];
            let bench = Bench::with(unhedged(), Policy::Random, Transport::Udp, &[&servers[0], &servers[1]]);
            for i in 0..40 {
                bench.good(&format!("n{i}.test")).await;
            }
            let sent: Vec<_> = bench.counters.iter().map(|c| c.sent.get()).collect();
            assert!(sent.iter().all(|&n| n > 0) && sent.iter().sum::<u64>() == 40, "{sent:?}");
            let order: Vec<_> = (0..40).map(|i| servers[0].asked(&format!("n{i}.test"))).collect();
            assert!(order.windows(2).any(|two| two[0] == two[1]), "not in turns: {order:?}");
        });
    }

    #[test]
    fn the_next_server_is_asked_for_the_response_codes_that_the_zone_names() {
        worker(async {
            let good = Scripted::good();
            for (failover, said, heard) in [
                (vec![], 2, 2),
                (vec![2], 2, 0),
                (vec![5], 2, 2),
                (vec![3], 3, 0),
                (Asking::default().failover, 3, 3),
                (Asking::default().failover, 1, 0),
            ] {
                let first = says(said);
                let case = format!("{failover:?} {said}");
                let bench = bench(Asking { failover, ..Asking::default() }, &[&first, &good]);
                assert_eq!(rcode_of(bench.ask("a.test").await), heard, "{case}");
                assert_eq!(bench.counters[1].sent.get(), u64::from(said != heard), "{case}");
            }
            let (nxdomain, refused) = (says(3), says(5));
            let all = Asking { failover: vec![3, 5], ..Asking::default() };
            assert_eq!(rcode_of(bench(all, &[&refused, &nxdomain]).ask("a.test").await), 3, "the best of it");
        });
    }

    #[test]
    fn a_server_without_edns_is_asked_again_without_it_whatever_the_zone_names() {
        worker(async {
            let old = Scripted::start(Order::AtOnce, |query| match query.has_opt() {
                true => {
                    let mut message = query.message.clone();
                    message[2] |= 0x80;
                    message[3] = 1;
                    message.truncate(message.len() - 11 - 4); // OPT with our keepalive
                    message[11] = 0;
                    vec![Action::Message(message)]
                }
                false => vec![Action::Answer],
            });
            bench(Asking { failover: vec![], ..Asking::default() }, &[&old]).good("a.test").await;
        });
    }

    #[test]
    fn a_query_is_sent_as_often_as_the_zone_says() {
        worker(async {
            let (silent, good) = (silent(), Scripted::good());
            let settings = Settings { try_timeout: ms(100), ..unhedged() };
            for (tries, answered) in [(1, false), (2, true)] {
                let asking = Asking { tries, policy: Policy::Ordered, ..Asking::default() };
                let bench = Bench::asking(settings, &asking, Transport::Udp, &[&silent, &good]);
                let reply = bench.group.ask(&ask("a.test"), Instant::now() + ms(500)).await;
                assert_eq!(reply.is_ok(), answered, "{tries}");
                assert_eq!(bench.counters.iter().map(|c| c.sent.get()).sum::<u64>(), tries as u64);
            }
        });
    }

    #[test]
    fn a_zone_has_times_of_its_own() {
        worker(async {
            let (silent, good) = (silent(), Scripted::good());
            let patient = on(Terms { try_timeout: Some(ms(100)), ..Terms::default() });
            let begun = Instant::now();
            bench(patient, &[&silent, &good]).good("a.test").await;
            assert!(begun.elapsed() < ms(600), "not 1500 ms: {:?}", begun.elapsed());

            let short = Terms { idle: Some(ms(200)), ..Terms::default() };
            let idle = bench(on(short), &[&good]);
            let aged = bench(on(Terms { max_age: Some(ms(200)), ..Terms::default() }), &[&good]);
            idle.good("b.test").await;
            aged.good("c.test").await;
            sleep(ms(500)).await;
            assert_eq!([&idle, &aged].map(|b| b.counters[0].connections.get()), [0, 0]);
        });
    }

    #[test]
    fn zones_share_a_servers_connections_if_their_terms_are_the_same() {
        worker(async {
            let server = Scripted::good();
            let upstreams = Upstreams::new(unhedged());
            let member =
                || Member::new(Server { address: server.address, transport: Transport::Tcp }, Arc::default());
            let other = on(Terms { max_fails: 1, ..Terms::default() });
            let mut groups = Vec::new();
            for (asking, connections) in [
                (Asking::default(), 1),
                (Asking { failover: vec![], max_concurrent: 9, ..Asking::default() }, 1),
                (other.clone(), 2),
                (other, 2),
            ] {
                let group = upstreams.group(&[member()], &[], &asking, &Arc::default());
                good(&group, "a.test").await;
                groups.push(group);
                assert_eq!(server.connections().len(), connections);
            }
        });
    }

    #[test]
    fn a_zone_says_after_how_many_failures_a_server_is_out() {
        worker(async {
            let mut dead = Scripted::good();
            dead.kill();
            for (max_fails, taken_out) in [(0, 0), (1, 1), (3, 1)] {
                let bench = bench(on(Terms { max_fails, ..Terms::default() }), &[&dead]);
                for i in 0..4 {
                    assert!(bench.ask(&format!("n{i}.test")).await.is_err());
                    assert_eq!(
                        bench.group.is_out(),
                        taken_out == 1 && i + 1 >= max_fails,
                        "{max_fails}: {i}"
                    );
                }
                assert_eq!(bench.counters[0].taken_out.get(), taken_out);
                assert_eq!(bench.counters[0].out.get(), taken_out);
                let counters = bench.counters[0].clone();
                drop(bench);
                sleep(ms(20)).await;
                assert_eq!(counters.out.get(), 0, "nobody asks it any more");
            }
        });
    }

    #[test]
    fn while_all_are_out_a_question_may_fail_at_once_and_a_probe_brings_them_back() {
        worker(async {
            let mut server = Scripted::good();
            server.kill();
            let terms = Terms { max_fails: 1, probe_every: Some(ms(150)), ..Terms::default() };
            let bench = bench(Asking { fail_fast: true, terms, ..Asking::default() }, &[&server]);
            assert_eq!(bench.ask("a.test").await, Err(Failure::Network));
            for _ in 0..10 {
                assert_eq!(bench.ask("a.test").await, Err(Failure::Out));
            }
            assert_eq!(bench.counters[0].sent.get(), 1, "nobody is asked");
            let _back = Scripted::start_at(server.address, Order::AtOnce, |_| vec![Action::Answer]);
            sleep(ms(160)).await;
            bench.good("a.test").await;
            assert!(!bench.group.is_out());
        });
    }

    #[test]
    fn a_zone_has_so_many_questions_open_and_no_more() {
        worker(async {
            let slow = Scripted::start(Order::AtOnce, |_| vec![Action::Wait(ms(150)), Action::Answer]);
            let bench = bench(Asking { max_concurrent: 3, ..Asking::default() }, &[&slow]);
            let (_, ()) = tokio::join!(bench.many("slow", 3), async {
                sleep(ms(30)).await;
                for _ in 0..5 {
                    assert_eq!(bench.ask("a.test").await, Err(Failure::Busy));
                }
            });
            assert_eq!(slow.asked("a.test"), 0);
            bench.good("a.test").await;
        });
    }
}
