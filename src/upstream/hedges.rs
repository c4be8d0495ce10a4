//! How many queries may be hedged; pure.

/// Hedges that may be saved up; so many may go at once after a quiet time.
const HEDGE_BURST: u32 = 10;

/// The share of queries that may be hedged: a token bucket, in hundredths of a hedge.
#[derive(Debug)]
pub struct Hedges(u32);

impl Default for Hedges {
    fn default() -> Self {
        Self(100)
    }
}

impl Hedges {
    /// A query begins.
    pub fn earn(&mut self, percent: u32) {
        self.0 = self.0.saturating_add(percent).min(HEDGE_BURST * 100);
    }

    /// A hedge is wanted; true if it may go.
    pub fn spend(&mut self, percent: u32) -> bool {
        let granted = percent > 0 && self.0 >= 100;
        self.0 -= u32::from(granted) * 100;
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hedges_are_a_share_of_the_queries() {
        let mut hedges = Hedges::default();
        let mut granted = 0;
        for _ in 0..10_000 {
            hedges.earn(3);
            granted += u32::from(hedges.spend(3));
        }
        assert!((300..=301).contains(&granted), "{granted}");
        for _ in 0..10_000 {
            hedges.earn(3);
        }
        let burst = (0..100).filter(|_| hedges.spend(3)).count();
        assert_eq!(burst, HEDGE_BURST as usize, "not more is saved up");
    }

    #[test]
    fn no_share_no_hedge() {
        assert!(!Hedges::default().spend(0));
    }
}
