use std::sync::{Arc, Mutex};

use super::*;
use crate::local::Zones;
use crate::resolve::log::{Asked, Format, Log, Rule};
use crate::wire::query::Edns;

const QUESTION: &[u8] = b"\x03WWW\x07example\0\0\x01\0\x01";
const A: &[u8] = b"\xc0\x0c\0\x01\0\x01\0\0\0\x1e\0\x04\xc0\0\x02\x01";
const SOA: &[u8] =
    b"\xc0\x10\0\x06\0\x01\0\0\0\x1e\0\x1b\x02ns\xc0\x10\xc0\x29\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0\x05";
const OPT: &[u8] = b"\0\0\x29\x04\xd0\0\0\0\0\0\0";

fn answer(flags: u16, counts: [u16; 3], records: &[&[u8]]) -> Vec<u8> {
    let [answer, authority, additional] = counts;
    let header = Header { id: 29_008, flags, counts: [1, answer, authority, additional] };
    [&header.bytes()[..], QUESTION, &records.concat()].concat()
}

/// Where lines go.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is written of these answers.
fn written(format: &str, classes: &[Class], asked: Asked, answers: &[Vec<u8>]) -> String {
    let (sink, source) = queue();
    let rule = Rule { names: Zones::all(), format: Format::new(format).unwrap(), classes: classes.to_vec() };
    let log = Arc::new(Log::new(vec![rule], sink));
    for answer in answers {
        log.answered(asked, answer, Duration::from_nanos(37_990_251), &Arc::default());
    }
    // The last sender: that is the end, too.
    drop(log);
    let page = Page::default();
    write_all(&source, page.clone());
    String::from_utf8(std::mem::take(&mut page.0.lock().unwrap())).unwrap()
}

fn asked(protocol: Protocol, edns: Option<Edns>) -> Asked {
    let client = "[::1]:50759".parse().unwrap();
    Asked { client, local: [127, 0, 0, 2].into(), protocol, size: 41, edns }
}

/// A pipe whose reader has gone, and comes back.
struct Pipe {
    page: Page,
    failures: usize,
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failures == 0 {
            return self.page.write(bytes);
        }
        self.failures -= 1;
        Err(io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn each_line_is_either_written_or_counted() {
    const LINES: usize = 2000;
    let (sink, source) = queue();
    let rule = Rule { names: Zones::all(), format: Format::default(), classes: vec![Class::All] };
    let log = Arc::new(Log::new(vec![rule], sink));
    let (answer, counters) =
        (answer(0x8180, [1, 0, 0], &[A]), Arc::<crate::resolve::ZoneCounters>::default());
    for _ in 0..LINES {
        log.answered(asked(Protocol::Udp, None), &answer, Duration::from_millis(1), &counters);
    }
    drop(log);
    let page = Page::default();
    write_all(&source, Pipe { page: page.clone(), failures: 500 });
    let text = String::from_utf8(std::mem::take(&mut page.0.lock().unwrap())).unwrap();
    let (written, lost) = (text.lines().count(), counters.log_unwritten.get());
    assert_eq!((written + lost as usize, counters.log_lost.get()), (LINES, 0));
    assert!(lost >= 500 && text.lines().all(|line| line.ends_with("0.001s")), "{lost} lost");
}

#[test]
fn the_common_line_says_what_coredns_says() {
    let edns = Some(Edns { udp_size: 4096, dnssec_ok: true });
    let answer = answer(0x81a0, [1, 0, 1], &[A, OPT]);
    assert_eq!(
        written("{common}", &[Class::All], asked(Protocol::Udp, edns), std::slice::from_ref(&answer)),
        "[INFO] [::1]:50759 - 29008 \"A IN www.example. udp 41 true 4096\" NOERROR qr,rd,ra,ad 56 0.037990251s\n"
    );
    assert_eq!(
        written("{local} {combined}", &[Class::All], asked(Protocol::Tcp, None), &[answer]),
        "[INFO] 127.0.0.2 [::1]:50759 - 29008 \"A IN www.example. tcp 41 false 65535\" NOERROR qr,rd,ra,ad 56 \
         0.037990251s \"0\"\n"
    );
}

#[test]
fn answers_are_told_apart_by_what_they_say() {
    let answers = [
        answer(0x8180, [1, 0, 0], &[A]),
        answer(0x8180, [0, 1, 0], &[SOA]),
        answer(0x8183, [0, 1, 0], &[SOA]),
        answer(0x8180, [0, 0, 0], &[]),
        answer(0x8182, [0, 0, 0], &[]),
        answer(0x8185, [0, 0, 0], &[]),
        answer(0x8183, [1, 0, 0], &[A]),
    ];
    let logged = |classes: &[Class]| {
        let text = written("{rcode} {rsize}", classes, asked(Protocol::Udp, None), &answers);
        text.lines().map(|line| line.trim_start_matches("[INFO] ").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(logged(&[Class::Success]), ["NOERROR 56", "NOERROR 29"]);
    // The SOA's names take 9, 12 and 12 bytes, its numbers 20.
    assert_eq!(logged(&[Class::Denial]), ["NOERROR 92", "NXDOMAIN 92"]);
    assert_eq!(logged(&[Class::Error]), ["SERVFAIL 29", "REFUSED 29", "NXDOMAIN 56"]);
    assert_eq!(logged(&[Class::Denial, Class::All]).len(), 7);
}

#[test]
fn a_signature_that_has_expired_makes_an_error_for_who_asks_for_signatures() {
    let signature = |begins: u32, ends: u32| {
        let data =
            [&b"\0\x01\x08\x02\0\0\0\x1e"[..], &ends.to_be_bytes(), &begins.to_be_bytes(), b"\0\x01\0"];
        let fixed = &b"\xc0\x0c\0\x2e\0\x01\0\0\0\x1e\0\x13"[..];
        answer(0x8180, [2, 0, 0], &[A, fixed, &data.concat()])
    };
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() as u32;
    let logged = |dnssec_ok, message: Vec<u8>| {
        let edns = Some(Edns { udp_size: 1232, dnssec_ok });
        !written("x", &[Class::Error], asked(Protocol::Udp, edns), &[message]).is_empty()
    };
    assert!(!logged(true, signature(now - 60, now + 60)));
    assert!(logged(true, signature(now - 120, now - 60)));
    assert!(logged(true, signature(now + 60, now + 120)));
    assert!(!logged(false, signature(now - 120, now - 60)));
}

#[test]
fn what_has_no_name_is_numbered_and_no_name_forges_a_line() {
    let header = Header { id: 1, flags: 0x818b, counts: [1, 0, 0, 0] };
    let message = [&header.bytes()[..], b"\x03a\nb\0\xff\0\0\x07"].concat();
    assert_eq!(
        written("{type} {class} {name} {rcode}", &[Class::All], asked(Protocol::Udp, None), &[message]),
        "[INFO] TYPE65280 CLASS7 a\\010b. DSOTYPENI\n"
    );
}
