//! Answers of our own: what ANY gets over UDP, and who we are. They are seldom asked for, so they are made with
//! hickory-proto and go out through the same writer as everything else. And the name of our questions to ourselves.

use std::str::FromStr;
use std::sync::LazyLock;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::{HINFO, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use crate::cache::{Entry, Rules};
use crate::clock::Now;
use crate::wire::query::Question;
use crate::wire::rtype;

use super::Settings;

/// Seconds that the answer to ANY may be kept.
const ANY_TTL: u32 = 3600;

/// The name that we ask ourselves for, `CH TXT`, in wire format: random, another one in each process. Nobody else knows
/// it, so what is asked for it is no client's query; it is refused, and neither counted nor logged.
pub fn probe_name() -> &'static [u8] {
    static NAME: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let token = format!("{:016x}", rand::random::<u64>());
        [b"\x10", token.as_bytes(), b"\x05probe\x08sidestep\0"].concat()
    });
    &NAME
}

/// What ANY gets over UDP: one HINFO record that says why (RFC 8482 section 4.2), so that a small forged query
/// never brings a large answer.
pub fn any(question: Question<'_>, now: Now) -> Option<Entry> {
    let hinfo = HINFO::new("RFC8482".into(), String::new());
    answer(question, DNSClass::IN, ANY_TTL, RData::HINFO(hinfo), now)
}

/// `version.bind` and `id.server` (RFC 4892), as configured; `None`: refused.
pub fn chaos(question: Question<'_>, settings: &Settings, now: Now) -> Option<Entry> {
    let is = |name: &str| {
        Name::from_str(name).is_ok_and(|n| n.to_lowercase() == decode(question.name()).unwrap_or_default())
    };
    let text = if is("version.bind.") || is("version.server.") {
        settings.version.as_ref()
    } else if is("id.server.") || is("hostname.bind.") {
        settings.identity.as_ref()
    } else {
        None
    }?;
    if question.rtype != rtype::TXT && question.rtype != rtype::ANY {
        return None;
    }
    answer(question, DNSClass::CH, 0, RData::TXT(TXT::new(vec![text.clone()])), now)
}

fn decode(name: &[u8]) -> Option<Name> {
    Name::read(&mut BinDecoder::new(name)).ok().map(|n| n.to_lowercase())
}

fn answer(question: Question<'_>, class: DNSClass, ttl: u32, rdata: RData, now: Now) -> Option<Entry> {
    let name = decode(question.name())?;
    let mut query = Query::new();
    query.set_name(name.clone()).set_query_type(question.rtype.into()).set_query_class(class);
    let mut record = Record::from_rdata(name, ttl, rdata);
    record.dns_class = class;
    let mut message = Message::new(0, MessageType::Response, OpCode::Query);
    message.add_query(query);
    message.add_answer(record);
    Entry::from_reply(&message.to_vec().ok()?, &Rules::default(), now).ok()
}
