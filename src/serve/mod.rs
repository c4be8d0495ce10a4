//! Start, reload, stop.
//!
//! **Start**: guard each address, bind every worker's sockets, bind HTTP, read upstreams, start the workers,
//! probe the upstreams. Whatever fails before the workers run is fatal, says what to do, and has answered nobody.
//!
//! **Reload** (SIGHUP, SIGUSR1, a change of a file that was read or of a resolv.conf): load, make a snapshot, publish it.
//! Workers pick it up with their next batch. New addresses of a service (`services`) are taken over in the same way. A bad file changes
//! nothing; so does a resolv.conf that cannot be read.
//!
//! Signals are heard before any of this ([`Ears`]).
//!
//! **Stop** (SIGTERM, SIGINT): no new connections; flights land; what has arrived is answered; close.
//!
//! On a **node** ([`crate::node`]), link and rules go up once the workers run, and a watchdog asks our
//! own listeners from then on. At the stop, TCP connections drain, then NOTRACK goes, then the rest drains, then the
//! rows go by which untracked packets pass the filters of others.
//!
//! How long a stop takes: as long as the slowest open query, which is 4 s; twice that, and a second, where one is asked
//! over TCP and another over UDP after it. Programs of iptables that wait for somebody's lock may add 5 s for each
//! family and step, 20 s in all. Kubernetes kills after 30 s (terminationGracePeriodSeconds).
//!
//! The supervisor is the main thread. It never handles a query, so it may wait for files and scrapes.

mod addresses;
mod bound;
mod descriptors;
mod door;
mod fallbacks;
mod files;
mod holder;
mod hosts;
mod manager;
mod node;
mod pages;
mod probe;
mod registry;
mod reload;
mod services;
mod signals;
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
use tokio::sync::watch;
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

use crate::cache::Cache;
use crate::config::{Config, Flags, HttpListener};
use crate::listen::bind;
use crate::listen::guard::Guard;
use crate::listen::{self, Served};
use crate::resolve::zones::ServerEntry;
use crate::resolve::{self, DEADLINE, Snapshot};
use crate::telemetry::http::{self, Pages, Site};
use crate::telemetry::log::{self, LogHandle};
use crate::telemetry::metrics::WorkerSources;
use crate::telemetry::ready::Readiness;
use bound::Bound;
use files::Pidfile;
use holder::Holder;
use manager::{Manager, State};
use node::Keeper;
use probe::Probes;
use registry::Registry;
use services::Services;
pub use signals::Ears;
use watchdog::{Pulse, Watchdog, Watched};
use worker::Worker;

