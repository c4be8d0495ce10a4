//! Whether something is out, as all workers together say it: so that the log says it once.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// One server's or one zone's outage. Each worker finds out for itself, with its own queries; the first one
/// that does is the one to say so, and the first one that hears an answer says that it is over.
#[derive(Debug, Default)]
pub struct Outage(AtomicBool);

impl Outage {
    /// A worker cannot get answers. True if nobody had found that out yet.
    pub fn begins(&self) -> bool {
        !self.0.swap(true, Relaxed)
    }

    /// A worker gets answers. True if it was out until now. Cheap where it was not: called for every answer.
    pub fn ends(&self) -> bool {
        self.0.load(Relaxed) && self.0.swap(false, Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_to_find_out_is_the_one_to_say_so() {
        let outage = Outage::default();
        assert!(!outage.ends(), "nothing was out");
        for _ in 0..2 {
            assert!(outage.begins());
            assert!(!outage.begins(), "it is known");
            assert!(outage.ends());
            assert!(!outage.ends());
        }
    }
}
