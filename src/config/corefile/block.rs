//! A block: what its lines say, and the zones that it becomes.
//!
//! A block is a function from names to behaviour that changes only at certain names: its keys, and the names that
//! `forward`, `except`, `cache` and `disable` are for. Each of them, with all names below it that are not below another
//! one, is a zone of ours with settings of its own; all of them answer on the block's listeners.
//!
//! A zone that no `forward` is for asks nobody: its hosts, templates and rewrites answer, and what they do not ends in
//! SERVFAIL, as where a chain of plugins ends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::cache::{self, Cached};
use super::forward::{self, Forward};
use super::plugins::{self, Context};
use super::tell::{Teller, spot};
use super::words::names;
use crate::config::Config;
use crate::config::by_name::WrittenByName;
use crate::config::keys::NEXT;
use crate::config::kinds::Places;
use crate::config::name::ZoneName;
use crate::config::problem;
use crate::config::zone::WrittenZone;
use crate::corefile::{Block, Fault, Key, Place, Token, Transport};
use crate::local::{self, Rewrite};
use crate::resolve::log::Rule;
use crate::wire::name::within;

/// What the lines of a block say.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// `bind`; `None`: every address of the machine.
    pub bind: Option<Vec<(IpAddr, Place)>>,
    /// `cache`
    pub cache: Option<Cached>,
    /// Each `forward`.
    pub forwards: Vec<Forward>,
    /// `loadbalance`
    pub rotate: bool,
    /// `hosts`, `rewrite`, `template`, `dns64`
    pub local: local::Settings,
    /// Each `log`.
    pub log: Vec<Rule>,
    /// `dns64`
    pub dns64_at: Option<Token>,
}

/// What holds for all blocks.
#[derive(Debug)]
pub(super) struct Whole {
    /// All but the zones.
    pub config: Config,
    /// The first word that says something of a key.
    pub places: Places,
    /// All CAPACITYs that are written, in entries.
    pub capacity: u64,
    /// `bufsize`
    pub udp_size: Option<u16>,
    /// `timeouts idle`
    pub tcp_idle: Option<Duration>,
}

impl Whole {
    /// The defaults.
    pub fn new() -> Self {
        let mut config = Config::bare();
        config.listen.addresses.clear();
        Self { config, places: Places::new(), capacity: 0, udp_size: None, tcp_idle: None }
    }

    /// Takes down where a key is said: the first word counts.
    pub fn place(&mut self, key: &str, at: &Place) {
        self.places.entry(key.to_owned()).or_insert_with(|| problem::Place::Corefile(spot(at)));
    }

    /// The same of one address of a list.
    pub fn place_of(&mut self, key: &str, address: SocketAddr, at: &Place) {
        self.place(key, at);
        self.place(&super::of_list(key, address), at);
    }
}

/// A zone, and where it comes from.
pub(super) struct Made {
    /// It.
    pub zone: WrittenZone,
    /// The key of its block.
    pub key: Place,
    /// Its `forward`.
    pub forward: Option<Place>,
}

/// Reads a block, and makes its zones.
pub(super) fn read(
    block: &Block,
    port: u16,
    whole: &mut Whole,
    tell: &mut Teller,
) -> Result<Vec<Made>, Fault> {
    let keys = keys(block, tell)?;
    let zones: Vec<ZoneName> = keys.iter().flat_map(|(_, names)| names.clone()).collect();
    let mut said = Said::default();
    plugins::read(&block.directives, &mut Context { zones: &zones, said: &mut said, whole, tell })?;
    forward::check_next(&said.forwards, tell);
    let mut made = Vec::new();
    for (key, zones) in &keys {
        let listen = listeners(&said, key, port, whole);
        for zone in zones {
            said.make(zone, &listen, key, &mut made, tell)?;
        }
    }
    said.tell(&zones, &made, tell);
    share(&mut made);
    Ok(made)
}

