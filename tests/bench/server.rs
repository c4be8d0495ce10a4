//! A server that runs: started on its cores, waited for, ended by its process id.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::load;
use crate::peers::{Peer, Site, Size};

/// How long a server may take until it answers.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one try waits for its answer. A query that came before the server was ready may be lost.
const TRY: Duration = Duration::from_millis(20);
/// The time between tries.
const BREATH: Duration = Duration::from_micros(200);

/// A running server. It is killed when this is dropped.
pub struct Server {
    /// Its name in the tables.
    pub name: &'static str,
    /// Where it answers.
    pub address: SocketAddr,
    /// How long it took from its start to its first answer, exact to about [`BREATH`].
    pub took: Duration,
    child: Child,
}

/// Where servers run, and whom they ask.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// A directory for their configurations and their output.
    pub dir: &'a Path,
    /// The upstream.
    pub upstream: SocketAddr,
    /// Their cores.
    pub cores: &'a [usize],
}

impl Server {
    /// Starts `peer` and waits until it answers.
    pub fn start(peer: &Peer, program: &Path, place: Place, size: Size) -> io::Result<Self> {
        let dir = place.dir.join(peer.name);
        fs::create_dir_all(&dir)?;
        let output = dir.join("output");
        let site = Site { dir, listen: free_address()?, upstream: place.upstream, size };
        let mut command = (peer.command)(program, &site)?;
        let file = File::create(&output)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let start = Instant::now();
        let child = spawn_on(&mut command, place.cores)?;
        let address = site.listen;
        let mut server = Self { name: peer.name, address, child, took: Duration::ZERO };
        server.wait_until_it_answers(start).map_err(|error| {
            let said = fs::read_to_string(&output).unwrap_or_default();
            let last = said.lines().next_back().unwrap_or("it said nothing");
            io::Error::other(format!("{}: {error}: {last}", peer.name))
        })?;
        server.took = start.elapsed();
        Ok(server)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_until_it_answers(&mut self, start: Instant) -> io::Result<()> {
        while start.elapsed() < PATIENCE {
            if load::answers(self.address, TRY) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("it ended with {status}")));
            }
            // A closed port refuses at once.
            thread::sleep(BREATH);
        }
        Err(io::Error::other(format!("no answer in {PATIENCE:?}")))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only for a process that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Binds the calling thread, and the threads and processes that it will start, to `cores`.
pub fn pin(cores: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    cores.iter().for_each(|&core| set.set(core));
    Ok(sched_setaffinity(None, &set)?)
}

/// Starts a process on `cores`: from a thread that was moved there, for a child inherits its core.
fn spawn_on(command: &mut Command, cores: &[usize]) -> io::Result<Child> {
    thread::scope(|scope| {
        let spawner = scope.spawn(|| {
            pin(cores)?;
            command.spawn()
        });
        spawner.join().unwrap_or_else(|_| Err(io::Error::other("the starting thread panicked")))
    })
}

/// A port that is free for UDP and TCP. Nobody else is expected to take it before the server does.
fn free_address() -> io::Result<SocketAddr> {
    let tcp = TcpListener::bind("127.0.0.1:0")?;
    let address = tcp.local_addr()?;
    UdpSocket::bind(address)?;
    Ok(address)
}
