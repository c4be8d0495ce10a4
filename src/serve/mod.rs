//! Start, reload, stop.
//!
//! **Start**: guard each address, bind every worker's sockets, bind HTTP, read upstreams, start the workers,
//! probe the upstreams. Whatever fails before the workers run is fatal, says what to do, and has answered nobody.
//!
//! **Reload** (SIGHUP, a change of the file or of a resolv.conf): load, make a snapshot, publish it. Workers pick it up
//! with their next batch. New addresses of a service (`services`) are taken over in the same way. A bad file changes nothing; so does a resolv.conf that cannot be read.
//!
//! **Stop** (SIGTERM, SIGINT): no new connections; flights land; what has arrived is answered; close.
//!
//! On a **node** ([`crate::node`]), link and rules go up once the workers run, and a watchdog asks our
//! own listeners from then on. At the stop, TCP connections drain, then NOTRACK goes, then the rest drains.
//!
//! The supervisor is the main thread. It never handles a query, so it may wait for files and scrapes.

mod addresses;
mod fallbacks;
mod holder;
mod node;
mod probe;
mod registry;
mod services;
mod watchdog;
mod worker;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

use crate::cache::Cache;
use crate::config::watch::Watch;
use crate::config::{Config, Flags, Problem};
use crate::listen::bind::{self, Guard, Presence, Sockets};
use crate::listen::{self};
use crate::resolve::zones::ServerEntry;
use crate::resolve::{self, Snapshot};
use crate::telemetry::health;
use crate::telemetry::http::{self, Local, Pages, Site};
use crate::telemetry::log::{self, LogHandle};
use crate::telemetry::metrics::{self, CacheFigures, Sources, WorkerSources};
use crate::telemetry::ready::Readiness;
use holder::Holder;
use node::Keeper;
use probe::Probes;
use registry::Registry;
use services::Services;
use watchdog::{Pulse, Watchdog, Watched};
use worker::Worker;

