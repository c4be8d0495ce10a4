//! A metric family: one name, its help, and its samples, before they are text.

use std::borrow::Cow;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use crate::count::{self, Histogram};

/// One number, or one histogram.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// It only rises.
    Counter(u64),
    /// It rises and falls.
    Gauge(u64),
    /// Latencies: their sum in seconds, their counts per bucket.
    Histogram(f64, [u64; count::BUCKETS + 1]),
    /// What matters stands in the labels.
    Info,
}

/// A value with its labels.
#[derive(Clone, Debug)]
pub struct Sample {
    labels: Vec<(&'static str, Cow<'static, str>)>,
    value: Value,
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
    /// Without `sidestep_`, the unit, and `_total`: those are added in the encoding.
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
        let value = Value::Histogram(histogram.sum(), histogram.counts());
        Self::labelled(name, help, [Sample::new(value)]).in_unit(Unit::Seconds)
    }

    /// With its unit.
    pub fn in_unit(mut self, unit: Unit) -> Self {
        self.unit = Some(unit);
        self
    }

    /// Adds the same family of another worker: its samples are the same ones, in the same order.
    pub fn add(&mut self, other: Self) {
        for (mine, theirs) in self.samples.iter_mut().zip(other.samples) {
            match (&mut mine.value, theirs.value) {
                (Value::Counter(a), Value::Counter(b)) | (Value::Gauge(a), Value::Gauge(b)) => *a += b,
                (Value::Histogram(sum, counts), Value::Histogram(more, others)) => {
                    *sum += more;
                    counts.iter_mut().zip(others).for_each(|(a, b)| *a += b);
                }
                _ => {}
            }
        }
    }

    /// Its samples with the label of their owner in front.
    pub fn owned_by(mut self, label: &'static str, owner: &str) -> Self {
        for sample in &mut self.samples {
            sample.labels.insert(0, (label, Cow::Owned(owner.to_owned())));
        }
        self
    }

    /// Leaves out counters at zero, but those that are always written; one stays in any case. After this it
    /// can no longer be added to another worker's.
    pub fn thinned_out(mut self) -> Self {
        let first = self.samples.first().cloned();
        self.samples.retain(|s| s.always || s.value != Value::Counter(0));
        if self.samples.is_empty() {
            self.samples.extend(first);
        }
        self
    }

    fn kind(&self) -> MetricType {
        match self.samples.first().map(|s| &s.value) {
            Some(Value::Counter(_)) => MetricType::Counter,
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
        Value::Gauge(n) => metric.encode_gauge(n),
        Value::Histogram(sum, counts) => {
            let last = counts.len() - 1;
            let bound = |i| if i < last { Histogram::bound(i) } else { f64::INFINITY };
            let buckets: Vec<_> = counts.iter().enumerate().map(|(i, &n)| (bound(i), n)).collect();
            metric.encode_histogram::<NoLabelSet>(*sum, counts.iter().sum(), &buckets, None)
        }
        Value::Info => Ok(()),
    }
}