/// The keys that are for clients who ask as ours do.
fn keys<'b>(block: &'b Block, tell: &mut Teller) -> Result<Vec<(&'b Key, Vec<ZoneName>)>, Fault> {
    let mut keys = Vec::new();
    for key in &block.keys {
        if key.transport == Transport::Dns {
            keys.push((key, names(key)?));
            continue;
        }
        let what = format!("`{}`: clients ask over plain UDP and TCP only", problem::shown(&key.token.text));
        tell.vain(&key.token.at, what, "leave the key out, or write it without its scheme")?;
    }
    Ok(keys)
}

/// Where a key's names are answered. They go into the list of all listeners too.
fn listeners(said: &Said, key: &Key, port: u16, whole: &mut Whole) -> Vec<SocketAddr> {
    let everywhere = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let everywhere = || everywhere.map(|address: IpAddr| (address, key.token.at.clone())).to_vec();
    let bind = said.bind.clone().unwrap_or_else(everywhere);
    let mut listen = Vec::new();
    for (address, at) in bind {
        let address = SocketAddr::new(address, key.port.unwrap_or(port));
        whole.place_of("listen.addresses", address, &at);
        if !whole.config.listen.addresses.contains(&address) {
            whole.config.listen.addresses.push(address);
        }
        listen.push(address);
    }
    listen
}

