//! `cache [TTL] [ZONES...]`, and what holds where it is missing.
//!
//! TTLs are capped and floored as CoreDNS does it: at most an hour, NXDOMAIN and NODATA half an hour, at least five
//! seconds. Nothing is refreshed ahead of its expiry unless `prefetch` says so.
//!
//! # What differs
//!
//! - Expired answers are served for an hour when no fresh one can be had (RFC 8767), also without `serve_stale`: what
//!   users of a node-local cache suffer from is that it goes down together with CoreDNS. `serve_stale 0s` turns it off.
//!   They have the TTL that `cache.stale_ttl` says, with `serve_stale` a second where CoreDNS gives 0.
//! - `serve_stale verify` does not wait for an upstream longer than `cache.stale_after` (1.8 s) unless it says how long.
//! - A failure is remembered for a second at first and for `servfail` (5 s) at most, so it never hides good data for longer.
//! - The CAPACITYs make no caches of their own: all blocks share one. One that is written is a soft share of it, divided
//!   evenly among the zones that the block becomes, and their sum makes the cache as large as it takes.

use std::time::Duration;

use super::plugins::Context;
use super::words::{Words, body, duration, near, number, seconds, unknown, zones};
use crate::cache::{Rules, prefetch, share, ttl};
use crate::config::name::ZoneName;
use crate::config::node_cache::go_duration;
use crate::config::problem::shown;
use crate::corefile::{Directive, Fault, Token};
use crate::resolve::{self, OwnTimes, times};

/// The least that CoreDNS caches an answer for, and the most that it remembers a failure for.
const FIVE_SECONDS: Duration = Duration::from_secs(5);
/// How long expired answers are served: what `serve_stale` means without a number.
const STALE_FOR: Duration = Duration::from_secs(3600);
/// CoreDNS serves them with a TTL of 0, which RFC 8767 section 4 advises against.
const STALE_TTL: Duration = Duration::from_secs(1);
/// `prefetch` without a duration.
const PREFETCH_GAP: Duration = Duration::from_secs(60);
/// `servfail` may not be more (RFC 9520 section 3.2).
const SERVFAIL_MAX: Duration = Duration::from_secs(300);

const OPTIONS: [&str; 7] = ["success", "denial", "prefetch", "serve_stale", "servfail", "disable", "keepttl"];

/// What `cache` says.
#[derive(Clone, Debug)]
pub(super) struct Cached {
    /// Names outside of these are not cached; none is all of the block.
    pub zones: Vec<ZoneName>,
    /// Where answers, and where NXDOMAIN and NODATA are not.
    pub disabled: [Vec<ZoneName>; 2],
    rules: Rules,
    times: OwnTimes,
}

impl Default for Cached {
    fn default() -> Self {
        let rules = Rules {
            ttl_min: FIVE_SECONDS,
            negative_ttl_min: FIVE_SECONDS,
            stale_for: STALE_FOR,
            prefetch: prefetch::Prefetch { hits: 0, ..prefetch::Prefetch::default() },
            ..Rules::default()
        };
        let times = OwnTimes { failure_ttl_max: Some(FIVE_SECONDS), ..OwnTimes::default() };
        Self { zones: Vec::new(), disabled: Default::default(), rules, times }
    }
}

impl Cached {
    /// What holds for names that lie in `within` and in no zone longer than those that were named.
    pub fn over(&self, within: impl Fn(&ZoneName) -> bool) -> (Rules, OwnTimes) {
        if !self.zones.is_empty() && !self.zones.iter().any(&within) {
            return nothing();
        }
        let [positive, negative] = self.disabled.each_ref().map(|zones| !zones.iter().any(&within));
        // A floor above its cap would be refused; CoreDNS lets the cap win.
        let rules = Rules {
            cache_positive: positive,
            cache_negative: negative,
            ttl_min: self.rules.ttl_min.min(self.rules.ttl_max),
            negative_ttl_min: self.rules.negative_ttl_min.min(self.rules.negative_ttl_max),
            ..self.rules.clone()
        };
        (rules, self.times)
    }
}