/// Serves until a signal says to stop. `flags` are those that `config` was loaded with, for reloads; `ears` were opened
/// before that.
pub fn run(config: Config, flags: Flags, ears: Ears) -> ExitCode {
    let log = log::init(config.log);
    match Supervisor::start(config, flags, log).and_then(|supervisor| supervisor.supervise(ears)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            error!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// How long TCP connections may take to end before NOTRACK goes: what they have asked is answered within the time that
/// is promised to every client, and some more for the answer to get out.
const PARTING: Duration = DEADLINE.max.saturating_add(Duration::from_millis(500));
/// How often it is looked whether they have.
const PARTING_STEP: Duration = Duration::from_millis(10);

/// How long the start waits for hosts files; a million entries on a slow disk take some seconds.
const HOSTS_AT_START: Duration = Duration::from_secs(10);
/// How long a reload waits for hosts files that were not known before it.
const HOSTS_AT_RELOAD: Duration = Duration::from_secs(5);

/// Why we cannot serve.
type Fatal = Box<dyn std::error::Error>;

/// What the main thread holds.
struct Supervisor {
    flags: Flags,
    log: LogHandle,
    config: RefCell<Config>,
    /// Files of the configuration that were empty when it was taken over.
    empty: RefCell<Vec<PathBuf>>,
    registry: RefCell<Registry>,
    published: Arc<ArcSwap<Snapshot>>,
    settings: Arc<ArcSwap<listen::Settings>>,
    cache: Arc<Cache>,
    addresses: Vec<SocketAddr>,
    /// What each worker does at each of these.
    served: Vec<Vec<Arc<Served>>>,
    workers: Vec<Worker>,
    pulses: Vec<Arc<Pulse>>,
    keeper: Option<Keeper>,
    sources: Vec<WorkerSources>,
    http: Vec<(TcpListener, HttpListener)>,
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
        let count = config.listen.workers.unwrap_or_else(default_workers);
        descriptors::provide(&config, count)?;
        // Before anything is bound and any worker runs: see [`holder`].
        let holder = (!config.node.addresses.is_empty()).then(Holder::start).transpose()?;
        let Bound { addresses, served, sockets, http, guards } = bound::bind(&config, count)?;
        let mut registry = Registry::new(count, &config.listen.addresses);
        registry.untracked = config.node.notrack_upstream;
        let snapshot = Arc::new(registry.snapshot(&config)?);
        // Nobody is answered yet, and what a hosts file has is not to be asked of others.
        registry.hosts.unread().wait(HOSTS_AT_START);
        let readiness = RefCell::new(Readiness::new(&snapshot.zones));
        let published = Arc::new(ArcSwap::new(snapshot));
        let settings = Arc::new(ArcSwap::from_pointee(config.listen.clone()));
        let cache = Arc::new(Cache::new(config.cache.size));
        let mut sources = Vec::with_capacity(count);
        let mut pulses = Vec::with_capacity(count);
        let mut workers = Vec::with_capacity(count);
        for (index, sockets) in sockets.into_iter().enumerate() {
            let parts = worker::Parts {
                index,
                count,
                sockets,
                cache: Arc::clone(&cache),
                published: Arc::clone(&published),
                settings: Arc::clone(&settings),
                listen: Arc::new(listen::Counters::of(addresses.len())),
                resolve: Arc::default(),
                pulse: Arc::default(),
            };
            let (listen, resolve) = (Arc::clone(&parts.listen), Arc::clone(&parts.resolve));
            sources.push(WorkerSources { listen, resolve });
            pulses.push(Arc::clone(&parts.pulse));
            workers.push(Worker::start(parts)?);
        }
        let keeper = holder.map(|holder| Keeper::of(holder, &config, &addresses)).transpose()?;
        Ok(Rc::new(Self {
            flags,
            log,
            empty: RefCell::new(files::empty(&config.files)),
            config: RefCell::new(config),
            registry: RefCell::new(registry),
            published,
            settings,
            cache,
            addresses,
            served,
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
    fn supervise(self: Rc<Self>, ears: Ears) -> Result<(), Fatal> {
        // Before the node is touched: what comes while it is has to wait, and is heard then.
        let (runtime, mut signals) = ears.listen()?;
        let this = Rc::clone(&self);
        let pidfile = LocalSet::new().block_on(&runtime, async move {
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
            let watchdog = this.hold_the_node().await?;
            this.readiness.borrow_mut().bound();
            let pidfile = this.flags.pidfile.as_deref().and_then(Pidfile::write);
            this.greet();
            manager::tell(State::Ready);
            this.probe_upstreams();
            this.services.follow(&this);
            this.wait(&mut signals).await;
            info!("stopping: finishing what is under way");
            manager::tell(State::Stopping);
            this.let_the_node_go(watchdog).await;
            Ok::<_, Fatal>(pidfile)
        })?;
        for worker in &self.workers {
            worker.stop();
        }
        for worker in &self.workers {
            worker.join();
        }
        self.registry.borrow_mut().queries.end();
        if let Some(keeper) = &self.keeper {
            runtime.block_on(keeper.leave());
        }
        drop(pidfile);
        info!("stopped");
        Ok(())
    }

    /// Puts link and rules up, and keeps them so.
    async fn hold_the_node(self: &Rc<Self>) -> Result<Option<Watchdog>, Fatal> {
        let Some(keeper) = &self.keeper else { return Ok(self.watch_for_the_manager()?) };
        keeper.begin().await?;
        let watchdog = watchdog::start(Watched {
            addresses: self.held(keeper),
            mark: keeper.mark(),
            pulses: self.pulses.clone(),
            bound: keeper.patience(),
            hope: keeper.hope(),
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

    /// Without a node nobody can be served but by us, so only a manager that starts us again wants a watchdog.
    fn watch_for_the_manager(&self) -> io::Result<Option<Watchdog>> {
        let addresses = self.addresses.iter().copied().map(bind::reachable).zip(self.served.iter().cloned());
        let start = |_| {
            watchdog::start(Watched {
                addresses: addresses.collect(),
                mark: None,
                pulses: self.pulses.clone(),
                bound: self.config.borrow().node.watchdog,
                hope: watchdog::ANEW,
                last_deed: Box::new(|| ()),
            })
        };
        Manager::with_a_watchdog().map(start).transpose()
    }

    /// The node's addresses that we serve, and what each worker does there.
    fn held(&self, keeper: &Keeper) -> Vec<(SocketAddr, Vec<Arc<Served>>)> {
        let all = self.addresses.iter().copied().zip(self.served.iter().cloned());
        all.filter(|(address, _)| keeper.addresses().contains(address)).collect()
    }

    /// TCP connections drain, and only then NOTRACK goes: afterwards their packets could be translated.
    async fn let_the_node_go(&self, watchdog: Option<Watchdog>) {
        let Some(keeper) = &self.keeper else { return watchdog.iter().for_each(Watchdog::sleep) };
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
        let config = self.config.borrow();
        for note in &config.notes {
            warn!("{note}");
        }
        files::write_filled(&config);
        if let Some(first) = self.addresses.first() {
            let first = bind::reachable(*first);
            info!("try: dig @{} -p {} example.com", first.ip(), first.port());
        }
    }
}

/// A line for each zone.
fn who_asks_whom(snapshot: &Snapshot) -> Vec<String> {
    let names = |rank: Vec<&ServerEntry>| -> String {
        rank.iter().map(|entry| entry.server.to_string()).collect::<Vec<_>>().join(", ")
    };
    let line = |zone: &resolve::Zone| {
        let [servers, reserve] = snapshot.ranks(zone).map(names);
        let servers = match servers.as_str() {
            _ if zone.asks_nobody() => "nobody".to_owned(),
            // Those that would ask us in turn are left out.
            "" => "nobody that is left".to_owned(),
            _ => servers,
        };
        let mut line = format!("zone {} asks {servers}", zone.title());
        if !reserve.is_empty() {
            line.push_str(&format!("; in reserve {reserve}"));
        }
        for next in &zone.next {
            line.push_str(&format!("; next {}", names(snapshot.entries(&next.servers).collect())));
        }
        for named in &zone.by_name {
            if let Some(servers) = &named.servers {
                let below = named.names.texts().join(", ");
                let servers = names(snapshot.entries(servers).collect());
                line.push_str(&format!("; for what its rules make below {below}, {servers}"));
            }
        }
        line
    };
    snapshot.zones.iter().map(line).collect()
}

/// One per core, at most [`listen::WORKERS`]' default.
fn default_workers() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    cores.min(listen::WORKERS.default)
}