impl Said {
    /// The names below `zone` where something changes, itself first.
    fn names(&self, zone: &ZoneName) -> Vec<ZoneName> {
        let forwards = self.forwards.iter().flat_map(|f| f.except.iter().chain([&f.from]));
        let caches = self.cache.iter().flat_map(|c| c.zones.iter().chain(c.disabled.iter().flatten()));
        let mut names = vec![zone.clone()];
        for name in forwards.chain(caches) {
            if within(name.wire(), zone.wire()) && !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }

    /// The zones that a key's zone becomes.
    fn make(
        &self,
        zone: &ZoneName,
        listen: &[SocketAddr],
        key: &Key,
        made: &mut Vec<Made>,
        tell: &mut Teller,
    ) -> Result<(), Fault> {
        for name in self.names(zone) {
            let whole = self.zone(&name);
            for (local, listen) in self.by_family(listen, tell)? {
                let forward = self.forward(&name);
                let ends_here = forward.is_none();
                let zone =
                    WrittenZone { listen, local: local::Settings { ends_here, ..local }, ..whole.clone() };
                made.push(Made {
                    zone,
                    key: key.token.at.clone(),
                    forward: forward.map(|forward| forward.at.at.clone()),
                });
            }
        }
        Ok(())
    }

    /// Who is asked for a name, and for those below it where nothing changes.
    fn forward(&self, name: &ZoneName) -> Option<&Forward> {
        self.forwards.iter().find(|forward| forward.takes(|zone| within(name.wire(), zone.wire())))
    }

    /// What holds for a name, and for those below it where nothing changes. The listeners and rules are still to come.
    fn zone(&self, name: &ZoneName) -> WrittenZone {
        let below = |zone: &ZoneName| within(name.wire(), zone.wire());
        let (rules, times) = self.cache.as_ref().map_or_else(cache::nothing, |cache| cache.over(below));
        let rules = crate::cache::Rules { rotate: self.rotate, ..rules };
        let log = self.log.clone();
        let zone = WrittenZone { rules, times, log, ..WrittenZone::named(name.clone()) };
        let mut forwards = self.forwards.iter().filter(|forward| forward.takes(below));
        let own = forwards.next();
        let zone = WrittenZone { by_name: self.by_name(own), ..zone };
        let Some(forward) = own else { return zone };
        let (mut next, mut on) = (Vec::new(), &forward.next);
        for forward in forwards {
            if on.is_empty() || next.len() == NEXT.max {
                break;
            }
            next.push(forward.as_next(on));
            on = &forward.next;
        }
        WrittenZone {
            upstreams: forward.upstreams.clone(),
            transport: Some(forward.transport),
            asking: forward.asking.clone(),
            next,
            ..zone
        }
    }

    /// Each `forward` of the block, by the names that it is for: what `rewrite` makes of a name of this zone may be for
    /// another one than the zone's `own`. Nothing where it can be for that one alone.
    fn by_name(&self, own: Option<&Forward>) -> Vec<WrittenByName> {
        if !self.renames() {
            return Vec::new();
        }
        let all =
            self.forwards.iter().position(|forward| forward.from.is_root() && forward.except.is_empty());
        let heard_of = &self.forwards[..all.map_or(self.forwards.len(), |last| last + 1)];
        let is_own = |forward: &Forward| own.is_some_and(|own| std::ptr::eq(own, forward));
        // Who is asked where none of these takes the name, need not be the last of them.
        let others = heard_of.iter().rposition(|forward| !is_own(forward)).map_or(0, |last| last + 1);
        heard_of[..others].iter().map(|forward| forward.by_name(is_own(forward))).collect()
    }

    /// Whether a rule makes other names.
    fn renames(&self) -> bool {
        self.local.rewrites.iter().any(Rewrite::renames)
    }

    /// The rules for the clients of some listeners. dns64 is for clients that ask over IPv6, unless it says more, and
    /// answers are shared between the clients of a zone: so each family has a zone of its own.
    fn by_family(
        &self,
        listen: &[SocketAddr],
        tell: &mut Teller,
    ) -> Result<Vec<(local::Settings, Vec<SocketAddr>)>, Fault> {
        let Some(at) = self.dns64_at.as_ref() else { return Ok(vec![(self.local.clone(), listen.to_vec())]) };
        let only_v6 = self.local.dns64.is_some_and(|dns64| !dns64.allow_ipv4);
        if !only_v6 {
            return Ok(vec![(self.local.clone(), listen.to_vec())]);
        }
        let (v4, v6): (Vec<_>, Vec<_>) = listen.iter().copied().partition(SocketAddr::is_ipv4);
        if v6.is_empty() {
            let what = "this block answers over IPv4 only, and `dns64` is for clients that ask over IPv6";
            tell.vain(&at.at, what, "add `allow_ipv4`, or an IPv6 address to `bind`")?;
        }
        let mut families = Vec::new();
        for (listen, is_v6) in [(v4, false), (v6, true)] {
            if !listen.is_empty() {
                let local = self.local.for_clients(!is_v6, is_v6);
                let local = local.map_err(|r| Fault::new(at.at.clone(), r.what, r.hint))?;
                families.push((local, listen));
            }
        }
        Ok(families)
    }

    /// Tells of what may not be meant.
    fn tell(&self, zones: &[ZoneName], made: &[Made], tell: &mut Teller) {
        for forward in &self.forwards {
            let from = forward.from.wire();
            let heard_of = zones.iter().any(|zone| within(from, zone.wire()) || within(zone.wire(), from));
            if !heard_of && !self.renames() {
                let what = format!("no name of this block is below `{}`", forward.from);
                tell.note(&forward.at.at, what);
            }
        }
        let local = &self.local;
        let answers = !self.forwards.is_empty() || local.hosts.is_some() || !local.templates.is_empty();
        if let Some(first) = made.first().filter(|_| !answers) {
            let what = "this block has no `forward`, nor data of its own: what it is asked ends in SERVFAIL";
            tell.note(&first.key, what);
        }
        let mut by_name = made.iter().filter(|made| !made.zone.by_name.is_empty());
        if by_name.any(|made| self.forwards.iter().any(|forward| forward.asking != made.zone.asking)) {
            for forward in &self.forwards {
                let what = "what `rewrite` makes for its names is asked as the client's own name would be";
                tell.note(&forward.at.at, what);
            }
        }
    }
}

/// Divides the block's shares of the cache among its zones.
fn share(made: &mut [Made]) {
    let zones = u32::try_from(made.len()).unwrap_or(u32::MAX).max(1);
    for Made { zone, .. } in made {
        let share = &mut zone.rules.share;
        for share in [&mut share.positive, &mut share.negative] {
            *share = share.map(|entries| (entries / zones).max(1));
        }
    }
}
