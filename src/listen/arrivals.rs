//! Waiting for datagrams, on all sockets of a worker at once.
//!
//! Waking up is most of what a lonely datagram costs, and an event loop with tasks and timers has much to do before and
//! after. So the sockets hang in an event queue of their own (`epoll`, edge-triggered, Linux 2.6.2), which hangs in the
//! event loop's. The worker waits in the event loop when it has something else to wait for, and otherwise, for short
//! whiles, [here](Arrivals::wait).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// What the alarm is called where sockets have their numbers.
const ALARM: u64 = u64::MAX;
/// What is called so is somebody else's.
const OTHER: u64 = u64::MAX - 1;
const NEWS: epoll::EventFlags = epoll::EventFlags::IN.union(epoll::EventFlags::ET);
const NO_TIME: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// See the module.
pub struct Arrivals {
    queue: AsyncFd<OwnedFd>,
    /// A descriptor in the queue. A time limit for each wait would have the kernel set its timer each time, which
    /// costs as much as all the rest of a wait, and in virtual machines more.
    alarm: OwnedFd,
    /// Has room for all sockets and the alarm: whoever is not told of at once is not news to the event loop any more.
    events: Vec<epoll::Event>,
    /// How many there are in the queue.
    descriptors: usize,
}

impl Arrivals {
    /// No sockets yet. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// The kernel has no descriptors or no memory left for it.
    pub fn new() -> io::Result<Self> {
        let queue = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let alarm =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        epoll::add(&queue, &alarm, epoll::EventData::new_u64(ALARM), NEWS)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe, for types whose descriptor may change: this one's cannot"
        )]
        let queue = AsyncFd::new(queue)?;
        Ok(Self { queue, alarm, events: Vec::with_capacity(1), descriptors: 1 })
    }

    /// Tells of datagrams on this socket, too, under this number. Not of room to write: each answer that a client takes
    /// makes some, and would wake the worker once more.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn add(&mut self, socket: &impl AsFd, number: usize) -> io::Result<()> {
        self.tell_of(socket, number as u64)
    }

    /// Ends a [`wait`](Self::wait) when something comes here, too. Whose it is has to hear of it elsewhere.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn add_other(&mut self, other: &impl AsFd) -> io::Result<()> {
        self.tell_of(other, OTHER)
    }

    fn tell_of(&mut self, descriptor: &impl AsFd, name: u64) -> io::Result<()> {
        epoll::add(self.queue.get_ref(), descriptor, epoll::EventData::new_u64(name), NEWS)?;
        self.descriptors += 1;
        self.events.clear();
        self.events.reserve(self.descriptors);
        Ok(())
    }

    /// Waits in the event loop until datagrams may be there to be [told of](Self::told).
    ///
    /// # Errors
    /// The event loop is gone.
    pub async fn some(&self) -> io::Result<()> {
        // What comes from here on is news again; the queue tells of what is there.
        self.queue.readable().await?.clear_ready();
        Ok(())
    }

    /// Ends a [`wait`](Self::wait) in so much time, unless it is set anew before. What was news is none any more.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn set_alarm(&mut self, after: Duration) -> io::Result<()> {
        self.events.clear();
        self.ring_in(Timespec { tv_sec: after.as_secs() as _, tv_nsec: after.subsec_nanos().into() })
    }

    /// Takes the alarm back: it would wake the worker for nothing.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn stop_alarm(&self) -> io::Result<()> {
        // "Setting both fields to zero disarms the timer": timerfd_settime(2).
        self.ring_in(NO_TIME)
    }

    fn ring_in(&self, it_value: Timespec) -> io::Result<()> {
        let once = Itimerspec { it_interval: NO_TIME, it_value };
        timerfd_settime(&self.alarm, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }

    /// Waits on the spot, with this whole thread, for datagrams or the [alarm](Self::set_alarm).
    pub fn wait(&mut self) {
        self.take(None);
    }

    /// Asks for news without waiting.
    pub fn look(&mut self) {
        self.take(Some(&NO_TIME));
    }

    fn take(&mut self, at_most: Option<&Timespec>) {
        self.events.clear();
        // The only error that is left is a signal's interruption: nothing has come.
        let _ = epoll::wait(self.queue.get_ref(), rustix::buffer::spare_capacity(&mut self.events), at_most);
    }

    /// The last news: which sockets have had datagrams come since they were told of. They are to be read until they
    /// are empty.
    pub fn told(&self) -> impl Iterator<Item = usize> {
        self.events.iter().map(|event| event.data.u64() as usize)
    }

    /// Whether the alarm was among the last news.
    pub fn has_rung(&self) -> bool {
        self.told().any(|number| number == ALARM as usize)
    }

    /// Whether something was that is [somebody else's](Self::add_other).
    pub fn told_of_other(&self) -> bool {
        self.told().any(|number| number == OTHER as usize)
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    /// As many as addresses may be configured, each with a datagram that waits.
    const SOCKETS: usize = 64;
    const SOON: Duration = Duration::from_millis(1);

    fn with_sockets(test: impl FnOnce(&mut Arrivals, &[UdpSocket])) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let _entered = runtime.enter();
        let mut arrivals = Arrivals::new().unwrap();
        let sockets: Vec<_> = (0..SOCKETS).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        sockets.iter().enumerate().for_each(|(number, socket)| arrivals.add(socket, number).unwrap());
        test(&mut arrivals, &sockets);
    }

    #[test]
    fn all_sockets_and_the_alarm_are_told_of_at_once_and_once() {
        with_sockets(|arrivals, sockets| {
            for socket in sockets {
                socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
            }
            arrivals.set_alarm(SOON).unwrap();
            std::thread::sleep(SOON * 20);
            arrivals.look();
            assert!(arrivals.has_rung());
            let mut told: Vec<_> = arrivals.told().filter(|&number| number < SOCKETS).collect();
            told.sort_unstable();
            assert!(told.into_iter().eq(0..SOCKETS));
            arrivals.look();
            assert_eq!(arrivals.told().count(), 0, "nothing has come since");
            sockets[7].send_to(b"x", sockets[7].local_addr().unwrap()).unwrap();
            arrivals.wait();
            assert!(arrivals.told().eq([7]), "another one is news");
        });
    }

    #[test]
    fn an_alarm_ends_a_wait_unless_it_was_taken_back_or_set_anew() {
        with_sockets(|arrivals, _| {
            arrivals.set_alarm(SOON).unwrap();
            arrivals.wait();
            assert!(arrivals.has_rung());
            arrivals.set_alarm(SOON).unwrap();
            assert!(!arrivals.has_rung(), "that was the one before");
            arrivals.stop_alarm().unwrap();
            std::thread::sleep(SOON * 20);
            arrivals.look();
            assert!(!arrivals.has_rung());
            // One that has rung and was not heard.
            arrivals.set_alarm(SOON).unwrap();
            std::thread::sleep(SOON * 20);
            arrivals.set_alarm(Duration::from_secs(3600)).unwrap();
            arrivals.look();
            assert!(!arrivals.has_rung());
        });
    }

    #[test]
    fn what_comes_for_somebody_else_ends_a_wait_until_it_is_taken() {
        with_sockets(|arrivals, _| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            arrivals.add_other(&listener).unwrap();
            let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            arrivals.wait();
            assert!(arrivals.told_of_other() && !arrivals.has_rung());
            listener.accept().unwrap();
            let _second = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            listener.accept().unwrap();
            arrivals.look();
            assert!(!arrivals.told_of_other(), "nobody waits there");
            drop(client);
        });
    }
}
