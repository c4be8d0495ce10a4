//! Figures of many rounds.

use crate::contender::{Contender, Sample};
use crate::random::Random;

/// How often the bootstrap draws.
const DRAWS: usize = 10_000;

/// The median of the numbers among `values`.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len() % 2 == 1 { upper } else { f64::midpoint(values[middle - 1], upper) })
}

/// What `compare` makes of a figure of `of` and the same of `to`, in each of the rounds that both have.
pub fn paired(
    of: &Contender,
    to: &Contender,
    figure: impl Fn(&Sample) -> f64,
    compare: fn(f64, f64) -> f64,
) -> Vec<f64> {
    let pairs = of.samples.iter().zip(&to.samples);
    pairs.filter_map(|(a, b)| Some(compare(figure(a.as_ref()?), figure(b.as_ref()?)))).collect()
}

/// The range in which the median lies with 95 % confidence: percentile bootstrap (Efron), the same draws in every run.
pub fn interval(values: &[f64]) -> Option<(f64, f64)> {
    let mut random = Random::new();
    let draw = |_| median((0..values.len()).map(|_| values[random.below(values.len())]));
    let mut medians: Vec<f64> = (0..DRAWS).filter_map(draw).collect();
    medians.sort_by(f64::total_cmp);
    let at = |share: f64| medians.get((medians.len() as f64 * share) as usize).copied();
    Some((at(0.025)?, at(0.975)?))
}
