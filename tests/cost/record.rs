//! The recorded figures, and how new ones are compared with them.
//!
//! Figures are the same again only where the compiler, the C library and the kind of processor are, so the record
//! names these. Where they are as recorded, a figure may be [`MARGIN`] above its record. Elsewhere it may be
//! [`MARGIN_ELSEWHERE`] above: a new compiler is no failure, and a road that has become longer by that much is.
//! On another kind of processor nothing is compared. A figure that is far below its record is no failure either, but
//! the record should follow, or the next loss hides behind it.

use std::env::consts::ARCH;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use toml::Table;

use crate::count::{self, Cost, Figure};

/// How much a figure may be above its record, where everything is as recorded.
const MARGIN: f64 = 0.02;
/// How much elsewhere.
const MARGIN_ELSEWHERE: f64 = 0.10;
const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cost/recorded.toml");
const NAME: &str = "tests/cost/recorded.toml";

/// What the figures depend on besides the program.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    rustc: String,
    libc: String,
    processor: String,
}

impl Place {
    /// This one.
    fn here() -> Result<Self, Box<dyn Error>> {
        // cargo has set what picks the compiler, so that this is the one that has built this program.
        let rustc = first_line(Command::new("rustc").arg("--version"))?;
        let libc =
            first_line(Command::new("getconf").arg("GNU_LIBC_VERSION")).unwrap_or_else(|_| "another".into());
        Ok(Self { rustc, libc, processor: ARCH.to_owned() })
    }
}

/// What was recorded.
struct Record {
    place: Place,
    instructions: Table,
    allocations: Table,
}

impl Record {
    fn read() -> Result<Self, Box<dyn Error>> {
        let text = fs::read_to_string(PATH)
            .map_err(|error| format!("{NAME}: {error}; `just cost-record` writes it"))?;
        let table: Table = text.parse().map_err(|error| format!("{NAME}: {error}"))?;
        let part = |name: &str| table.get(name).and_then(|part| part.as_table()).cloned().unwrap_or_default();
        let made = part("made-with");
        let word = |name: &str| made.get(name).and_then(|word| word.as_str()).unwrap_or_default().to_owned();
        let place = Place { rustc: word("rustc"), libc: word("libc"), processor: word("processor") };
        Ok(Self { place, instructions: part("instructions"), allocations: part("allocations") })
    }

    fn of(&self, figure: Figure) -> Option<Cost> {
        let number = |table: &Table| {
            let value = table.get(figure.name())?;
            value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64))
        };
        Some(Cost { instructions: number(&self.instructions)?, allocations: number(&self.allocations)? })
    }
}

/// Counts, and prints a table.
pub fn show() -> Result<(), Box<dyn Error>> {
    compare(Record::read().ok().as_ref(), &count::count()?);
    Ok(())
}

/// Counts, and fails where a figure is above its record.
pub fn check() -> Result<(), Box<dyn Error>> {
    let (record, here) = (Record::read()?, Place::here()?);
    if record.place.processor != here.processor {
        println!("recorded on {}, this is {}: nothing is compared", record.place.processor, here.processor);
        return Ok(());
    }
    let margin = if record.place == here { MARGIN } else { MARGIN_ELSEWHERE };
    let compared = compare(Some(&record), &count::count()?);
    println!("\na figure may be {:.0} % above its record", 100.0 * margin);
    if record.place != here {
        println!("(not {:.0} %: recorded with {:?}, this is {here:?})", 100.0 * MARGIN, record.place);
    }
    let mut complaint = String::new();
    for (what, share) in compared.iter().filter(|(_, share)| *share > margin) {
        writeln!(complaint, "{what}: {:.1} % more", 100.0 * share)?;
    }
    if complaint.is_empty() {
        return Ok(());
    }
    complaint.push_str("if it has to be so, `just cost-record` records it; say why in the commit");
    Err(complaint.into())
}

/// Prints a table; returns what was compared, and by which share it is above its record. What the record does not know
/// is infinitely above it.
fn compare(record: Option<&Record>, counted: &[(Figure, Cost)]) -> Vec<(String, f64)> {
    let mut compared = Vec::new();
    println!("| per query | instructions | recorded | allocations | recorded |\n|---|--:|--:|--:|--:|");
    for &(figure, cost) in counted {
        let name = figure.name();
        let Some(was) = record.and_then(|record| record.of(figure)) else {
            println!("| {name} | {:.1} | | {:.2} | |", cost.instructions, cost.allocations);
            compared.push((format!("{name} is not in {NAME}"), f64::INFINITY));
            continue;
        };
        let Cost { instructions, allocations } = was;
        println!(
            "| {name} | {:.1} | {instructions:.1} ({:+.1} %) | {:.2} | {allocations:.2} |",
            cost.instructions,
            100.0 * share(cost.instructions, instructions),
            cost.allocations
        );
        for (unit, is, was) in [
            ("instructions", cost.instructions, instructions),
            ("allocations", cost.allocations, allocations),
        ] {
            compared
                .push((format!("{name}: {is:.2} {unit}, recorded are {was:.2} ({NAME})"), share(is, was)));
        }
    }
    compared
}

/// By which share `is` is above `was`. Above nothing, anything is infinitely much; but two in a thousand queries are
/// nothing, for a table that grows once is an allocation too.
fn share(is: f64, was: f64) -> f64 {
    let more = is - was;
    if more.abs() < 0.002 { 0.0 } else { more / was }
}

/// Counts, and writes the record.
pub fn write() -> Result<(), Box<dyn Error>> {
    let counted = count::count()?;
    let Place { rustc, libc, processor } = Place::here()?;
    let mut text = format!(
        "# What a query costs outside of the kernel: `just cost-record` writes this file, `just cost check` compares.\n\
         # The figures are explained in cost.rs.\n\n\
         [made-with]\nrustc = \"{rustc}\"\nlibc = \"{libc}\"\nprocessor = \"{processor}\"\n\n[instructions]\n"
    );
    for (figure, cost) in &counted {
        writeln!(text, "{} = {:.1}", figure.name(), cost.instructions)?;
    }
    text.push_str("\n[allocations]\n");
    for (figure, cost) in &counted {
        writeln!(text, "{} = {:.3}", figure.name(), cost.allocations)?;
    }
    fs::write(PATH, text)?;
    compare(Some(&Record::read()?), &counted);
    println!("written to {NAME}");
    Ok(())
}

fn first_line(command: &mut Command) -> Result<String, Box<dyn Error>> {
    let ran = command.output()?;
    let said = String::from_utf8(ran.stdout)?;
    said.lines().next().map(str::to_owned).ok_or_else(|| format!("{command:?} says nothing").into())
}
