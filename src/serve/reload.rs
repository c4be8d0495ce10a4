//! Until the end: signals, changed files, and the configuration taken over as it is then.

use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use super::{Supervisor, who_asks_whom};
use crate::config::watch::Watch;
use crate::config::{Config, Problem};
use crate::resolve::Snapshot;

impl Supervisor {
    /// Reloads until a signal says to stop.
    pub(super) async fn wait(self: &Rc<Self>, signals: &mut Signals) {
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
        config.files.iter().cloned().chain(resolv).collect()
    }

    /// Takes over the configuration as it is now, or says why not and keeps the running one.
    fn reload(self: &Rc<Self>, why: &str) {
        // An editor empties a file before it writes it, a full disk leaves it so; nobody means the defaults by it.
        let is_empty = |path: &&PathBuf| path.metadata().is_ok_and(|m| m.is_file() && m.len() == 0);
        if let Some(path) = self.config.borrow().files.iter().find(is_empty) {
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
    pub(super) fn publish(&self, snapshot: Snapshot) -> Vec<String> {
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
}

/// What the outside tells us.
pub(super) struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Hears of them from now on, instead of ending at once, or, as the first process of a container, not at all.
    pub(super) fn hear() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
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
