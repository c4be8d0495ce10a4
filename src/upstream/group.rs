//! The servers of one zone: who is asked first, and the loop that one query goes through.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use rand::seq::SliceRandom;
use smallvec::smallvec;
use tokio::time::Instant;

use super::alarms::Alarms;
use super::hedges::Hedges;
use super::server::Upstream;
use super::way::{Order, Stop, Way};
use super::{Ask, Asking, Failure, Places, Policy, Settings};

/// The servers of one zone; cheap to clone.
#[derive(Clone, Debug)]
pub struct Group(Rc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) members: Vec<Rc<Upstream>>,
    /// For when none of the members can be asked.
    pub(super) reserve: Vec<Rc<Upstream>>,
    pub(super) asking: Asking,
    /// Those of the zone.
    pub(super) places: Arc<Places>,
    /// Whose turn it is.
    pub(super) turn: Cell<usize>,
    pub(super) settings: Rc<Cell<Settings>>,
    pub(super) hedges: Rc<RefCell<Hedges>>,
    pub(super) alarms: Rc<Alarms>,
}

impl Group {
    pub(super) fn new(inner: Inner) -> Self {
        Self(Rc::new(inner))
    }

    /// Whether every server is out, the reserve too.
    pub fn is_out(&self) -> bool {
        self.0.members.iter().chain(&self.0.reserve).all(|m| m.standing.is_out())
    }

    /// Asks until somebody answers; at the latest at `deadline` there is a failure.
    ///
    /// The reply is as it came (its OPT record included), checked to be one to this question. It is an
    /// error (SERVFAIL, REFUSED and the like) or truncated only if all who could be asked gave no better.
    pub async fn ask(&self, ask: &Ask, deadline: Instant) -> Result<Vec<u8>, Failure> {
        let Asking { max_concurrent, fail_fast, .. } = self.0.asking;
        let place = (max_concurrent > 0).then(|| self.0.places.take(max_concurrent));
        if place.as_ref().is_some_and(Option::is_none) {
            return Err(Failure::Busy);
        }
        let now = Instant::now();
        let mut way = Way::new(&self.0, ask, now);
        if !way.next(now) {
            return Err(if fail_fast { Failure::Out } else { Failure::Network });
        }
        let mut alarm = self.0.alarms.at(way.alarm().min(deadline));
        loop {
            let came = poll_fn(|context| match way.poll_first(context) {
                Poll::Ready(first) => Poll::Ready(Some(first)),
                Poll::Pending => alarm.poll(context).map(|()| None),
            });
            let came = came.await;
            let now = Instant::now();
            match came {
                Some((index, Ok(reply))) => {
                    if let Some(answer) = way.replied(index, reply, now) {
                        return Ok(answer);
                    }
                }
                Some((index, Err(lost))) => way.lost(index, lost, now),
                None if now >= deadline => {
                    way.out_of_time();
                    return way.end();
                }
                None => way.rang(now),
            }
            if way.is_over() {
                return way.end();
            }
            alarm.reset(way.alarm().min(deadline));
        }
    }
}

impl Inner {
    /// What holds for this zone now.
    pub(super) fn settings(&self) -> Settings {
        self.asking.terms.over(self.settings.get())
    }

    /// Who is asked, and in which order: those that are not out, by the policy, and behind them the reserve. If
    /// all are out, the reserve takes their place; if that is out too, everybody is asked, or nobody
    /// where the zone wants that.
    pub(super) fn order(&self) -> Order<'_> {
        if let ([only], []) = (&*self.members, &*self.reserve)
            && (only.standing.usable() || !self.asking.fail_fast)
        {
            return smallvec![Stop::new(only)];
        }
        let (mut first, mut last) = (usable(&self.members), usable(&self.reserve));
        if first.is_empty() && last.is_empty() && !self.asking.fail_fast {
            (first, last) = (self.members.iter().collect(), self.reserve.iter().collect());
        } else if first.is_empty() {
            (first, last) = (last, first);
        }
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        self.arrange(&mut first, turn);
        self.arrange(&mut last, turn);
        first.into_iter().map(Stop::new).chain(last.into_iter().map(Stop::in_reserve)).collect()
    }

    /// Puts servers into the order of the policy.
    fn arrange(&self, servers: &mut [&Rc<Upstream>], turn: usize) {
        if self.asking.policy == Policy::Ordered || servers.len() < 2 {
            return;
        }
        if self.asking.policy == Policy::Random {
            return servers.shuffle(&mut rand::rng());
        }
        servers.rotate_left(turn % servers.len());
        if self.asking.policy == Policy::LeastOutstanding {
            servers.sort_by_key(|m| m.standing.outstanding()); // stable: among equals the turn decides
        }
    }
}

