//! From a Corefile to settings: the same [`Written`] that a TOML file gives, so that flags and rules hold for both.
//!
//! ```text
//! text > pillar > corefile tree > for each block: plugins (a table of readers) > Said > zones > Written
//! ```
//!
//! [`plugins`] says who reads which line; [`block`] how a block becomes zones. What CoreDNS does by default holds here by
//! default, and not what a file in TOML gives: each reader's module doc says where we differ, and why.
//!
//! - What no block holds is REFUSED, as CoreDNS does it: zone `.` is not added as it is for TOML.
//! - What cannot be honoured is an error with its place. The lenient get a [`Note`] and the nearest that can be.
//! - Files are watched and read again also without `reload`.
//! - The cache is as large as all CAPACITYs together take, 512 bytes each, and 32 MiB at least.

mod block;
mod cache;
mod foreign;
mod forward;
mod local;
mod log;
mod pages;
mod plain;
mod plugins;
mod server;
mod tell;
mod words;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use super::file::Written;
use super::problem::{self, Note, Problem};
use crate::cache as store;
use crate::corefile::pillar::{self, Variables};
use crate::corefile::{self, Corefile, Fault, Place, Surroundings};
use block::{Made, Whole};
pub use plugins::names;
use tell::{Teller, spot};

/// Bytes that an answer takes in the cache, about.
const ENTRY: u64 = 512;

/// What is known besides the text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Around {
    /// What cannot be honoured is a [`Note`] instead of an error.
    pub lenient: bool,
    /// The port of blocks that name none.
    pub port: u16,
    /// What is filled into a base file of node-cache; `None` for a Corefile that is read as it is.
    pub node: Option<Filling>,
}

/// What node-cache's variables stand for, and what it puts below the base file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filling {
    /// `__PILLAR__LOCAL__DNS__`; `__PILLAR__DNS__SERVER__` is nothing, as all addresses are here.
    pub local: Vec<IpAddr>,
    /// `__PILLAR__CLUSTER__DNS__`. `None`: the text does not use it.
    pub cluster: Option<IpAddr>,
    /// `__PILLAR__UPSTREAM__SERVERS__`: words that `forward` takes, addresses or the path of a resolv.conf.
    pub upstreams: String,
    /// `__PROMETHEUS__ENDPOINT__`
    pub prometheus: String,
    /// The blocks of stub domains.
    pub stubs: Option<Stubs>,
}

/// Blocks of our own making, to be read after the base file's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stubs {
    /// The file that asks for them, for messages: its lines are not those of `text`.
    pub origin: PathBuf,
    /// Server blocks, without variables.
    pub text: String,
}

/// What a Corefile says.
pub(super) struct Read {
    /// Everything that TOML could say too. `listen.addresses` is what its blocks bind.
    pub written: Written,
    /// What is to be told besides.
    pub notes: Vec<Note>,
    /// Files that were imported, and folders that were looked through for them.
    pub files: Vec<PathBuf>,
    /// The text with its variables filled in and the stub domains below it: what node-cache would have written.
    pub text: String,
}

/// Reads a Corefile's text; `origin` is its file, in whose folder imports are looked for on this `disk`.
pub(super) fn read(
    text: &str,
    origin: &Path,
    around: &Around,
    disk: &dyn Surroundings,
) -> Result<Read, Problem> {
    let fail = |fault: Fault| tell::problem(&fault, origin, text);
    let (mut tree, mut filled) = parse(text, origin, around, disk).map_err(fail)?;
    let stubs = around.node.as_ref().and_then(|filling| filling.stubs.as_ref());
    if let Some(stubs) = stubs {
        let more = corefile::parse(&stubs.text, &stubs.origin, disk)
            .map_err(|fault| tell::problem(&fault, &stubs.origin, &stubs.text))?;
        tree.blocks.extend(more.blocks);
        filled.push_str(&stubs.text);
    }
    let mut tell = Teller::new(around.lenient);
    for note in &tree.notes {
        tell.note(&note.at, format!("{}; {}", note.what, note.hint));
    }
    let unset = |fault: Fault| fail(noted(&tree.notes, fault));
    let written = translate(&tree, around.port, &mut tell).map_err(unset)?;
    let files = [tree.files, tree.folders].concat();
    Ok(Read { written, notes: tell.notes(), files, text: filled })
}

