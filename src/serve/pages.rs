//! What HTTP says of this process: its numbers, whether it answers, whether its upstreams do.

use super::Supervisor;
use super::node::Keeper;
use crate::telemetry::health;
use crate::telemetry::http::{Local, Pages};
use crate::telemetry::metrics::{self, CacheFigures, Sources};

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
