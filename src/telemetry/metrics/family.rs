//! A metric family: one name, its help, and its samples, before they are text.

use std::borrow::Cow;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use crate::count::{self, Decades, Histogram, SIZE_BOUNDS, Sizes};

/// One number, or one histogram.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// It only rises.
    Counter(u64),
    /// It only rises, and may stand between two numbers: a time in seconds.
    Seconds(f64),
    /// It rises and falls.
    Gauge(u64),
    /// Their sum, and the counts per bucket (not cumulative) with its upper bound; the last has none.
    Histogram(f64, Vec<(f64, u64)>),
    /// What matters stands in the labels.
    Info,
}

impl Value {
    /// A histogram of durations.
    pub fn durations(histogram: &Histogram) -> Self {
        let buckets = histogram.counts().into_iter().enumerate().map(|(i, n)| (Histogram::bound(i), n));
        Self::Histogram(histogram.sum(), buckets.collect())
    }

    /// A histogram of sizes.
    pub fn sizes(sizes: &Sizes) -> Self {
        let bounds = SIZE_BOUNDS.iter().map(|&bound| f64::from(bound)).chain([f64::INFINITY]);
        Self::Histogram(sizes.sum() as f64, bounds.zip(sizes.counts()).collect())
    }

    /// A coarse histogram of durations.
    pub fn decades(decades: &Decades) -> Self {
        Self::Histogram(decades.sum(), decades.counts().collect())
    }

    /// Adds another of the same kind and, of a histogram, with the same bounds.
    pub fn add(&mut self, other: Self) {
        match (self, other) {
            (Self::Counter(a), Self::Counter(b)) | (Self::Gauge(a), Self::Gauge(b)) => *a += b,
            (Self::Histogram(sum, counts), Self::Histogram(more, others)) => {
                *sum += more;
                counts.iter_mut().zip(others).for_each(|(a, b)| a.1 += b.1);
            }
            _ => {}
        }
    }

    /// The sum of both; see [`add`](Self::add).
    pub fn plus(mut self, other: Self) -> Self {
        self.add(other);
        self
    }

    /// Whether nothing was counted yet.
    pub fn is_zero(&self) -> bool {
        match self {
            Self::Counter(n) => *n == 0,
            Self::Histogram(_, counts) => counts.iter().all(|&(_, n)| n == 0),
            Self::Seconds(_) | Self::Gauge(_) | Self::Info => false,
        }
    }
}

/// A value with its labels.
#[derive(Clone, Debug)]
pub struct Sample {
    labels: Vec<(&'static str, Cow<'static, str>)>,
    /// The value.
    pub value: Value,
    /// Whether it is written while it is zero, too.
    always: bool,
}

impl Sample {
    /// A value without labels.
    pub fn new(value: Value) -> Self {
        Self { labels: Vec::new(), value, always: false }
    }

    /// With one label more.
    pub fn with(mut self, label: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.labels.push((label, value.into()));
        self
    }

    /// Written while it is zero, too.
    pub fn always(mut self) -> Self {
        self.always = true;
        self
    }
}

/// One name with all that is counted under it.
#[derive(Clone, Debug)]
pub struct Family {
    /// Without the prefix (`sidestep_`, `coredns_`), the unit, and `_total`: those are added in the encoding.
    pub name: &'static str,
    /// What it means, in one line.
    pub help: &'static str,
    unit: Option<Unit>,
    /// Never empty.
    pub samples: Vec<Sample>,
}

impl Family {
    /// Several samples that their labels tell apart.
    pub fn labelled(
        name: &'static str,
        help: &'static str,
        samples: impl IntoIterator<Item = Sample>,
    ) -> Self {
        Self { name, help, unit: None, samples: samples.into_iter().collect() }
    }

    /// One counter.
    pub fn counter(name: &'static str, help: &'static str, counter: &count::Counter) -> Self {
        Self::labelled(name, help, [Sample::new(Value::Counter(counter.get()))])
    }

    /// One gauge.
    pub fn gauge(name: &'static str, help: &'static str, value: u64) -> Self {
        Self::labelled(name, help, [Sample::new(Value::Gauge(value))])
    }

    /// One histogram, in seconds.
    pub fn histogram(name: &'static str, help: &'static str, histogram: &Histogram) -> Self {
        Self::labelled(name, help, [Sample::new(Value::durations(histogram))]).in_unit(Unit::Seconds)
    }

    /// With its unit.
    pub fn in_unit(mut self, unit: Unit) -> Self {
        self.unit = Some(unit);
        self
    }

    /// Adds the same family of another worker: its samples are the same ones, in the same order.
    pub fn add(&mut self, other: Self) {
        for (mine, theirs) in self.samples.iter_mut().zip(other.samples) {
            mine.value.add(theirs.value);
        }
    }

    /// Its samples with the label of their owner in front.
    pub fn owned_by(mut self, label: &'static str, owner: &str) -> Self {
        for sample in &mut self.samples {
            sample.labels.insert(0, (label, Cow::Owned(owner.to_owned())));
        }
        self
    }

    /// Leaves out counters and histograms at zero, but those that are always written; one stays in any case. After
    /// this it can no longer be added to another worker's.
    pub fn thinned_out(mut self) -> Self {
        let first = self.samples.first().cloned();
        self.samples.retain(|s| s.always || !s.value.is_zero());
        if self.samples.is_empty() {
            self.samples.extend(first);
        }
        self
    }

    fn kind(&self) -> MetricType {
        match self.samples.first().map(|s| &s.value) {
            Some(Value::Counter(_) | Value::Seconds(_)) => MetricType::Counter,
            Some(Value::Gauge(_)) => MetricType::Gauge,
            Some(Value::Histogram(..)) => MetricType::Histogram,
            Some(Value::Info) => MetricType::Info,
            None => MetricType::Unknown,
        }
    }
}

/// Families on their way into text.
#[derive(Debug)]
pub struct Families(pub Vec<Family>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        for family in &self.0 {
            let metric =
                encoder.encode_descriptor(family.name, family.help, family.unit.as_ref(), family.kind())?;
            samples(metric, &family.samples)?;
        }
        Ok(())
    }
}

fn samples(mut metric: MetricEncoder<'_>, samples: &[Sample]) -> std::fmt::Result {
    for sample in samples {
        if let Value::Info = sample.value {
            metric.encode_info(&sample.labels)?;
        } else if sample.labels.is_empty() {
            value(&mut metric, &sample.value)?;
        } else {
            value(&mut metric.encode_family(&sample.labels)?, &sample.value)?;
        }
    }
    Ok(())
}

fn value(metric: &mut MetricEncoder<'_>, value: &Value) -> std::fmt::Result {
    match value {
        Value::Counter(n) => metric.encode_counter::<NoLabelSet, _, f64>(n, None),
        Value::Seconds(n) => metric.encode_counter::<NoLabelSet, _, f64>(n, None),
        Value::Gauge(n) => metric.encode_gauge(n),
        Value::Histogram(sum, counts) => {
            let count = counts.iter().map(|&(_, n)| n).sum();
            metric.encode_histogram::<NoLabelSet>(*sum, count, counts, None)
        }
        Value::Info => Ok(()),
    }
}