/// Serves until a signal says to stop. `flags` are those that `config` was loaded with, for reloads.
pub fn run(config: Config, flags: Flags) -> ExitCode {
    let log = log::init(config.log);
    match Supervisor::start(config, flags, log).and_then(Supervisor::supervise) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            error!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// How long TCP connections to the node's addresses may take to end.
const PARTING: Duration = Duration::from_secs(1);
/// How often it is looked whether they have.
const PARTING_STEP: Duration = Duration::from_millis(10);

/// Why we cannot serve.
type Fatal = Box<dyn std::error::Error>;

/// What the main thread holds.
struct Supervisor {
    flags: Flags,
    log: LogHandle,
    config: RefCell<Config>,
    registry: RefCell<Registry>,
    published: Arc<ArcSwap<Snapshot>>,
    settings: Arc<ArcSwap<listen::Settings>>,
    cache: Arc<Cache>,
    addresses: Vec<SocketAddr>,
    workers: Vec<Worker>,
    pulses: Vec<Arc<Pulse>>,
    keeper: Option<Keeper>,
    sources: Vec<WorkerSources>,
    http: Vec<(TcpListener, crate::config::HttpListener)>,
    http_counters: Vec<Arc<http::Counters>>,
    readiness: RefCell<Readiness>,
    probes: Probes,
    services: Services,
    /// Changes whenever there is another snapshot: after a reload, when a service has other addresses, and when a
    /// server is left out.
    changes: watch::Sender<()>,
    probing: RefCell<Option<JoinHandle<()>>>,
    reloads_ok: Cell<u64>,
    reloads_failed: Cell<u64>,
    started: u64,
    _guards: Vec<Guard>,
}

impl Supervisor {
    /// Everything up to the workers running.
    fn start(config: Config, flags: Flags, log: LogHandle) -> Result<Rc<Self>, Fatal> {
        raise_descriptor_limit();
        // Before anything is bound and any worker runs: see [`holder`].
        let holder = (!config.node.addresses.is_empty()).then(Holder::start).transpose()?;
        let count = config.listen.workers.unwrap_or_else(default_workers);
        let mut guards = Vec::new();
        let mut addresses = Vec::new();
        let mut sockets: Vec<Vec<Sockets>> = (0..count).map(|_| Vec::new()).collect();
        let presence = |address: SocketAddr| {
            if config.node.addresses.contains(&address.ip()) { Presence::Coming } else { Presence::Expected }
        };
        // Port 0 is a port of our own, which nobody else can have.
        for &address in config.listen.addresses.iter().filter(|a| a.port() != 0) {
            guards.push(Guard::succeed(|| Guard::take(address))?);
            bind::is_free(address, presence(address))?;
        }
        if !config.node.addresses.is_empty() {
            guards.push(Guard::succeed(|| Guard::take_link(&config.node.interface))?);
        }
        for &address in &config.listen.addresses {
            let (bound, pairs) = bind::bind(address, presence(address), count)?;
            addresses.push(bound);
            for (of_worker, pair) in sockets.iter_mut().zip(pairs) {
                of_worker.push(pair);
            }
        }
        let http = config
            .http
            .iter()
            .map(|http| bind_http(http, presence(http.address)))
            .collect::<Result<Vec<_>, _>>()?;
        let mut registry = Registry::new(count, &config.listen.addresses);
        registry.untracked = config.node.notrack_upstream;
        let snapshot = Arc::new(registry.snapshot(&config)?);
        let readiness = RefCell::new(Readiness::new(&snapshot.zones));
        let published = Arc::new(ArcSwap::new(snapshot));
        let settings = Arc::new(ArcSwap::from_pointee(config.listen.clone()));
        let cache = Arc::new(Cache::new(config.cache.size));
        let sources: Vec<_> = (0..count)
            .map(|_| WorkerSources {
                listen: Arc::new(listen::Counters::of(addresses.len())),
                resolve: Arc::<resolve::Counters>::default(),
            })
            .collect();
        let pulses: Vec<Arc<Pulse>> = (0..count).map(|_| Arc::default()).collect();
        let mut workers = Vec::with_capacity(count);
        for (index, (sockets, counters)) in sockets.into_iter().zip(&sources).enumerate() {
            let parts = worker::Parts {
                index,
                count,
                sockets,
                cache: Arc::clone(&cache),
                published: Arc::clone(&published),
                settings: Arc::clone(&settings),
                listen: Arc::clone(&counters.listen),
                resolve: Arc::clone(&counters.resolve),
                pulse: Arc::clone(&pulses[index]),
            };
            workers.push(Worker::start(parts)?);
        }
        let keeper = holder.map(|holder| Keeper::of(holder, &config, &addresses)).transpose()?;
        Ok(Rc::new(Self {
            flags,
            log,
            config: RefCell::new(config),
            registry: RefCell::new(registry),
            published,
            settings,
            cache,
            addresses,
            workers,
            pulses,
            keeper,
            sources,
            http_counters: http.iter().map(|_| Arc::default()).collect(),
            http,
            readiness,
            probes: Probes::default(),
            services: Services::default(),
            changes: watch::Sender::new(()),
            probing: RefCell::new(None),
            reloads_ok: Cell::new(0),
            reloads_failed: Cell::new(0),
            started: SystemTime::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_secs()),
            _guards: guards,
        }))
    }

    /// Everything from there to the end.
    fn supervise(self: Rc<Self>) -> Result<(), Fatal> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let this = Rc::clone(&self);
        LocalSet::new().block_on(&runtime, async move {
            for ((listener, settings), counters) in this.http.iter().zip(&this.http_counters) {
                let listener = tokio::net::TcpListener::from_std(listener.try_clone()?)?;
                let site = Site {
                    paths: settings.paths.clone(),
                    pages: Rc::clone(&this) as Rc<dyn Pages>,
                    counters: Arc::clone(counters),
                    limits: http::Limits::default(),
                };
                spawn_local(http::serve(listener, site));
            }
            // Before the node is touched: a signal that comes while it is has to wait, and is heard then.
            let mut signals = Signals::hear()?;
            let watchdog = this.hold_the_node().await?;
            this.readiness.borrow_mut().bound();
            this.greet();
            this.probe_upstreams();
            this.services.follow(&this);
            this.wait(&mut signals).await;
            info!("stopping: finishing what is under way");
            this.let_the_node_go(watchdog).await;
            Ok::<_, Fatal>(())
        })?;
        for worker in &self.workers {
            worker.stop();
        }
        for worker in &self.workers {
            worker.join();
        }
        if let Some(keeper) = &self.keeper {
            runtime.block_on(keeper.leave());
        }
        info!("stopped");
        Ok(())
    }

    /// Puts link and rules up, and keeps them so.
    async fn hold_the_node(self: &Rc<Self>) -> Result<Option<Watchdog>, Fatal> {
        let Some(keeper) = &self.keeper else { return Ok(None) };
        keeper.begin().await?;
        let watchdog = watchdog::start(Watched {
            addresses: keeper.addresses().to_vec(),
            mark: keeper.mark(),
            pulses: self.pulses.clone(),
            bound: keeper.patience(),
            last_deed: keeper.last_deed(),
        })?;
        let this = Rc::clone(self);
        spawn_local(async move {
            if let Some(keeper) = &this.keeper {
                keeper.keep(&this).await;
            }
        });
        Ok(Some(watchdog))
    }

    /// TCP connections drain, and only then NOTRACK goes: afterwards their packets could be translated.
    async fn let_the_node_go(&self, watchdog: Option<Watchdog>) {
        let Some(keeper) = &self.keeper else { return };
        for worker in &self.workers {
            worker.part();
        }
        let end = Instant::now() + PARTING;
        while self.sources.iter().any(|s| s.listen.tcp_open.get() > 0) && Instant::now() < end {
            sleep(PARTING_STEP).await;
        }
        keeper.end().await;
        // Workers end one by one from here on, and questions to the cluster's address go elsewhere.
        watchdog.iter().for_each(Watchdog::sleep);
    }

    /// Reloads until a signal says to stop.
    async fn wait(self: &Rc<Self>, signals: &mut Signals) {
        let mut watch = watching(Watch::new(self.watched()));
        loop {
            tokio::select! {
                _ = signals.terminate.recv() => return,
                _ = signals.interrupt.recv() => return,
                _ = signals.hangup.recv() => self.reload("SIGHUP"),
                changed = changed(&mut watch) => match changed {
                    Ok(()) => self.reload("a file has changed"),
                    Err(error) => watch = watching(Err(error)),
                },
            }
            let files = self.watched();
            watch = watch.and_then(|mut watch| watching(watch.replace(files).map(|()| watch)));
        }
    }

    /// The files whose change means a reload.
    fn watched(&self) -> Vec<PathBuf> {
        let config = self.config.borrow();
        let resolv = config.resolv_confs().into_iter().map(PathBuf::from);
        self.flags.config.iter().cloned().chain(resolv).collect()
    }

    /// Takes over the configuration as it is now, or says why not and keeps the running one.
    fn reload(self: &Rc<Self>, why: &str) {
        // An editor empties a file before it writes it, a full disk leaves it so; nobody means the defaults by it.
        if let Some(path) = self.flags.config.as_ref().filter(|p| p.metadata().is_ok_and(|m| m.len() == 0)) {
            let problem =
                Problem::new(path.display(), "the file is empty; write it anew, or restart without it");
            return self.refuse_reload(why, &problem);
        }
        let config = match Config::load(&self.flags) {
            Ok(config) => config,
            Err(problem) => return self.refuse_reload(why, &problem),
        };
        let snapshot = match self.registry.borrow_mut().fresh_snapshot(&config) {
            Ok(snapshot) => snapshot,
            Err(problem) => return self.refuse_reload(why, &problem),
        };
        for key in config.needs_restart(&self.config.borrow()) {
            warn!(key, "this change takes effect at the next start");
        }
        self.log.set_level(config.log.level);
        let news = self.publish(snapshot);
        self.settings.store(Arc::new(config.listen.clone()));
        self.config.replace(config);
        self.reloads_ok.set(self.reloads_ok.get() + 1);
        info!(why, "configuration reloaded");
        for line in news {
            info!("{line}");
        }
        self.probe_upstreams();
        self.services.follow(self);
    }

    /// Makes a snapshot the one that holds; the lines are what is new about who asks whom.
    fn publish(&self, snapshot: Snapshot) -> Vec<String> {
        let mut lines = who_asks_whom(&snapshot);
        self.readiness.borrow_mut().reload(&snapshot.zones);
        let before = who_asks_whom(&self.published.swap(Arc::new(snapshot)));
        self.changes.send_replace(());
        lines.retain(|line| !before.contains(line));
        lines
    }

    fn refuse_reload(&self, why: &str, problem: &Problem) {
        self.reloads_failed.set(self.reloads_failed.get() + 1);
        // One line: logs are read and searched by the line.
        error!(why, "not reloaded, the running configuration stays: {}", problem.summary());
    }

    /// Asks every zone's upstreams once, and finds out whether one of them asks us in turn.
    fn probe_upstreams(self: &Rc<Self>) {
        let this = Rc::clone(self);
        let task = spawn_local(async move { this.probes.run(&this).await });
        if let Some(before) = self.probing.replace(Some(task)) {
            before.abort();
        }
    }

    /// Says where we listen and what to try.
    fn greet(&self) {
        let addresses: Vec<_> = self.addresses.iter().map(ToString::to_string).collect();
        info!(workers = self.workers.len(), "listening on {} (UDP and TCP)", addresses.join(", "));
        for (_, settings) in &self.http {
            let paths: Vec<_> = settings.paths.iter().map(|&p| http::name(p)).collect();
            info!("serving http://{} {}", settings.address, paths.join(" "));
        }
        for line in who_asks_whom(&self.published.load()) {
            info!("{line}");
        }
        if let Some(first) = self.addresses.first() {
            let first = bind::reachable(*first);
            info!("try: dig @{} -p {} example.com", first.ip(), first.port());
        }
    }
}

