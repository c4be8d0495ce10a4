//! The rules of zones from one snapshot to the next: their hosts files are read when they change.
//!
//! What was answered by rules is cached like anything else. New rules are another zone, which finds nothing of what was
//! cached; a new hosts file is not, so what it says counts when the TTLs of what it said before are over.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use tracing::{info, warn};

use crate::local::{Local, Settings, Table};

/// What tells one content of a file from another without reading it: where it is, its size, and when it changed.
type Look = (u64, u64, u64, i64, i64);

/// The rules of one zone.
#[derive(Debug)]
pub(super) struct Rules {
    local: Arc<Local>,
    /// The hosts file as it was when it was read last; `None`: there was none.
    seen: Option<Look>,
}

impl Rules {
    /// Rules that hold from now on; `None` if there are none.
    pub fn new(settings: &Settings) -> Option<Self> {
        if settings.is_empty() {
            return None;
        }
        let mut rules = Self { local: Local::new(settings.clone()), seen: None };
        if let Some(file) = rules.file().filter(|file| look(file).is_none()) {
            warn!(file = %file.display(), "there is no such hosts file; it is read when it comes");
        }
        rules.look();
        Some(rules)
    }

    /// Reads the hosts file again if it is not as it was, and may change.
    pub fn refresh(&mut self) {
        let reloads = self.local.settings().hosts.as_ref().is_some_and(|hosts| !hosts.reload.is_zero());
        if reloads {
            self.look();
        }
    }

    /// What the road uses.
    pub fn local(&self) -> Arc<Local> {
        Arc::clone(&self.local)
    }

    fn file(&self) -> Option<&Path> {
        self.local.settings().hosts.as_ref()?.file.as_deref()
    }

    fn look(&mut self) {
        let Some(file) = self.file() else { return };
        let now = look(file);
        if now == self.seen {
            return;
        }
        // Without a file there are no entries of it; one that cannot be read leaves those of the last one.
        let table = if now.is_some() { Table::read(file) } else { Ok(Table::default()) };
        match table {
            Ok(table) => {
                let (entries, skipped, left_out) = (table.entries(), table.skipped(), table.left_out());
                info!(file = %file.display(), entries, skipped, left_out, "hosts file read");
                self.local.set_hosts(table);
            }
            Err(error) => warn!(file = %file.display(), %error, "the hosts file cannot be read"),
        }
        self.seen = now;
    }
}

fn look(file: &Path) -> Option<Look> {
    let meta = fs::metadata(file).ok()?;
    Some((meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
}
