//! The figures: what is run, and how valgrind counts it.
//!
//! This program starts itself under `valgrind --tool=callgrind`, once for each figure. What makes things ready is not
//! counted: callgrind counts while [`counted_region`] is on the stack. That process counts its own allocations and
//! says how many there were.
//!
//! The processor is the same everywhere but for one thing: glibc looks at what the real one can do and chooses how
//! it copies and compares. So it is told to choose as if it could do little.

use std::env;
use std::error::Error;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use clap::ValueEnum;

use crate::packets::{self, Form};
use crate::worker::{self, Worker};
use crate::{heap, upstream};

/// Bytes are copied and compared 16 at a time at most; each version of glibc has names of its own.
const TUNABLES: &str = "glibc.cpu.hwcaps=-AVX2_Usable,-AVX2,-AVX512F_Usable,-AVX512F,-AVX512VL,-EVEX,-ERMS,-FSRM,-RTM,\
    -BMI2,-SSSE3,-AVX_Fast_Unaligned_Load";
/// Misses before any is counted: connections are open, buffers have grown.
const FIRST: usize = 640;

/// Something whose cost is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Figure {
    /// A hit without EDNS.
    HitPlain,
    /// A hit with EDNS.
    HitEdns,
    /// A miss among 64 at once.
    MissBusy,
    /// A miss on its own.
    MissAlone,
}

/// What was counted, per query.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Instructions outside of the kernel.
    pub instructions: f64,
    /// Pieces of memory that were given or grown.
    pub allocations: f64,
}

impl Figure {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::HitPlain, Self::HitEdns, Self::MissBusy, Self::MissAlone];

    /// Its name in the record and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::HitPlain => "hit-plain",
            Self::HitEdns => "hit-edns",
            Self::MissBusy => "miss-busy",
            Self::MissAlone => "miss-alone",
        }
    }

    /// How many queries are counted.
    pub fn queries(self) -> usize {
        match self {
            Self::HitPlain | Self::HitEdns => 64_000,
            Self::MissBusy => 6_400,
            Self::MissAlone => 2_000,
        }
    }

    /// Does what is counted, and returns the allocations.
    pub fn run(self, upstream: SocketAddr) -> Result<u64, Box<dyn Error>> {
        let worker = Worker::new(worker::cache(), upstream)?;
        let (right, allocations) = match self {
            Self::HitPlain => hits(&worker, Form::Plain, self.queries())?,
            Self::HitEdns => hits(&worker, Form::Edns, self.queries())?,
            Self::MissBusy => misses(&worker, self.queries(), 64),
            Self::MissAlone => misses(&worker, self.queries(), 1),
        };
        if right != self.queries() {
            let wrong = self.queries() - right;
            return Err(format!("{}: {wrong} of {} answers were wrong", self.name(), self.queries()).into());
        }
        Ok(allocations)
    }
}

fn hits(worker: &Worker, form: Form, queries: usize) -> Result<(usize, u64), Box<dyn Error>> {
    let packets = packets::warm(form);
    worker.warm(&packets)?;
    let mut right = 0;
    worker.hit(packets.iter(), |packet, answer| right += usize::from(packet.is_answered_by(answer)));
    if right != packets.len() {
        return Ok((right, 0));
    }
    Ok(counted_region(|| worker.hit(packets.iter().cycle().take(queries), |_, _| ())))
}

fn misses(worker: &Worker, queries: usize, at_once: usize) -> (usize, u64) {
    worker.miss(&packets::unique(0, FIRST), at_once);
    let packets = packets::unique(FIRST, queries);
    counted_region(|| worker.miss(&packets, at_once))
}

/// What is counted: callgrind finds this function by its name. Returns with how many allocations there were.
#[inline(never)]
fn counted_region<T>(body: impl FnOnce() -> T) -> (T, u64) {
    let before = heap::allocations();
    let result = body();
    (result, heap::allocations() - before)
}

/// Whether every answer is right.
pub fn try_out() -> Result<(), Box<dyn Error>> {
    let upstream = upstream::start()?;
    for figure in Figure::ALL {
        let allocations = figure.run(upstream)?;
        println!("{}: {} right answers, {allocations} allocations", figure.name(), figure.queries());
    }
    Ok(())
}

/// Counts all figures. What callgrind writes stays in target/cost, for callgrind_annotate.
pub fn count() -> Result<Vec<(Figure, Cost)>, Box<dyn Error>> {
    let upstream = upstream::start()?;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("cost");
    fs::create_dir_all(&folder)?;
    Figure::ALL.into_iter().map(|figure| Ok((figure, count_one(figure, upstream, &folder)?))).collect()
}

fn count_one(figure: Figure, upstream: SocketAddr, folder: &Path) -> Result<Cost, Box<dyn Error>> {
    let out = folder.join(format!("callgrind.out.{}", figure.name()));
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--toggle-collect=*counted_region*"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(env::current_exe()?)
        .args(["run", figure.name(), &upstream.to_string()])
        .env("GLIBC_TUNABLES", TUNABLES);
    let ran = valgrind.output().map_err(|error| format!("valgrind is needed (Debian: valgrind): {error}"))?;
    let said = String::from_utf8_lossy(&ran.stdout);
    let allocations = said.split_whitespace().next().and_then(|number| number.parse::<f64>().ok());
    let (true, Some(allocations)) = (ran.status.success(), allocations) else {
        let complaint = String::from_utf8_lossy(&ran.stderr);
        return Err(format!("{} under valgrind: {}\n{complaint}", figure.name(), ran.status).into());
    };
    let counted = fs::read_to_string(&out)?;
    let instructions =
        counted.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse::<f64>().ok());
    let instructions = instructions.filter(|&n| n > 0.0).ok_or("callgrind has counted nothing")?;
    let queries = figure.queries() as f64;
    Ok(Cost { instructions: instructions / queries, allocations: allocations / queries })
}
