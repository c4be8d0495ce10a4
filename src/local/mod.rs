//! Answers that nobody is asked for, and questions that are asked differently.
//!
//! CoreDNS's plugins `dns64`, `rewrite`, `template` and `hosts`, and records of the configuration's own, each
//! for a zone. Like there, they stand behind the cache: they see misses only, and what comes out is kept under
//! the client's own question, an AAAA made by dns64 too. (In CoreDNS dns64 stands in front of the cache; since
//! ours keeps an answer by everything that it depends on, that makes no difference but speed.)
//!
//! `chain` is the way of a question through them. No I/O, no clock: what is to be asked is handed out. A reply
//! that is not looked at goes on byte for byte; one that is changed is taken apart (`message`) and
//! written anew.
//!
//! # What differs from CoreDNS
//!
//! - An alias that a template, a record or `rewrite cname` gives is followed as there, to whichever zone answers clients
//!   of the same listener for its name, by that zone's rules; but past its cache, so it is asked again whenever the whole
//!   answer is. Where no zone holds the name, or another one at each of the listeners that share the answer, it is asked
//!   as a name of the zone with the alias.
//! - Names that fields of a template give are in lower case: questions that differ in letter case share one answer.
//! - A client's EDNS options, address and transport are not seen by rules: answers are shared between clients.
//! - What was changed no longer claims to be authentic (AD).
//! - `rewrite rcode` also applies to answers without records (CoreDNS does so since after 1.14), and the
//!   client's question is put back behind `continue` rules too.
//! - dns64 answers the client's question also where it was rewritten (CoreDNS gives back the other name), gives
//!   the A answer's response code, not always NOERROR, and obeys RFC 6147 sections 5.1.4 and 5.5.
//! - Of a template's language only a part is known, see [`template::rendering`]; `rewrite edns0` is refused.

mod chain;
pub mod dns64;
pub mod hosts;
mod message;
pub mod pattern;
mod rdata;
pub mod record;
pub mod records;
pub mod refused;
pub mod rewrite;
pub mod template;
pub mod text;
pub mod zones;

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;

pub use chain::{Begin, End, Pending};
pub use dns64::{Dns64, Prefix};
pub use hosts::{Hosts, Table};
pub use message::shorten;
pub use pattern::Pattern;
pub use records::Records;
pub use refused::Refused;
pub use rewrite::Rewrite;
pub use template::Template;
pub use template::rendering::Rendering;
pub use zones::Zones;

use crate::upstream::Ask;
use message::Message;

/// The rules of one zone, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Tried in their order.
    pub rewrites: Vec<Rewrite>,
    /// Tried in their order.
    pub templates: Vec<Template>,
    /// Records of the configuration's own.
    pub records: Option<Records>,
    /// Hosts entries.
    pub hosts: Option<Hosts>,
    /// Whether AAAA records are made.
    pub dns64: Option<Dns64>,
    /// Nobody is behind the rules: what they do not answer is SERVFAIL.
    pub ends_here: bool,
    /// Somebody is, for some names, all the same: who asks knows for which.
    pub sends_on: bool,
}

impl Settings {
    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether nobody is asked, whatever the name.
    fn ends(&self) -> bool {
        self.ends_here && !self.sends_on
    }

    /// That there are not too many, and that the parts of each template go together.
    ///
    /// # Errors
    /// There are, or they do not.
    pub fn check(&self) -> Result<(), Refused> {
        for (kind, count, limit) in [
            ("rewrite rules", self.rewrites.len(), rewrite::REWRITES),
            ("templates", self.templates.len(), template::TEMPLATES),
        ] {
            if !limit.contains(count) {
                let hint = format!("a zone has at most {}", limit.max);
                return Err(Refused::new(format!("too many {kind}: {count}"), hint));
            }
        }
        self.templates.iter().try_for_each(Template::check)
    }

    /// The rules for a zone whose clients ask over IPv4, over IPv6, or both. Answers are shared between clients,
    /// so dns64 is for all of a zone's clients or for none.
    ///
    /// # Errors
    /// It is to be for some of them.
    pub fn for_clients(&self, v4: bool, v6: bool) -> Result<Self, Refused> {
        let only_v6 = self.dns64.is_some_and(|dns64| !dns64.allow_ipv4);
        match (only_v6 && v4, v6) {
            (false, _) => Ok(self.clone()),
            (true, false) => Ok(Self { dns64: None, ..self.clone() }),
            (true, true) => Err(Refused::new(
                "dns64 without allow_ipv4 in a zone that IPv4 and IPv6 clients share",
                "write allow_ipv4, or give IPv6 clients listeners and zones of their own",
            )),
        }
    }
}

/// What a hosts file said last; `None` until it was read for the first time. All zones that name the file share it.
pub type Shelf = ArcSwapOption<Table>;

/// The rules of one zone at work; shared by all workers.
pub struct Local {
    settings: Settings,
    hosts: Arc<Shelf>,
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Local {
    /// Rules, and a hosts file without entries.
    pub fn new(settings: Settings) -> Arc<Self> {
        Self::with_file(settings, Arc::new(Shelf::from_pointee(Table::default())))
    }

    /// Rules, and where it is seen what their hosts file says. Until it was read, what it might answer ends in SERVFAIL.
    pub fn with_file(settings: Settings, hosts: Arc<Shelf>) -> Arc<Self> {
        Arc::new(Self { settings, hosts })
    }

    /// The rules.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Takes what the hosts file says now.
    pub fn set_hosts(&self, table: Table) {
        self.hosts.store(Some(Arc::new(table)));
    }

    /// What the hosts file said last.
    pub fn hosts_file(&self) -> Option<Arc<Table>> {
        self.hosts.load_full()
    }

    /// Lets a question begin. Its name is in lower case.
    pub fn begin(self: &Arc<Self>, ask: &Ask) -> Begin {
        chain::begin(self, ask)
    }

    /// What the first of them who has something to say does say.
    fn say(&self, ask: &Ask) -> Said {
        let Settings { templates, records, hosts, .. } = &self.settings;
        let templates = templates.iter().map(|template| template.say(ask));
        let records = records.iter().map(|records| records.say(ask));
        let hosts = hosts.iter().map(|hosts| hosts.say(self.hosts.load().as_deref(), ask));
        templates
            .chain(records)
            .chain(hosts)
            .find(|said| !matches!(said, Said::Nothing))
            .unwrap_or(Said::Nothing)
    }
}

/// What a rule says to a question.
enum Said {
    /// Nothing: somebody else is to answer.
    Nothing,
    /// This, and the places of aliases among the answers that are to be followed, with their targets.
    Answer(Message, Vec<(usize, Box<[u8]>)>),
    /// The question ends in SERVFAIL here.
    Failure,
}

#[cfg(test)]
mod tests;