/// What the outside tells us.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Hears of them from now on, instead of ending at once, or, as the first process of a container, not at all.
    fn hear() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

impl Pages for Supervisor {
    fn metrics(&self) -> String {
        let figures = self.cache.figures();
        let snapshot = self.published.load();
        let zones: Vec<u32> = snapshot.zones.iter().map(|zone| zone.id).collect();
        metrics::render(&Sources {
            workers: &self.sources,
            snapshot: &snapshot,
            cached: &self.cache.by_zone(&zones),
            config: &self.config.borrow().to_toml(),
            cache: CacheFigures {
                bytes: figures.bytes,
                limit_bytes: figures.limit,
                entries: figures.entries,
                evictions: figures.evictions,
            },
            node: self.keeper.as_ref().map(Keeper::counters),
            http: &self.http_counters,
            reloads_ok: self.reloads_ok.get(),
            reloads_failed: self.reloads_failed.get(),
            started: self.started,
        })
    }

    fn health(&self) -> Local<'_, Result<(), Vec<String>>> {
        Box::pin(health::ask_ourselves(&self.addresses, self.keeper.as_ref().and_then(Keeper::mark)))
    }

    fn ready(&self) -> Result<(), Vec<String>> {
        self.readiness.borrow().status()
    }
}

/// A line for each zone.
fn who_asks_whom(snapshot: &Snapshot) -> Vec<String> {
    let names = |rank: Vec<&ServerEntry>| -> String {
        rank.iter().map(|entry| entry.server.to_string()).collect::<Vec<_>>().join(", ")
    };
    let line = |zone: &resolve::Zone| match snapshot.ranks(zone).map(names) {
        [servers, reserve] if reserve.is_empty() => format!("zone {} asks {servers}", zone.title()),
        [servers, reserve] => format!("zone {} asks {servers}; in reserve {reserve}", zone.title()),
    };
    snapshot.zones.iter().map(line).collect()
}

