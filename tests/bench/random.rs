//! Chance that is the same in every run.

/// A generator of random numbers: xorshift64 (Marsaglia), spread evenly enough, and nearly free.
#[derive(Clone, Copy, Debug)]
pub struct Random(u64);

impl Random {
    /// Every generator says the same.
    pub fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() >> 32) as usize % end
    }

    /// A number of at least 0 and less than 1.
    pub fn share(&mut self) -> f64 {
        // The upper 53 bits are what a double holds exactly.
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
