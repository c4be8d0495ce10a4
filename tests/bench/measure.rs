//! What a process and a core did: times, memory, wake-ups, read from `/proc`.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

/// Buckets per doubling: a percentile is exact to 3 %.
const STEPS: u32 = 32;

/// A histogram of durations with buckets that grow with the duration.
#[derive(Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; 60 * STEPS as usize], total: 0 }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, duration: Duration) {
        let ns = (duration.as_nanos() as u64).max(1);
        let shift = ns.ilog2().saturating_sub(STEPS.ilog2());
        let bucket = shift as usize * STEPS as usize + (ns >> shift) as usize;
        self.counts[bucket] += 1;
        self.total += 1;
    }

    /// The duration that a share of `share` (0 to 1) does not exceed.
    pub fn percentile(&self, share: f64) -> Duration {
        let wanted = (self.total as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                let steps = STEPS as usize;
                let shift = (bucket / steps).saturating_sub(1);
                return Duration::from_nanos(((bucket - shift * steps) as u64) << shift);
            }
        }
        Duration::ZERO
    }
}

/// What a process used since it started, as far as `/proc` tells.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// CPU time of the threads that live now, exact to the nanosecond up to the last tick (4 ms).
    alive: Duration,
    /// Ticks (10 ms) in user space, of all threads that ever were.
    user: u64,
    /// Ticks in the kernel. The kernel samples only the proportion of the two; their sum is exact.
    system: u64,
    /// How often a thread that lives now woke after waiting of its own will.
    pub wakeups: u64,
}

impl Usage {
    /// What process `pid` used until now.
    pub fn of(pid: u32) -> io::Result<Self> {
        let mut usage = Self::default();
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let task = task?.path();
            // A thread may end between the listing and the reading.
            let schedstat = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
            usage.alive += Duration::from_nanos(number(schedstat.split_whitespace().next()));
            let status = fs::read_to_string(task.join("status")).unwrap_or_default();
            usage.wakeups += field(&status, "voluntary_ctxt_switches:");
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        [usage.user, usage.system, ..] = times(&stat);
        Ok(usage)
    }

    /// What was used between `earlier` and this.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            alive: self.alive.saturating_sub(earlier.alive),
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
            wakeups: self.wakeups.saturating_sub(earlier.wakeups),
        }
    }

    /// The CPU time: what the kernel did for the process is in it, and on loopback that includes the receiving
    /// of what it sent. Threads that ended took their exact time with them; then the ticks know better, which
    /// are both rounded down at both ends.
    pub fn cpu(self) -> Duration {
        let ticks = Duration::from_millis(10 * (self.user + self.system).saturating_sub(2));
        self.alive.max(ticks)
    }

    /// The share of the CPU time that was spent in user space, 0 to 1.
    pub fn user_share(self) -> f64 {
        self.user as f64 / (self.user + self.system).max(1) as f64
    }
}

/// How long some cores were busy since the machine started, in ticks of 10 ms.
#[derive(Clone, Copy, Debug)]
pub struct Cores {
    busy: u64,
    at: Instant,
}

impl Cores {
    /// The cores with these numbers until now.
    pub fn of(cores: &[usize]) -> io::Result<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        let mut busy = 0;
        for cpu in cores {
            let prefix = format!("cpu{cpu} ");
            let line = stat.lines().find_map(|l| l.strip_prefix(&prefix));
            let line = line.ok_or_else(|| io::Error::other(format!("/proc/stat knows no core {cpu}")))?;
            // user nice system idle iowait irq softirq steal; what follows is part of user and nice.
            let fields: Vec<u64> = line.split_whitespace().map(|f| number(Some(f))).collect();
            let all: u64 = fields.iter().take(8).sum();
            let idle: u64 = fields.iter().skip(3).take(2).sum();
            busy += all - idle;
        }
        Ok(Self { busy, at: Instant::now() })
    }

    /// What went, between `earlier` and this, to something else than `ours`, as a share of one core. It
    /// is never too small. It is too large where waking an idle core is dear, as in nested virtual machines:
    /// that time belongs to no process.
    pub fn others(self, earlier: Self, ours: Duration) -> f64 {
        let busy = self.busy.saturating_sub(earlier.busy) as f64 / 100.0;
        let elapsed = (self.at - earlier.at).as_secs_f64();
        ((busy - ours.as_secs_f64()) / elapsed).max(0.0)
    }
}

/// What everybody else used since the machine started, on all cores, in ticks of 10 ms: other processes, and
/// other machines on the same hardware (stolen time).
#[derive(Clone, Copy, Debug)]
pub struct Rest {
    ticks: u64,
    at: Instant,
}

impl Rest {
    /// Everybody but the processes `ours`, until now.
    pub fn besides(ours: [u32; 2]) -> io::Result<Self> {
        let total = fs::read_to_string("/proc/stat")?;
        // "cpu", then the same fields as a core has.
        let mut ticks = number(total.split_whitespace().nth(8));
        for process in fs::read_dir("/proc")? {
            let process = process?;
            let pid = process.file_name().to_str().and_then(|name| name.parse().ok());
            if pid.is_none_or(|pid| ours.contains(&pid)) {
                continue;
            }
            // It may end between the listing and the reading; then its time goes over to its parent: with the
            // children that were waited for, nothing is lost.
            let stat = fs::read_to_string(process.path().join("stat")).unwrap_or_default();
            ticks += times(&stat).iter().sum::<u64>();
        }
        Ok(Self { ticks, at: Instant::now() })
    }

    /// What they used between `earlier` and this, as a share of one core.
    pub fn since(self, earlier: Self) -> f64 {
        let used = self.ticks.saturating_sub(earlier.ticks) as f64 / 100.0;
        used / (self.at - earlier.at).as_secs_f64()
    }
}

/// What a process holds in memory, in KiB.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Resident.
    pub resident: u64,
    /// Its proportional share of it: pages shared with other processes are divided among them.
    pub proportional: u64,
}

impl Memory {
    /// What process `pid` holds now.
    pub fn of(pid: u32) -> io::Result<Self> {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        Ok(Self { resident: field(&rollup, "Rss:"), proportional: field(&rollup, "Pss:") })
    }
}

/// The times in a process's `stat`, in ticks: its own in user space and in the kernel, and the same of the
/// children that it waited for.
fn times(stat: &str) -> [u64; 4] {
    // The second field is a name in brackets that may hold spaces; the times are fields 14 to 17.
    let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11);
    [(); 4].map(|()| number(fields.next()))
}

/// The first number on the line of `text` that begins with `name`.
fn field(text: &str, name: &str) -> u64 {
    number(text.lines().find_map(|l| l.strip_prefix(name)).and_then(|l| l.split_whitespace().next()))
}

fn number(text: Option<&str>) -> u64 {
    text.and_then(|t| t.parse().ok()).unwrap_or(0)
}