/// Clients and upstreams may take thousands of descriptors; the usual soft limit of 1024 is for programs that use
/// select(2), and the hard one is what the administrator means (getrlimit(2)).
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!(%error, "the limit of open files stays at {:?}", limit.current);
    }
}

/// One per core, at most [`listen::WORKERS`]' default.
fn default_workers() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    cores.min(listen::WORKERS.default)
}

fn bind_http(
    settings: &crate::config::HttpListener,
    presence: Presence,
) -> Result<(TcpListener, crate::config::HttpListener), Fatal> {
    let address = settings.address;
    let (listener, bound) = bind::listen(address, presence)
        .and_then(|listener| listener.local_addr().map(|bound| (listener, bound)))
        .map_err(|e| format!("cannot serve HTTP on {address}: {e}; give it another address with --http"))?;
    // Port 0 is chosen by the kernel, and the log is to say which it is.
    Ok((listener, crate::config::HttpListener { address: bound, ..settings.clone() }))
}

/// A node may have no more inotify watches to give; that must not keep it from serving names.
fn watching(watch: io::Result<Watch>) -> Option<Watch> {
    watch.inspect_err(|error| warn!(%error, "cannot watch files for changes: reload with SIGHUP")).ok()
}

/// Waits for a change; for ever, where nothing is watched.
async fn changed(watch: &mut Option<Watch>) -> io::Result<()> {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}
