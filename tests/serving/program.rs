//! A running program with a configuration of its own, and what it logs. It is killed when it is dropped.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::scripted::Scripted;

pub struct Program {
    child: Child,
    pub address: SocketAddr,
    http: Option<SocketAddr>,
    log: Arc<Mutex<Vec<String>>>,
    /// Who reads the log, up to the end of the process.
    reader: Option<JoinHandle<()>>,
    pub config: PathBuf,
    _directory: tempfile::TempDir,
}

/// One worker on a free port, HTTP too, and `upstream` for all names. `listen` is more of that section,
/// `rest` more sections; the zone comes before them.
pub fn config(upstream: &Scripted, listen: &str, rest: &str) -> String {
    format!(
        "[listen]\naddresses = [\"127.0.0.1:0\"]\nworkers = 1\n{listen}\n\
         [http]\nserve = [{{ address = \"127.0.0.1:0\" }}]\n\
         [[zone]]\nname = \".\"\nupstreams = [\"{}\"]\n{rest}\n",
        upstream.address
    )
}

/// A port of 127.0.0.1 that nobody has.
pub fn free_port() -> u16 {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = udp.local_addr().unwrap().port();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Waits until `done`, for at most 10 s.
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Program {
    /// Starts it and waits until it listens and all its upstreams have been probed.
    pub fn start(config: &str) -> Self {
        let program = Self::start_unready(config);
        wait_for("ready", || program.get("/ready").0 == 200);
        program
    }

    /// The same with a Corefile.
    pub fn start_corefile(corefile: &str) -> Self {
        let program = Self::start_with("Corefile", corefile);
        wait_for("ready", || program.get("/ready").0 == 200);
        program
    }

    /// Starts it and waits until it listens.
    pub fn start_unready(config: &str) -> Self {
        Self::start_with("sidestep.toml", config)
    }

    fn start_with(name: &str, config: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        std::fs::write(&path, config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sidestep"));
        Self::spawn(command.args(["run", "--config"]).arg(&path), directory, path)
    }

    /// Starts this and waits until it listens. Its files are in `directory`, its configuration is `config`.
    pub fn spawn(command: &mut Command, directory: tempfile::TempDir, config: PathBuf) -> Self {
        Self::spawn_and(command, |_| directory, config)
    }

    /// As [`spawn`](Self::spawn); `then` is done as soon as there is a process, with its id.
    pub fn spawn_and(
        command: &mut Command,
        then: impl FnOnce(u32) -> tempfile::TempDir,
        config: PathBuf,
    ) -> Self {
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let directory = then(child.id());
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, stderr) = (Arc::clone(&log), BufReader::new(child.stderr.take().unwrap()));
        let reader = std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).for_each(|line| lines.lock().unwrap().push(line));
        });
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let reader = Some(reader);
        let mut program = Self { child, address, http: None, log, reader, config, _directory: directory };
        program.wait_for_log("try: dig");
        program.address = program.logged_address("listening on ").expect("an address");
        program.http = program.logged_address("serving http://");
        program
    }

    fn logged_address(&self, before: &str) -> Option<SocketAddr> {
        let log = self.log.lock().unwrap();
        let line = log.iter().find_map(|line| line.split_once(before))?.1;
        Some(line.split([' ', ',']).next()?.parse().unwrap())
    }

    /// All lines so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// How many lines hold `text`.
    pub fn logged(&self, text: &str) -> usize {
        self.log().iter().filter(|line| line.contains(text)).count()
    }

    pub fn wait_for_log(&mut self, text: &str) {
        wait_for(text, || {
            let ended = self.child.try_wait().unwrap();
            if ended.is_some() {
                self.read_all();
            }
            assert!(ended.is_none() || self.logged(text) > 0, "it ended: {:?}", self.log());
            self.logged(text) > 0
        });
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub fn end(&mut self) -> ExitStatus {
        let mut status = None;
        wait_for("the end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        self.read_all();
        status.unwrap()
    }

    /// Waits for the last lines of a process that has ended.
    fn read_all(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
    }

    /// A page: status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        self.get_at(self.http.expect("HTTP"), path)
    }

    /// A page that is served there.
    pub fn get_at(&self, address: SocketAddr, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        let (head, body) = page.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// A number of /metrics; `metric` is its name with labels, without `sidestep_`.
    pub fn metric(&self, metric: &str) -> f64 {
        let page = self.get("/metrics").1;
        let line = page.lines().find_map(|line| line.strip_prefix(&format!("sidestep_{metric} ")));
        line.unwrap_or_else(|| panic!("no {metric} in {page}")).parse().unwrap()
    }

    /// Replaces the configuration's file, as an editor does.
    pub fn rewrite(&self, config: &str) {
        let new = self.config.with_extension("new");
        std::fs::write(&new, config).unwrap();
        std::fs::rename(new, &self.config).unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.log().join("\n"));
        }
    }
}
