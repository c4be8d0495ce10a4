//! The addresses behind `svc://` upstreams, from the supervisor's thread.
//!
//! Each service is asked for, A and AAAA, through the other upstreams of its zone: at start, at every reload,
//! and when the TTL of its addresses is over (within [`REFRESH`](super::addresses::REFRESH)). New addresses are
//! published as a reload is. Until the first ones are known the other upstreams serve the zone, so that nobody
//! waits; and when they cannot be had (no answer, no such name, no address) the last known stay in use: pods
//! outlive a hiccup of the DNS, and those that do not are known as dead by the questions they leave unanswered.

use std::cell::RefCell;
use std::collections::HashSet;
use std::hash::RandomState;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

use super::addresses::{self, Found};
use super::{Supervisor, probe};
use crate::config::{Service, Target, ZoneKey};
use crate::upstream::Upstreams;
use crate::wire::rtype;

/// How long the upstreams may take for one name.
const PATIENCE: Duration = Duration::from_secs(4);
/// The pause after a failure; it doubles up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_secs(1);
/// See [`PAUSE`].
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// A service of a zone.
type Place = (ZoneKey, Service);

/// The services of the running configuration.
#[derive(Default)]
pub struct Services {
    tasks: RefCell<Vec<JoinHandle<()>>>,
    /// Those whose addresses could not be had when they were last asked for.
    failing: RefCell<HashSet<Place>>,
    /// Which of too many addresses are ours.
    keys: RandomState,
}

impl Services {
    /// Asks for all services of the configuration now, and again from time to time.
    pub fn follow(&self, supervisor: &Rc<Supervisor>) {
        let config = supervisor.config.borrow();
        let places = config.zones.iter().flat_map(|zone| {
            let services = zone.upstreams.iter().filter_map(|target| match target {
                Target::Service(service) => Some(service.clone()),
                Target::Server(_) | Target::ResolvConf(..) => None,
            });
            services.map(|service| (zone.key(), service))
        });
        let places: Vec<Place> = places.collect();
        self.failing.borrow_mut().retain(|place| places.contains(place));
        let upstreams = Rc::new(Upstreams::new(config.upstream));
        let tasks = places
            .into_iter()
            .map(|place| spawn_local(keep_asking(Rc::clone(supervisor), Rc::clone(&upstreams), place)));
        for before in self.tasks.replace(tasks.collect()) {
            before.abort();
        }
    }
}

/// Asks for one service's addresses for ever.
async fn keep_asking(supervisor: Rc<Supervisor>, upstreams: Rc<Upstreams>, place: Place) {
    let mut pause = PAUSE;
    loop {
        let found = look_up(&supervisor, &upstreams, &place).await;
        let next = match &found {
            Ok(found) => {
                pause = PAUSE;
                found.ttl
            }
            Err(_) => {
                let next = pause;
                pause = (pause * 2).min(PAUSE_MAX);
                next
            }
        };
        settle(&supervisor, &place, found);
        sleep(next).await;
    }
}

/// Asks once.
async fn look_up(supervisor: &Supervisor, upstreams: &Upstreams, place: &Place) -> Result<Found, String> {
    let (key, service) = place;
    let group = {
        let snapshot = supervisor.published.load();
        let Some(zone) = snapshot.zones.iter().find(|zone| key.is_of(zone)) else {
            return Err("its zone is gone".to_owned()); // a reload is about to end this
        };
        probe::group(upstreams, zone.servers.iter().filter_map(|&i| snapshot.servers.get(i)))
    };
    let ask = async |rtype| {
        let reply = group.ask(&probe::ask(service.name.wire(), rtype), Instant::now() + PATIENCE).await;
        addresses::read(&reply.map_err(|failure| format!("nobody answers ({failure:?})"))?)
    };
    let (v4, v6) = join(ask(rtype::A), ask(rtype::AAAA)).await;
    addresses::merge(v4, v6, supervisor.registry.borrow().known(key, service))
}

/// Takes over what was found, and says what is new.
fn settle(supervisor: &Rc<Supervisor>, place: &Place, found: Result<Found, String>) {
    let (key, service) = place;
    let services = &supervisor.services;
    let snapshot = supervisor.published.load_full();
    let Some(zone) = snapshot.zones.iter().find(|zone| key.is_of(zone)) else { return };
    let mut found = match found {
        Ok(found) => found,
        Err(why) => {
            zone.services.failed.bump();
            if services.failing.borrow_mut().insert(place.clone()) {
                let known = supervisor.registry.borrow().known(key, service).len();
                warn!(zone = zone.title(), known, "no addresses for {service}, we go on asking: {why}");
            }
            return;
        }
    };
    zone.services.refreshed.bump();
    if services.failing.borrow_mut().remove(place) {
        info!(zone = zone.title(), "there are addresses for {service} again");
    }
    if addresses::choose(&mut found.addresses, &services.keys) {
        zone.services.limit.bump();
    }
    if supervisor.registry.borrow_mut().learn(key, service, found.addresses) {
        publish(supervisor);
    }
}

/// Publishes a snapshot with the addresses that are known now.
fn publish(supervisor: &Rc<Supervisor>) {
    let snapshot = supervisor.registry.borrow_mut().snapshot(&supervisor.config.borrow());
    match snapshot {
        Ok(snapshot) => {
            for line in supervisor.publish(snapshot) {
                info!("{line}");
            }
            // Somebody new may ask us in turn.
            supervisor.probe_upstreams();
        }
        // A resolv.conf is gone. When it comes back there is a reload, which has the addresses too.
        Err(problem) => error!("the new addresses of a service are not used yet: {}", problem.summary()),
    }
}
