//! The keys of [elements](super::super::element): tables that stand where a value does.

use super::words::{CLASSES, LEADING_ON, PATHS};
use super::{Keys, UPSTREAMS};
use crate::config::by_name::WrittenByName;
use crate::config::http::WrittenListener;
use crate::config::kinds::{Address, Count, List, Needed, Series, Switch, Time, Word, Written};
use crate::config::local::{self as rules, WrittenHosts, WrittenTemplate};
use crate::config::log::WrittenLog;
use crate::config::next::WrittenNext;
use crate::config::problem::Fault;
use crate::config::target::WrittenTarget;
use crate::limit::Limit;
use crate::local::hosts::{HOSTS_RELOAD, HOSTS_TTL};
use crate::local::{Dns64, template};

/// Names that a rule is for. A network that is no whole number of labels is many reverse zones.
const NAMES: Limit<usize> = Limit::new(0, 1, 4096);
/// Entries of `hosts` that stand in the configuration itself.
const HOSTS_INLINE: Limit<usize> = Limit::new(0, 0, 100_000);
/// Texts of one element: patterns, records, names.
const TEXTS: Limit<usize> = template::TEMPLATE_PARTS;

/// Any text.
fn text() -> Written<String> {
    Written::by("put it in quotes", |text| Ok(text.to_owned()))
}

/// Walks through the keys of an element of `template`.
pub(in crate::config) fn template(t: &mut WrittenTemplate, keys: &mut impl Keys) -> Result<(), Fault> {
    let [answer, authority, additional] = &mut t.sections;
    keys.key("class", &text(), &mut t.class)?;
    keys.key("type", &text(), &mut t.rtype)?;
    keys.key("zones", &Series(text(), NAMES), &mut t.zones)?;
    keys.key("match", &Series(text(), TEXTS), &mut t.patterns)?;
    keys.key("answer", &Series(text(), TEXTS), answer)?;
    keys.key("authority", &Series(text(), TEXTS), authority)?;
    keys.key("additional", &Series(text(), TEXTS), additional)?;
    keys.key("rcode", &text(), &mut t.rcode)?;
    keys.key("error", &text(), &mut t.error)?;
    keys.key("fallthrough", &Series(text(), NAMES), &mut t.fallthrough)
}

/// Walks through the keys of `hosts`.
pub(in crate::config) fn hosts(h: &mut WrittenHosts, keys: &mut impl Keys) -> Result<(), Fault> {
    keys.key("zones", &Series(text(), NAMES), &mut h.zones)?;
    keys.key("file", &text(), &mut h.file)?;
    keys.key("reload", &Time(HOSTS_RELOAD), &mut h.reload)?;
    keys.key("entries", &Series(text(), HOSTS_INLINE), &mut h.entries)?;
    keys.key("ttl", &Count(HOSTS_TTL), &mut h.ttl)?;
    keys.key("reverse", &Switch, &mut h.reverse)?;
    keys.key("fallthrough", &Series(text(), NAMES), &mut h.fallthrough)
}

/// Walks through the keys of an element of `log`.
pub(in crate::config) fn log(l: &mut WrittenLog, keys: &mut impl Keys) -> Result<(), Fault> {
    keys.key("names", &Series(text(), NAMES), &mut l.names)?;
    keys.key("format", &text(), &mut l.format)?;
    keys.key("classes", &List(Word(CLASSES), Limit::new(1, 1, CLASSES.len())), &mut l.classes)
}

/// Walks through the keys of `dns64`.
pub(in crate::config) fn dns64(d: &mut Dns64, keys: &mut impl Keys) -> Result<(), Fault> {
    let prefix = Written::by("write it like \"64:ff9b::/96\"", rules::parse_prefix);
    keys.key("prefix", &prefix, &mut d.prefix)?;
    keys.key("allow_ipv4", &Switch, &mut d.allow_ipv4)?;
    keys.key("translate_all", &Switch, &mut d.translate_all)
}

/// Walks through the keys of an element of `by_name`.
pub(in crate::config) fn by_name(b: &mut WrittenByName, keys: &mut impl Keys) -> Result<(), Fault> {
    let target = Written::<WrittenTarget>::like("write it like \"tcp://10.96.0.10\"");
    keys.key("names", &Series(text(), NAMES), &mut b.names)?;
    keys.key("except", &Series(text(), NAMES), &mut b.except)?;
    keys.key("upstreams", &List(target, Limit::new(0, 0, UPSTREAMS.max)), &mut b.upstreams)
}

/// Walks through the keys of an element of `next`.
pub(in crate::config) fn next(n: &mut WrittenNext, keys: &mut impl Keys) -> Result<(), Fault> {
    let target = Written::<WrittenTarget>::like("write it like \"tcp://10.96.0.10\"");
    keys.key("on", &List(Word(LEADING_ON), Limit::new(1, 1, LEADING_ON.len())), &mut n.on)?;
    keys.key("upstreams", &List(target, UPSTREAMS), &mut n.upstreams)
}

/// Walks through the keys of an element of `http.serve`.
pub(in crate::config) fn http_listener(l: &mut WrittenListener, keys: &mut impl Keys) -> Result<(), Fault> {
    keys.key("address", &Needed(Address), &mut l.address)?;
    keys.key("paths", &List(Word(PATHS), Limit::new(1, PATHS.len(), PATHS.len())), &mut l.paths)
}