/// What holds without `cache`: nothing is kept, no TTL is changed, no failure is remembered.
pub(super) fn nothing() -> (Rules, OwnTimes) {
    let rules = Rules {
        ttl_max: ttl::TTL_MAX.max,
        negative_ttl_max: ttl::NEGATIVE_TTL_MAX.max,
        stale_for: Duration::ZERO,
        cache_positive: false,
        cache_negative: false,
        ..Cached::default().rules
    };
    let rules = Rules { ttl_min: Duration::ZERO, negative_ttl_min: Duration::ZERO, ..rules };
    (rules, OwnTimes { failure_ttl: Some(Duration::ZERO), ..OwnTimes::default() })
}

/// Reads the directive.
pub(super) fn read(line: &Directive, context: &mut Context<'_>) -> Result<(), Fault> {
    let mut cached = Cached::default();
    let mut words = line.arguments.as_slice();
    if let Some((first, rest)) = words.split_first().filter(|(first, _)| first.text.parse::<i64>().is_ok()) {
        let ttl = context.tell.seconds(first, seconds(first)?, ttl::TTL_MAX)?;
        cached.rules.ttl_max = ttl;
        cached.rules.negative_ttl_max = ttl;
        words = rest;
    }
    cached.zones = cached_zones(words, context)?;
    for line in body(line) {
        option(line, &mut cached, context)?;
    }
    context.said.cache = Some(cached);
    Ok(())
}

/// The zones that are cached. CoreDNS lets a TTL with a unit pass for one, and caches nothing then.
fn cached_zones(words: &[Token], context: &mut Context<'_>) -> Result<Vec<ZoneName>, Fault> {
    for word in words {
        if let Some(time) = go_duration(&word.text).filter(|_| !word.text.is_empty()) {
            let (zone, seconds) = (shown(&word.text), time.as_secs().max(1));
            let what = format!(
                "`{zone}` is taken for a zone, as CoreDNS does: only names below it are cached; a TTL has no unit: \
                 cache {seconds}"
            );
            context.tell.note(&word.at, what);
        }
    }
    zones(words)
}

fn option(line: &Directive, cached: &mut Cached, context: &mut Context<'_>) -> Result<(), Fault> {
    let mut words = Words::of(line);
    match line.name.text.as_str() {
        "success" => {
            let Part { share, ttl, floor } = part(&mut words, context)?;
            cached.rules.share.positive = share;
            cached.rules.ttl_max = ttl.unwrap_or(cached.rules.ttl_max);
            cached.rules.ttl_min = floor.unwrap_or(cached.rules.ttl_min);
        }
        "denial" => {
            let Part { share, ttl, floor } = part(&mut words, context)?;
            cached.rules.share.negative = share;
            cached.rules.negative_ttl_max = ttl.unwrap_or(cached.rules.negative_ttl_max);
            cached.rules.negative_ttl_min = floor.unwrap_or(cached.rules.negative_ttl_min);
        }
        "prefetch" => prefetched(&mut words, &mut cached.rules.prefetch, context)?,
        "serve_stale" => serve_stale(&mut words, cached, context)?,
        "servfail" => servfail(words.need("a duration")?, &mut cached.times)?,
        "disable" => disable(&mut words, cached)?,
        "keepttl" => cached.rules.keep_ttl = true,
        _ => return unknown(line, "cache", &OPTIONS),
    }
    words.end()
}

/// A cache of one kind of answers.
struct Part {
    share: Option<u32>,
    ttl: Option<Duration>,
    floor: Option<Duration>,
}

/// `CAPACITY [TTL [MINTTL]]`
fn part(words: &mut Words<'_>, context: &mut Context<'_>) -> Result<Part, Fault> {
    let word = words.need("its capacity")?;
    let entries: u32 = number(word)?;
    context.whole.place("cache.size", &word.at);
    context.whole.capacity = context.whole.capacity.saturating_add(entries.into());
    let share = (entries > 0).then_some(entries.min(share::SHARE.max));
    let mut part = Part { share, ttl: None, floor: None };
    if let Some(word) = words.next() {
        part.ttl = Some(context.tell.seconds(word, seconds(word)?, ttl::TTL_MAX)?);
    }
    if let Some(word) = words.next() {
        let floor = Duration::from_secs(number::<u32>(word)?.into());
        part.floor = Some(context.tell.seconds(word, floor, ttl::TTL_MIN)?);
    }
    Ok(part)
}

