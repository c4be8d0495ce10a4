//! The log of queries on standard output: lines as CoreDNS's `log` writes them, whatever `[log] format` says.
//!
//! A thread of its own takes what the workers leave in the [queue](crate::resolve::log), so that none of them waits
//! for whoever reads the lines. It is started when the first zone wants a log. What is written leaves its buffer when
//! the queue is empty, and at the end of the program. A line that can not be written then, as nobody is there to read it,
//! waits in the buffer, and lines for which there is no more room are lost, and counted.
//!
//! A name is escaped, so nothing out of a packet can forge a line.

use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant, SystemTime};

use tracing::error;

use crate::local::text;
use crate::resolve::log::format::{Field, Part};
use crate::resolve::log::{Answered, Class, Sink, Source, queue};
use crate::resolve::traffic::Protocol;
use crate::wire::header::{self, Header};
use crate::wire::query::Question;
use crate::wire::records::{self, Record, Section};
use crate::wire::{MESSAGE_MAX, Malformed, name, rcode, rtype, u32_at};

/// How long the end of the program may wait for the last lines to be read by somebody.
const LINGER: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_millis(5);

/// The thread that writes, once there is something to write.
#[derive(Debug, Default)]
pub struct Queries(Option<(Sink, JoinHandle<()>)>);

impl Queries {
    /// Where workers put their lines; `None`, and a word about it in our own log, if no thread can be had.
    pub fn sink(&mut self) -> Option<Sink> {
        if self.0.is_none() {
            let (sink, source) = queue();
            let thread = std::thread::Builder::new().name("query-log".to_owned());
            match thread.spawn(move || write_all(&source, io::stdout().lock())) {
                Ok(thread) => self.0 = Some((sink, thread)),
                Err(error) => error!(%error, "queries are not logged: no thread can be had for it"),
            }
        }
        self.0.as_ref().map(|(sink, _)| sink.clone())
    }

    /// Lets the lines that wait be written. Whoever does not read them cannot keep us from ending.
    pub fn end(&mut self) {
        let Some((sink, thread)) = self.0.take() else { return };
        let end = Instant::now() + LINGER;
        while !sink.end() && Instant::now() < end {
            sleep(STEP);
        }
        while !thread.is_finished() && Instant::now() < end {
            sleep(STEP);
        }
    }
}

/// Writes until the end.
fn write_all(source: &Source, out: impl Write) {
    let (mut out, mut line, mut broken) = (BufWriter::new(out), String::new(), false);
    let mut check = |result: io::Result<()>| {
        if let Err(error) = &result
            && !std::mem::replace(&mut broken, true)
        {
            error!(%error, "lines of the query log cannot be written");
        }
        result.is_ok()
    };
    while let Some(answered) = source.next(|| _ = check(out.flush())) {
        line.clear();
        if render(&answered, &mut line) && !check(out.write_all(line.as_bytes())) {
            answered.is_lost();
        }
    }
    check(out.flush());
}

/// Renders a line; whether it is to be logged at all.
fn render(answered: &Answered, line: &mut String) -> bool {
    let Some(rule) = answered.rule() else { return false };
    let Some(answer) = Answer::read(&answered.answer) else { return false };
    if !rule.logs(answer.class(answered.asked.edns.is_some_and(|edns| edns.dnssec_ok))) {
        return false;
    }
    line.push_str("[INFO] ");
    for part in rule.format.parts() {
        match part {
            Part::Text(text) => line.push_str(text),
            // Writing into a string does not fail.
            Part::Field(field) => drop(say(*field, answered, &answer, line)),
        }
    }
    line.push('\n');
    true
}

fn say(field: Field, answered: &Answered, answer: &Answer<'_>, line: &mut String) -> std::fmt::Result {
    let asked = &answered.asked;
    let Question { rtype, class, .. } = answer.question;
    match field {
        Field::Type => named(line, text::type_name(rtype), "TYPE", rtype),
        Field::Class => named(line, text::class_name(class), "CLASS", class),
        Field::Name => line.write_str(&text::show(answer.question.name())),
        Field::Protocol => line.write_str(if asked.protocol == Protocol::Udp { "udp" } else { "tcp" }),
        Field::Remote => address(line, asked.client.ip()),
        Field::Local => address(line, asked.local),
        Field::Size => write!(line, "{}", asked.size),
        Field::Port => write!(line, "{}", asked.client.port()),
        Field::Duration => write!(line, "{}s", answered.took.as_secs_f64()),
        Field::ResponseCode => line.write_str(&text::code_name(answer.header.rcode() as u8)),
        Field::ResponseSize => write!(line, "{}", answer.plain_size().unwrap_or(answered.answer.len())),
        Field::Flags => line.write_str(&flags(answer.header.flags)),
        Field::BufferSize => match (asked.protocol, asked.edns) {
            (Protocol::Tcp, _) => write!(line, "{MESSAGE_MAX}"),
            (Protocol::Udp, edns) => write!(line, "{}", edns.map_or(512, |edns| edns.udp_size.max(512))),
        },
        Field::DnssecOk => write!(line, "{}", asked.edns.is_some_and(|edns| edns.dnssec_ok)),
        Field::Id => write!(line, "{}", answer.header.id),
        Field::Opcode => write!(line, "{}", (answer.header.flags & header::OPCODE) >> 11),
    }
}

