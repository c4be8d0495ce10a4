//! A client that asks single questions over UDP as a stub resolver does, and load made of many.

use std::net::{SocketAddr, UdpSocket};
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};

/// glibc and musl wait this long for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two questions of one client of a load. The servers need some of the two cores too.
const PACE: Duration = Duration::from_millis(2);

/// A query message.
pub fn query(id: u16, name: &str, rtype: RecordType) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_str(name).unwrap(), rtype));
    message.to_vec().unwrap()
}

/// One client with one socket.
pub struct Client {
    socket: UdpSocket,
    id: u16,
}

impl Client {
    pub fn new(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, id: 0 }
    }

    /// Asks once. An error is what a user would see: silence, or a broken answer.
    pub fn ask(&mut self, name: &str, rtype: RecordType) -> Result<Message, String> {
        self.id = self.id.wrapping_add(1);
        self.socket.send(&query(self.id, name, rtype)).map_err(|e| format!("{name}: send: {e}"))?;
        let mut buffer = [0; 4096];
        loop {
            let length = self.socket.recv(&mut buffer).map_err(|e| format!("{name}: no answer: {e}"))?;
            let message =
                Message::from_vec(&buffer[..length]).map_err(|e| format!("{name}: broken answer: {e}"))?;
            if message.metadata.id == self.id {
                return Ok(message);
            }
        }
    }

    /// Asks once for an address, and wants one.
    pub fn resolve(&mut self, name: &str) -> Result<Message, String> {
        let message = self.ask(name, RecordType::A)?;
        let code = message.metadata.response_code;
        if code != ResponseCode::NoError || message.answers.is_empty() {
            return Err(format!("{name}: {code}, {} answers, {:?}", message.answers.len(), message.edns));
        }
        Ok(message)
    }
}

/// What the clients of a load saw.
#[derive(Debug)]
pub struct Tally {
    pub asked: u64,
    /// Each question that did not end in an address.
    pub failures: Vec<String>,
    pub slowest: Duration,
}

impl Tally {
    /// Nothing failed, and there was a load at all.
    pub fn assert_clean(&self, what: &str) {
        println!(
            "{what}: {} questions, {} failed, slowest {:?}",
            self.asked,
            self.failures.len(),
            self.slowest
        );
        assert!(self.asked > 200, "{what}: only {} questions were asked", self.asked);
        let some = &self.failures[..self.failures.len().min(5)];
        assert!(
            self.failures.is_empty(),
            "{what}: {} of {} failed: {some:#?}",
            self.failures.len(),
            self.asked
        );
    }
}

/// Tells threads to end when it goes, by a panic too.
pub struct Stop<'a>(pub &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Four clients ask for `name(n)`, n = 0, 1, ..., while `action` runs.
pub fn load_while(server: SocketAddr, name: impl Fn(u64) -> String + Sync, action: impl FnOnce()) -> Tally {
    let (stop, next) = (AtomicBool::new(false), AtomicU64::new(0));
    let seen = Mutex::new((Vec::new(), Duration::ZERO));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = Client::new(server);
                while !stop.load(Relaxed) {
                    let start = Instant::now();
                    let result = client.resolve(&name(next.fetch_add(1, Relaxed)));
                    let mut seen = seen.lock().unwrap();
                    seen.1 = seen.1.max(start.elapsed());
                    seen.0.extend(result.err());
                    drop(seen);
                    thread::sleep(PACE);
                }
            });
        }
        let _stop = Stop(&stop);
        action();
    });
    let (failures, slowest) = seen.into_inner().unwrap();
    Tally { asked: next.into_inner(), failures, slowest }
}