/// `AMOUNT [DURATION [PERCENT%]]`
fn prefetched(
    words: &mut Words<'_>,
    prefetch: &mut prefetch::Prefetch,
    context: &mut Context<'_>,
) -> Result<(), Fault> {
    let word = words.need("how often a name is asked for")?;
    let amount: u64 = number(word)?;
    let hits = u64::from(prefetch::HITS.max).min(amount);
    if hits < amount {
        context.tell.vain(&word.at, "uses are counted up to 65535", "give 0 to 65535")?;
    }
    prefetch.hits = hits as u16;
    prefetch.gap = Some(PREFETCH_GAP);
    if let Some(word) = words.next() {
        let gap = context.tell.time(word, duration(word)?, prefetch::GAP)?;
        // Uses are told apart by the second.
        prefetch.gap = Some(Duration::from_secs(gap.as_millis().div_ceil(1000) as u64));
    }
    if let Some(word) = words.next() {
        let limits = prefetch::PERCENT;
        let percent = word.text.strip_suffix('%').and_then(|digits| digits.parse().ok());
        let percent = percent.filter(|percent| limits.contains(*percent)).ok_or_else(|| {
            let what = format!("`{}` is no share of a TTL", shown(&word.text));
            Fault::new(word.at.clone(), what, "give 10% to 90%")
        })?;
        prefetch.percent = percent;
    }
    Ok(())
}

/// `[DURATION [immediate|verify [TIMEOUT]]]`
fn serve_stale(words: &mut Words<'_>, cached: &mut Cached, context: &mut Context<'_>) -> Result<(), Fault> {
    let for_long = match words.next() {
        None => STALE_FOR,
        Some(word) => context.tell.time(word, duration(word)?, ttl::STALE_FOR)?,
    };
    cached.rules.stale_for = Duration::from_secs(for_long.as_millis().div_ceil(1000) as u64);
    cached.times.stale_ttl = Some(STALE_TTL);
    cached.times.stale_after = Some(Duration::ZERO);
    let Some(mode) = words.next() else { return Ok(()) };
    match mode.text.to_ascii_lowercase().as_str() {
        "immediate" => return Ok(()),
        "verify" => cached.times.stale_after = None,
        _ => {
            let what = format!("unknown way to serve stale answers `{}`", shown(&mode.text));
            return Err(near(mode, what, &["immediate", "verify"]));
        }
    }
    if let Some(word) = words.next() {
        let timeout = duration(word)?;
        // Zero is "no timeout" there.
        if !timeout.is_zero() {
            let limit = crate::limit::Limit { min: Duration::from_millis(1), ..resolve::STALE_AFTER };
            cached.times.stale_after = Some(context.tell.time(word, timeout, limit)?);
        }
    }
    Ok(())
}

fn servfail(word: &Token, times: &mut OwnTimes) -> Result<(), Fault> {
    let time = duration(word)?;
    if time > SERVFAIL_MAX.min(times::ZONE_FAILURE_TTL.max) {
        let what = format!("`{}` is too long for a failure", shown(&word.text));
        return Err(Fault::new(word.at.clone(), what, "give 5m at most"));
    }
    times.failure_ttl = time.is_zero().then_some(time);
    times.failure_ttl_max = (!time.is_zero()).then_some(time.max(resolve::FAILURE_TTL_MAX.min));
    Ok(())
}

/// `success|denial [ZONES...]`
fn disable(words: &mut Words<'_>, cached: &mut Cached) -> Result<(), Fault> {
    let kind = words.need("`success` or `denial`")?;
    let place = match kind.text.as_str() {
        "success" => 0,
        "denial" => 1,
        text => {
            let what = format!("unknown kind of answers `{}`", shown(text));
            return Err(near(kind, what, &["success", "denial"]));
        }
    };
    let zones = zones(words.rest())?;
    cached.disabled[place] = if zones.is_empty() { vec![ZoneName::root()] } else { zones };
    Ok(())
}