/// Those that are not out, or due to be probed.
fn usable(servers: &[Rc<Upstream>]) -> Vec<&Rc<Upstream>> {
    servers.iter().filter(|server| server.standing.usable()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::connection::Lost;
    use super::super::{Counters, Member, Server, Transport, Upstreams};
    use super::*;

    fn ask(name: &[u8]) -> Ask {
        Ask { name: name.into(), rtype: 1, class: 1, dnssec_ok: false, checking_disabled: false }
    }

    #[test]
    fn a_rescued_query_of_which_nothing_was_sent_is_tried_again() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let server = Server { address: silent.local_addr().unwrap(), transport: Transport::Tcp };
            let counters = Arc::new(Counters::default());
            let settings = Settings { hedge_percent: 0, ..Settings::default() };
            let group = Upstreams::new(settings).group(
                &[Member::new(server, counters.clone())],
                &[],
                &Policy::Ordered.into(),
                &Arc::default(),
            );
            let (ahead, behind) = (ask(b"\x01a\0"), ask(b"\x01b\0"));
            let now = Instant::now();
            let (mut ahead, mut behind) = (Way::new(&group.0, &ahead, now), Way::new(&group.0, &behind, now));
            assert!(ahead.next(now) && behind.next(now));
            let end = Instant::now() + super::super::TRY.default;
            while counters.rescued.get() == 0 {
                assert!(Instant::now() < end, "it is rescued before its first try is given up");
                tokio::time::sleep_until(behind.alarm()).await;
                behind.rang(Instant::now());
            }
            assert_eq!(behind.open(), 2);
            // Both connections break, and neither has sent a byte of it.
            behind.lost(1, Lost::Died { sent: false }, Instant::now());
            behind.lost(0, Lost::Died { sent: false }, Instant::now());
            assert_eq!(behind.open(), 3, "it goes out once more");
        });
    }

    #[test]
    fn a_query_that_another_server_was_asked_for_is_rescued_there_too() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let silent = [
                tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(),
                tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(),
            ];
            let counters = Arc::new(Counters::default());
            let [first, second] = silent.each_ref().map(|s| {
                let server = Server { address: s.local_addr().unwrap(), transport: Transport::Tcp };
                Member::new(server, counters.clone())
            });
            let upstreams = Upstreams::new(Settings { hedge_percent: 0, ..Settings::default() });
            let both =
                upstreams.group(&[first, second.clone()], &[], &Policy::Ordered.into(), &Arc::default());
            let only = upstreams.group(&[second], &[], &Policy::Ordered.into(), &Arc::default());
            let (ahead, behind) = (ask(b"\x01a\0"), ask(b"\x01b\0"));
            let now = Instant::now();
            let (mut ahead, mut behind) = (Way::new(&only.0, &ahead, now), Way::new(&both.0, &behind, now));
            assert!(ahead.next(now) && behind.next(now));
            let servfail = b"\0\0\x81\x82\0\x01\0\0\0\0\0\0\x01b\0\0\x01\0\x01".to_vec();
            assert!(behind.replied(0, servfail, now).is_none(), "the second server is asked");
            let end = Instant::now() + super::super::TRY.default;
            while counters.rescued.get() == 0 {
                assert!(Instant::now() < end, "it is rescued before its try is given up");
                tokio::time::sleep_until(behind.alarm()).await;
                behind.rang(Instant::now());
            }
        });
    }
}
