//! What is still missing before clients should be sent here: the state behind `/ready`.
//!
//! Two things must have happened. Every listener is bound; and for each zone that asks anybody some upstream has answered an
//! SOA query for the zone, with any response code, once. Once is enough: a node whose upstreams go away later
//! still answers from its cache, and taking it out of service would only make things worse.
//!
//! Pure state: the supervisor asks the upstreams, and tells what it heard.

use crate::resolve::Zone;

/// What has happened since start.
#[derive(Debug, Default)]
pub struct Readiness {
    /// Whether every listener is bound.
    bound: bool,
    /// The zones of the running configuration, in its order.
    zones: Vec<ZoneState>,
}

/// One zone of the running configuration.
#[derive(Debug)]
struct ZoneState {
    /// [`Zone::id`]: another one after a reload means other upstreams.
    id: u32,
    /// [`Zone::title`].
    title: String,
    /// Whether anybody is left to ask: servers that ask us in turn are left out.
    served: bool,
    /// Whether an upstream has answered for it.
    answered: bool,
}

impl Readiness {
    /// Nothing bound, nobody has answered.
    pub fn new(zones: &[Zone]) -> Self {
        let mut new = Self::default();
        new.reload(zones);
        new
    }

    /// Takes over the zones of a new configuration. A zone that kept its identity (its name and upstreams)
    /// keeps what is known of it; the others must be answered for anew.
    pub fn reload(&mut self, zones: &[Zone]) {
        let known: Vec<u32> = self.zones.iter().filter(|z| z.answered).map(|z| z.id).collect();
        self.zones = zones
            .iter()
            .map(|z| ZoneState {
                id: z.id,
                title: z.title(),
                served: !z.servers.is_empty() || !z.pods.is_empty(),
                answered: known.contains(&z.id) || z.asks_nobody(),
            })
            .collect();
    }

    /// Every listener is bound.
    pub fn bound(&mut self) {
        self.bound = true;
    }

    /// An upstream has answered the SOA query for the zone with this [`Zone::id`]. One that a reload has
    /// taken away meanwhile is ignored.
    pub fn answered(&mut self, zone: u32) {
        for z in self.zones.iter_mut().filter(|z| z.id == zone) {
            z.answered = true;
        }
    }

    /// What was heard of this zone does not count any more.
    pub fn forget(&mut self, zone: u32) {
        for z in self.zones.iter_mut().filter(|z| z.id == zone) {
            z.answered = false;
        }
    }

    /// The [`Zone::id`]s nobody has answered for yet: those to ask about.
    pub fn unanswered(&self) -> impl Iterator<Item = u32> {
        self.zones.iter().filter(|z| !z.answered).map(|z| z.id)
    }

    /// Ready, or why not yet, a reason a line.
    pub fn status(&self) -> Result<(), Vec<String>> {
        let mut reasons = Vec::new();
        if !self.bound {
            reasons.push("not every listener is bound yet".to_owned());
        }
        for zone in self.zones.iter().filter(|z| !z.answered) {
            let why = if zone.served {
                "no upstream has answered an SOA query for the zone yet"
            } else {
                "every upstream sends our own questions back to us and is left out; the log names the remedy"
            };
            reasons.push(format!("zone {}: {why}", zone.title));
        }
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    fn zone(id: u32, display: &str) -> Zone {
        Zone { id, display: display.to_owned(), servers: vec![0], ..Zone::default() }
    }

    #[test]
    fn ready_when_bound_and_every_zone_answered() {
        let mut r = Readiness::new(&[zone(1, "cluster.local."), zone(2, ".")]);
        assert_eq!(r.status().unwrap_err().len(), 3);
        r.bound();
        r.answered(2);
        let reasons = r.status().unwrap_err();
        assert_eq!(reasons.len(), 1);
        assert!(reasons[0].starts_with("zone cluster.local.: "), "{reasons:?}");
        assert_eq!(r.unanswered().collect::<Vec<_>>(), [1]);
        r.answered(1);
        assert_eq!(r.status(), Ok(()));
    }

    #[test]
    fn a_zone_whose_servers_all_loop_says_so() {
        let mut r = Readiness::new(&[Zone { servers: Vec::new(), ..zone(1, ".") }]);
        r.bound();
        let reasons = r.status().unwrap_err();
        assert!(reasons[0].contains("back to us"), "{reasons:?}");
    }

    #[test]
    fn a_reload_forgets_only_zones_that_changed() {
        let mut r = Readiness::new(&[zone(1, "a."), zone(2, ".")]);
        r.bound();
        r.answered(1);
        r.answered(2);
        r.reload(&[zone(3, "a."), zone(2, ".")]);
        assert_eq!(r.unanswered().collect::<Vec<_>>(), [3]);
        r.answered(1);
        assert!(r.status().is_err(), "an answer about the old zone is not one about the new");
        r.answered(3);
        assert_eq!(r.status(), Ok(()));
    }
}
