//! A server that runs: started on its core, waited for, ended by its process id.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::load;
use crate::peers::{Peer, Site};

/// How long a server may take until it answers.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one try waits for its answer.
const TRY: Duration = Duration::from_millis(100);

/// A running server. It is killed when this is dropped.
pub struct Server {
    /// Its name in the tables.
    pub name: &'static str,
    /// Where it answers.
    pub address: SocketAddr,
    child: Child,
}

impl Server {
    /// Starts `peer` on core `cpu` and waits until it answers. Its configuration and its output go into `dir`.
    pub fn start(
        peer: &Peer,
        program: &Path,
        dir: &Path,
        upstream: SocketAddr,
        cpu: usize,
    ) -> io::Result<Self> {
        let dir = dir.join(peer.name);
        fs::create_dir_all(&dir)?;
        let output = dir.join("output");
        let site = Site { dir, listen: free_address()?, upstream };
        let mut command = (peer.command)(program, &site)?;
        let file = File::create(&output)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = spawn_on(&mut command, cpu)?;
        let mut server = Self { name: peer.name, address: site.listen, child };
        server.wait_until_it_answers().map_err(|error| {
            let said = fs::read_to_string(&output).unwrap_or_default();
            let last = said.lines().next_back().unwrap_or("it said nothing");
            io::Error::other(format!("{}: {error}: {last}", peer.name))
        })?;
        Ok(server)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_until_it_answers(&mut self) -> io::Result<()> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if load::answers(self.address, TRY) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("it ended with {status}")));
            }
            // A closed port refuses at once.
            thread::sleep(Duration::from_millis(10));
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

/// Binds the calling thread, and the threads and processes that it will start, to core `cpu`.
pub fn pin(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

/// Starts a process on core `cpu`: from a thread that was moved there, for a child inherits its core.
fn spawn_on(command: &mut Command, cpu: usize) -> io::Result<Child> {
    thread::scope(|scope| {
        let spawner = scope.spawn(|| {
            pin(cpu)?;
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
