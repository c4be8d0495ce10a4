//! What a server takes from its node: program, memory, wake-ups, time to start.

use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::{Bench, role};
use crate::charts::{Bar, Chart, figure};
use crate::load::{Load, Stop, Wait};
use crate::measure::{Memory, Usage};
use crate::names::{self, Question};
use crate::pace::Pace;
use crate::peers::{CEILING, Peer, Size};
use crate::questions::Questions;
use crate::statistics::median;
use crate::tables::show;

/// How long a server is left alone before it counts as idle.
const SETTLING: Duration = Duration::from_secs(1);
/// How long a server may take to put its answers away.
const TIDYING: Duration = Duration::from_millis(200);
/// Answers that a usual node's cache holds.
const USUAL: Size = Size { workers: 1, entries: 10_000, answer: 100 };
/// Answers in the cache when memory is looked at; the last one with `--big` only.
const STEPS: [usize; 3] = [10_000, 100_000, 1_000_000];

const IDLE: [&str; 6] =
    ["server", "program loads KiB", "start ms", "resident KiB", "its share KiB", "wake-ups/s"];
const SIZE: [&str; 6] = ["server", "empty KiB", "bytes/answer: 10,000", "100,000", "1,000,000", "lost"];

/// A cache that was filled step by step.
struct Filled {
    /// KiB while it was empty, and to be small.
    empty: u64,
    /// KiB at each step.
    resident: Vec<u64>,
    /// Questions without their right answer.
    lost: u64,
}

impl Bench<'_> {
    /// Looks at each server alone, after it has answered one question and then been left in peace.
    pub fn idle(&mut self) {
        let (mut rows, mut bars) = (Vec::new(), Vec::new());
        for (peer, program) in self.found.clone() {
            match self.look_at(peer, &program) {
                Ok((row, resident)) => {
                    rows.push(row);
                    bars.push(bar(peer, resident as f64 / 1024.0));
                }
                Err(error) => self.report.leave_out(error.to_string()),
            }
        }
        let title = "Idle, after the first answer; start is the time to it";
        self.report.table(title, &IDLE, &rows, &[]);
        let (title, what) =
            ("Memory while nobody asks".to_owned(), "resident MiB, less is better".to_owned());
        self.report.chart(Chart { file: "idle".to_owned(), title, what, bars });
    }

    /// A server's line, and its resident memory in KiB.
    fn look_at(&mut self, peer: &Peer, program: &Path) -> io::Result<(Vec<String>, u64)> {
        let mut starts = Vec::new();
        for _ in 1..self.arguments.rounds {
            starts.push(self.try_start(peer, program, USUAL)?.took.as_secs_f64() * 1e3);
        }
        let server = self.try_start(peer, program, USUAL)?;
        starts.push(server.took.as_secs_f64() * 1e3);
        thread::sleep(SETTLING);
        let before = Usage::of(server.pid())?;
        thread::sleep(self.arguments.seconds);
        let wakeups = Usage::of(server.pid())?.since(before).wakeups as f64;
        let wakeups = wakeups / self.arguments.seconds.as_secs_f64();
        let Memory { resident, proportional } = Memory::of(server.pid())?;
        let row = vec![
            peer.name.to_owned(),
            show(loaded(program).filter(|_| peer.name != CEILING), 0, ""),
            show(median(starts), 1, ""),
            resident.to_string(),
            proportional.to_string(),
            format!("{wakeups:.1}"),
        ];
        Ok((row, resident))
    }

    /// Fills caches step by step, and looks at how memory grows: from what the server takes when its cache is to be
    /// small, since some set memory aside for a large one at once.
    pub fn size(&mut self) {
        let steps = if self.arguments.big { &STEPS[..] } else { &STEPS[..2] };
        let (mut rows, mut bars) = (Vec::new(), Vec::new());
        for (peer, program) in self.found.clone() {
            if peer.name == CEILING {
                continue;
            }
            let filled = match self.fill(peer, &program, steps) {
                Ok(filled) => filled,
                Err(error) => {
                    self.report.leave_out(error.to_string());
                    continue;
                }
            };
            let each =
                |(&count, &now): (&usize, &u64)| (now as f64 - filled.empty as f64) * 1024.0 / count as f64;
            let bytes: Vec<f64> = steps.iter().zip(&filled.resident).map(each).collect();
            let mut row = vec![peer.name.to_owned(), filled.empty.to_string()];
            row.extend((0..STEPS.len()).map(|step| show(bytes.get(step).copied(), 0, "")));
            row.push(filled.lost.to_string());
            rows.push(row);
            bars.push(bar(peer, bytes[1]));
        }
        let wire = names::mean_answer_size(&sample_of_new(), false);
        let title = format!("Memory per answer, of which {wire} bytes are the answer as it is sent");
        self.report.table(&title, &SIZE, &rows, &[]);
        let title = "Memory per cached answer, 100,000 of them".to_owned();
        self.report.chart(Chart {
            file: "size".to_owned(),
            title,
            what: "bytes, less is better".to_owned(),
            bars,
        });
    }

    /// Has a server cache as many answers as `steps` say.
    fn fill(&mut self, peer: &Peer, program: &Path, steps: &[usize]) -> io::Result<Filled> {
        let empty = Memory::of(self.try_start(peer, program, USUAL)?.pid())?.resident;
        let entries = steps.last().copied().unwrap_or_default() * 5 / 4;
        let server = self.try_start(peer, program, Size { entries, ..USUAL })?;
        let mut questions = Questions::all_new();
        let (mut resident, mut asked, mut lost) = (Vec::new(), 0, 0);
        for &count in steps {
            let mut load = Load::new(server.address, self.manner(Wait::Sleep), Pace::Closed)?;
            let outcome = load.run(&mut questions, Stop::Asked(count - asked))?;
            lost += outcome.lost + outcome.wrong + outcome.failed;
            asked = count;
            thread::sleep(TIDYING);
            resident.push(Memory::of(server.pid())?.resident);
        }
        Ok(Filled { empty, resident, lost })
    }
}

/// A server's bar.
fn bar(peer: &Peer, value: f64) -> Bar {
    Bar { label: peer.name.to_owned(), value, text: figure(value), role: role(peer.name) }
}

/// What of a program's file the kernel loads, in KiB: symbols and debug information are not counted, which some were
/// built with; shared libraries are not either.
fn loaded(program: &Path) -> Option<f64> {
    let file = fs::read(program).ok()?;
    let number = |at: usize, bytes: usize| {
        let bytes = file.get(at..at + bytes)?;
        Some(bytes.iter().rev().fold(0_u64, |number, &byte| number << 8 | u64::from(byte)))
    };
    // ELF for 64 bits, little endian (elf(5)): where the program headers begin, how long one is, how many there are.
    let (start, length, count) = (number(32, 8)? as usize, number(54, 2)? as usize, number(56, 2)? as usize);
    let headers = (0..count).map(|header| start + header * length);
    // Type 1 is PT_LOAD; its size in the file stands 32 bytes behind.
    let bytes: u64 = headers.filter(|&at| number(at, 4) == Some(1)).filter_map(|at| number(at + 32, 8)).sum();
    Some(bytes as f64 / 1024.0)
}

/// Some of the questions that fill the caches.
fn sample_of_new() -> Vec<Question> {
    let make = |n| {
        let mut question = Question::default();
        names::make_new(&mut question, n);
        question
    };
    (0..1000).map(make).collect()
}
