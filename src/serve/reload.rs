//! Until the end: signals, changed files, and the configuration taken over as it is then.

use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use tokio::task::spawn_blocking;
use tracing::{error, info, warn};

use super::hosts::Unread;
use super::signals::Signals;
use super::{HOSTS_AT_RELOAD, Supervisor, files, who_asks_whom};
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
                _ = signals.hangup.recv() => self.reload("SIGHUP").await,
                _ = signals.user.recv() => self.reload("SIGUSR1").await,
                changed = changed(&mut watch) => match changed {
                    Ok(()) => self.reload("a file has changed").await,
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
        let hosts = config.hosts_files().into_iter().map(PathBuf::from);
        config.files.iter().cloned().chain(resolv).chain(hosts).collect()
    }

    /// Takes over the configuration as it is now, or says why not and keeps the running one.
    async fn reload(self: &Rc<Self>, why: &str) {
        let config = match self.load_again() {
            Ok(config) => config,
            Err(problem) => return self.refuse_reload(why, &problem),
        };
        let _needed = self.provide_hosts(&config).await;
        let snapshot = match self.registry.borrow_mut().fresh_snapshot(&config) {
            Ok(snapshot) => snapshot,
            Err(problem) => return self.refuse_reload(why, &problem),
        };
        let running = self.config.borrow();
        for key in config.needs_restart(&running) {
            match config.differs_at(&running, key) {
                Some(at) => warn!("{at}: this change takes effect at the next start"),
                None => warn!(key, "this change takes effect at the next start"),
            }
        }
        drop(running);
        self.log.set_level(config.log.level);
        let news = self.publish(snapshot);
        self.settings.store(Arc::new(config.listen.clone()));
        self.take_notes(&config);
        self.empty.replace(files::empty(&config.files));
        self.config.replace(config);
        self.reloads_ok.set(self.reloads_ok.get() + 1);
        info!(why, "configuration reloaded");
        for line in news {
            info!("{line}");
        }
        self.probe_upstreams();
        self.services.follow(self);
    }

    /// Has the hosts files read that were not known, while everything goes on: what they say is to be there before
    /// anybody is answered by the zones that name them.
    async fn provide_hosts(&self, config: &Config) -> Option<Unread> {
        let unread = {
            let hosts = &mut self.registry.borrow_mut().hosts;
            for hosts_of_zone in config.zones.iter().filter_map(|zone| zone.local.hosts.as_ref()) {
                let _ = hosts.shelf(hosts_of_zone);
            }
            hosts.unread()
        };
        if unread.is_empty() {
            return None;
        }
        let waiting = spawn_blocking(move || {
            unread.wait(HOSTS_AT_RELOAD);
            unread
        });
        // It does not fail: nothing there panics, and nobody ends it.
        waiting.await.ok()
    }

    /// The configuration as it is now.
    fn load_again(&self) -> Result<Config, Problem> {
        // An editor empties a file before it writes it, a full disk leaves it so; nobody means the defaults by it.
        let empty = files::empty(&self.config.borrow().files);
        if let Some(path) = empty.iter().find(|path| !self.empty.borrow().contains(path)) {
            let what = "the file is empty; write it anew, or restart without it";
            return Err(Problem::new(path.display(), what));
        }
        Config::load(&self.flags)
    }

    /// Tells what is to be told of a configuration and was not of the one before, and leaves it to be looked at.
    fn take_notes(&self, config: &Config) {
        let before = self.config.borrow();
        for note in config.notes.iter().filter(|note| !before.notes.contains(note)) {
            warn!("{note}");
        }
        files::write_filled(config);
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
        if let Some(keeper) = self.keeper.as_ref().filter(|_| problem.is_of_config_map()) {
            keeper.counters().config_map.bump();
        }
        // One line: logs are read and searched by the line.
        error!(why, "not reloaded, the running configuration stays: {}", problem.summary());
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
