//! The servers of one zone: who is asked first, and the loop that one query goes through.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use futures_util::StreamExt;
use tokio::time::{Instant, sleep_until};

use super::hedges::Hedges;
use super::server::Upstream;
use super::way::{Stop, Way};
use super::{Ask, Failure, Policy, Settings};

/// The servers of one zone; cheap to clone.
#[derive(Clone, Debug)]
pub struct Group(Rc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    members: Vec<Rc<Upstream>>,
    /// For when none of the members can be asked.
    reserve: Vec<Rc<Upstream>>,
    policy: Policy,
    /// Whose turn it is.
    turn: Cell<usize>,
    pub(super) settings: Rc<Cell<Settings>>,
    pub(super) hedges: Rc<RefCell<Hedges>>,
}

impl Group {
    pub(super) fn new(
        members: Vec<Rc<Upstream>>,
        reserve: Vec<Rc<Upstream>>,
        policy: Policy,
        settings: Rc<Cell<Settings>>,
        hedges: Rc<RefCell<Hedges>>,
    ) -> Self {
        Self(Rc::new(Inner { members, reserve, policy, turn: Cell::new(0), settings, hedges }))
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
        let mut way = Way::new(&self.0, ask);
        if !way.next() {
            return Err(Failure::Network);
        }
        let alarm = sleep_until(way.alarm().min(deadline));
        tokio::pin!(alarm);
        loop {
            tokio::select! {
                biased;
                Some((index, reply)) = way.open.next() => match reply {
                    Ok(reply) => if let Some(answer) = way.replied(index, reply) { return Ok(answer) },
                    Err(lost) => way.lost(index, lost),
                },
                () = &mut alarm => {
                    if Instant::now() >= deadline {
                        way.out_of_time();
                        return way.end();
                    }
                    way.rang();
                }
            }
            if way.is_over() {
                return way.end();
            }
            alarm.as_mut().reset(way.alarm().min(deadline));
        }
    }
}

impl Inner {
    /// Who is asked, and in which order: those that are not out, by the policy, and behind them the reserve. If
    /// all are out, the reserve takes their place; if that is out too, everybody is asked.
    pub(super) fn order(&self) -> Vec<Stop<'_>> {
        let (mut first, mut last) = (usable(&self.members), usable(&self.reserve));
        if first.is_empty() && last.is_empty() {
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
        if self.policy == Policy::Ordered || servers.len() < 2 {
            return;
        }
        servers.rotate_left(turn % servers.len());
        if self.policy == Policy::LeastOutstanding {
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
    use std::sync::Arc;

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
                Policy::Ordered,
            );
            let (ahead, behind) = (ask(b"\x01a\0"), ask(b"\x01b\0"));
            let (mut ahead, mut behind) = (Way::new(&group.0, &ahead), Way::new(&group.0, &behind));
            assert!(ahead.next() && behind.next());
            let end = Instant::now() + super::super::TRY.default;
            while counters.rescued.get() == 0 {
                assert!(Instant::now() < end, "it is rescued before its first try is given up");
                sleep_until(behind.alarm()).await;
                behind.rang();
            }
            assert_eq!(behind.open.len(), 2);
            // Both connections break, and neither has sent a byte of it.
            behind.lost(1, Lost::Died { sent: false });
            behind.lost(0, Lost::Died { sent: false });
            assert_eq!(behind.open.len(), 3, "it goes out once more");
        });
    }
}