/// The tree, and the text that it was read from.
fn parse(
    text: &str,
    origin: &Path,
    around: &Around,
    disk: &dyn Surroundings,
) -> Result<(Corefile, String), Fault> {
    let Some(filling) = &around.node else {
        pillar::is_filled(text, origin)?;
        return Ok((corefile::parse(text, origin, disk)?, text.to_owned()));
    };
    let words = |addresses: &[IpAddr]| addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" ");
    let variables = Variables {
        domain: None,
        local: Some(words(&filling.local)),
        server: String::new(),
        cluster: filling.cluster.map(|address| address.to_string()),
        upstreams: Some(filling.upstreams.clone()),
        prometheus: Some(filling.prometheus.clone()),
    };
    let filled = pillar::fill(text, origin, &variables)?;
    Ok((corefile::parse_filled(&filled, origin, disk)?, filled.text().to_owned()))
}

/// The blocks as settings.
fn translate(tree: &Corefile, port: u16, tell: &mut Teller) -> Result<Written, Fault> {
    let mut whole = Whole::new();
    let mut made = Vec::new();
    for block in &tree.blocks {
        made.extend(block::read(block, port, &mut whole, tell)?);
    }
    unheard(&made, tell);
    let Whole { mut config, mut places, capacity, udp_size, tcp_idle } = whole;
    config.listen.udp_size = udp_size.unwrap_or(config.listen.udp_size);
    config.listen.tcp_idle = tcp_idle.unwrap_or(config.listen.tcp_idle);
    config.cache.size = size(capacity);
    config.refuse_others = true;
    let mut zones = Vec::new();
    for (index, Made { mut zone, key, forward }) in made.into_iter().enumerate() {
        if config.listen.addresses.iter().all(|address| zone.listen.contains(address)) {
            zone.listen.clear();
        }
        let mut place = |name: &str, at: &Place| {
            places.insert(format!("zone[{index}]{name}"), problem::Place::Corefile(spot(at)));
        };
        for name in ["", ".name", ".listen"] {
            place(name, &key);
        }
        place(".upstreams", forward.as_ref().unwrap_or(&key));
        zones.push(zone);
    }
    Ok(Written { config, zones, places })
}

/// A fault of a word about which there is a note: a variable that is not set is likelier what is wrong than what it leaves.
fn noted(notes: &[Fault], fault: Fault) -> Fault {
    match notes.iter().find(|note| note.at == fault.at) {
        Some(note) => {
            Fault { what: format!("{}: {}", note.what, fault.what), hint: note.hint.clone(), ..fault }
        }
        None => fault,
    }
}

/// The name of one address's place in a list.
pub(super) fn of_list(key: &str, address: SocketAddr) -> String {
    format!("{key} {address}")
}

/// Tells of blocks without `bind` beside blocks with it: who asks an address that is bound hears nothing of them.
fn unheard(made: &[Made], tell: &mut Teller) {
    let port = |made: &Made| made.zone.listen.first().map(SocketAddr::port);
    let everywhere = |made: &Made| made.zone.listen.iter().all(|address| address.ip().is_unspecified());
    for here in made.iter().filter(|here| everywhere(here)) {
        let bound = |other: &Made| !everywhere(other) && port(other) == port(here);
        if let Some(other) = made.iter().find(|other| bound(other)) {
            let address = other.zone.listen.first().map(SocketAddr::to_string).unwrap_or_default();
            let what =
                format!("this block binds no address of its own: who asks {address} hears nothing of it");
            tell.note(&here.key, what);
        }
    }
}

/// A cache for as many entries as CAPACITYs ask for, and not less than by default.
fn size(entries: u64) -> u64 {
    let size = entries.saturating_mul(ENTRY).next_multiple_of(1 << 20);
    size.clamp(store::SIZE.default, store::SIZE.max)
}