/// A name out of a registry, or a number (RFC 3597 section 5).
fn named(line: &mut String, name: impl AsRef<str>, kind: &str, number: u16) -> std::fmt::Result {
    match name.as_ref() {
        "" => write!(line, "{kind}{number}"),
        name => line.write_str(name),
    }
}

fn address(line: &mut String, address: IpAddr) -> std::fmt::Result {
    match address.to_canonical() {
        IpAddr::V4(address) => write!(line, "{address}"),
        IpAddr::V6(address) => write!(line, "[{address}]"),
    }
}

fn flags(flags: u16) -> String {
    const NAMES: [(u16, &str); 8] = [
        (header::QR, "qr"),
        (header::AA, "aa"),
        (header::TC, "tc"),
        (header::RD, "rd"),
        (header::RA, "ra"),
        (1 << 6, "z"),
        (header::AD, "ad"),
        (header::CD, "cd"),
    ];
    let set = NAMES.iter().filter(|(bit, _)| flags & bit != 0).map(|&(_, name)| name);
    set.collect::<Vec<_>>().join(",")
}

/// An answer that can be read.
struct Answer<'a> {
    message: &'a [u8],
    header: Header,
    question: Question<'a>,
    records: Vec<Record>,
}

impl<'a> Answer<'a> {
    fn read(message: &'a [u8]) -> Option<Self> {
        let header = Header::read(message)?;
        let question = Question::read(message.get(header::LEN..)?).ok()?;
        let records = records::walk(message).ok()?.collect::<Result<_, _>>().ok()?;
        Some(Self { message, header, question, records })
    }

    fn of(&self, section: Section) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(move |record| record.section == section)
    }

    /// What it says, in the order in which CoreDNS looks.
    fn class(&self, dnssec_ok: bool) -> Class {
        let code = self.header.rcode();
        let transfer = [rtype::AXFR, rtype::IXFR].contains(&self.question.rtype);
        if transfer || (dnssec_ok && self.records.iter().any(|record| self.is_outdated(record))) {
            return Class::Error;
        }
        let answers = self.of(Section::Answer).next().is_some();
        let soa = self.of(Section::Authority).any(|record| record.rtype == rtype::SOA);
        match (code, answers) {
            (rcode::NOERROR, true) => Class::Success,
            (rcode::NOERROR, false) if soa => Class::Denial,
            (rcode::NOERROR, false) => Class::Success,
            (rcode::NXDOMAIN, false) => Class::Denial,
            _ => Class::Error,
        }
    }

    /// Whether it is a signature that does not hold now (RFC 4034 section 3.1.5: serial numbers).
    fn is_outdated(&self, record: &Record) -> bool {
        const RRSIG: u16 = 46;
        let at = |offset| u32_at(&self.message[record.rdata.clone()], offset);
        let (true, Some(ends), Some(begins)) = (record.rtype == RRSIG, at(8), at(12)) else { return false };
        let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| now.as_secs()) as u32;
        (ends.wrapping_sub(now) as i32) < 0 || (now.wrapping_sub(begins) as i32) < 0
    }

    /// Bytes that it would have without compression, its OPT aside, which we alone add.
    fn plain_size(&self) -> Option<usize> {
        let records = self.records.iter().filter(|record| record.rtype != rtype::OPT);
        let sizes = records.map(|record| self.plain_record(record));
        let records = sizes.sum::<Result<usize, Malformed>>().ok()?;
        Some(header::LEN + self.question.bytes.len() + records)
    }

    fn plain_record(&self, record: &Record) -> Result<usize, Malformed> {
        const MX: u16 = 15;
        let mut names = Vec::new();
        name::expand(self.message, record.owner, &mut names)?;
        // What stands before the names in the data, and how many there are (RFC 1035 sections 3.3 and 4.1.4).
        let (before, count) = match record.rtype {
            rtype::NS | rtype::CNAME | rtype::PTR | rtype::DNAME => (0, 1),
            rtype::SOA => (0, 2),
            MX => (2, 1),
            _ => (0, 0),
        };
        let mut at = record.rdata.start + before;
        for _ in 0..count {
            at = name::expand(self.message, at, &mut names)?;
        }
        Ok(names.len() + 10 + before + record.rdata.end.saturating_sub(at))
    }
}

#[cfg(test)]
mod tests;
