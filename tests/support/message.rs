//! Messages put together byte by byte, so that tests can say exactly what is on the wire, right or wrong.

/// QR, RD, RA: what a resolver's reply has.
pub const REPLY: u16 = 0x8180;
/// The pointer to the question's name.
pub const QNAME: &[u8] = b"\xc0\x0c";

/// A name in wire format, without compression; "." is the root.
pub fn name(text: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in text.split('.').filter(|l| !l.is_empty()) {
        wire.push(label.len() as u8);
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    wire
}

/// A question of class IN.
pub fn question(text: &str, rtype: u16) -> Vec<u8> {
    [&name(text)[..], &rtype.to_be_bytes(), &[0, 1]].concat()
}

/// A record of class IN. `owner` is in wire format, a pointer maybe.
pub fn record(owner: &[u8], rtype: u16, ttl: u32, rdata: &[u8]) -> Vec<u8> {
    let len = (rdata.len() as u16).to_be_bytes();
    [owner, &rtype.to_be_bytes(), &[0, 1], &ttl.to_be_bytes(), &len, rdata].concat()
}

/// An address of the question's name.
pub fn a(ttl: u32, last: u8) -> Vec<u8> {
    record(QNAME, 1, ttl, &[192, 0, 2, last])
}

/// A CNAME of the question's name.
pub fn cname(ttl: u32, target: &str) -> Vec<u8> {
    record(QNAME, 5, ttl, &name(target))
}

/// The SOA of `zone`.
pub fn soa(zone: &str, ttl: u32, minimum: u32) -> Vec<u8> {
    let numbers: Vec<u8> =
        [1, 7200, 1800, 86_400, minimum].iter().flat_map(|n: &u32| n.to_be_bytes()).collect();
    record(&name(zone), 6, ttl, &[&name("ns")[..], &name("admin"), &numbers].concat())
}

/// An OPT record; `ttl` holds the upper response code, the version and the flags.
pub fn opt(size: u16, ttl: u32, options: &[u8]) -> Vec<u8> {
    let len = (options.len() as u16).to_be_bytes();
    [&[0, 0, 41][..], &size.to_be_bytes(), &ttl.to_be_bytes(), &len, options].concat()
}

/// One EDNS option.
pub fn option(code: u16, data: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes()[..], &(data.len() as u16).to_be_bytes(), data].concat()
}

/// A message of these parts.
pub fn message(id: u16, flags: u16, question: &[u8], sections: [&[Vec<u8>]; 3]) -> Vec<u8> {
    let mut out = Vec::new();
    let count = |section: &[Vec<u8>]| section.len() as u16;
    let [answer, authority, additional] = sections;
    for word in
        [id, flags, u16::from(!question.is_empty()), count(answer), count(authority), count(additional)]
    {
        out.extend(word.to_be_bytes());
    }
    out.extend_from_slice(question);
    sections.into_iter().flatten().for_each(|r| out.extend_from_slice(r));
    out
}

/// A reply to a question, with these answers.
pub fn reply(question: &[u8], answers: &[Vec<u8>]) -> Vec<u8> {
    message(0, REPLY, question, [answers, &[], &[]])
}

/// A negative reply: response code and authority section.
pub fn negative(question: &[u8], rcode: u16, answers: &[Vec<u8>], authority: &[Vec<u8>]) -> Vec<u8> {
    message(0, REPLY | rcode, question, [answers, authority, &[]])
}

/// A query, with OPT if there is one.
pub fn query(id: u16, flags: u16, question: &[u8], opt: Option<Vec<u8>>) -> Vec<u8> {
    message(id, flags, question, [&[], &[], opt.as_slice()])
}

/// The response code in the header.
pub fn rcode(message: &[u8]) -> u16 {
    u16::from(message[3] & 0x0f)
}

/// A word of the header: 0 id, 1 flags, 2 to 5 the counts.
pub fn word(message: &[u8], i: usize) -> u16 {
    u16::from_be_bytes([message[2 * i], message[2 * i + 1]])
}

/// The TTLs and data of all records but OPT, in order.
pub fn records(message: &[u8]) -> Vec<(u16, u32, Vec<u8>)> {
    sidestep::wire::records::walk(message)
        .expect("a message")
        .map(|r| r.expect("a record"))
        .filter(|r| r.rtype != 41)
        .map(|r| (r.rtype, r.ttl, message[r.rdata].to_vec()))
        .collect()
}

/// UDP size, the TTL's four bytes, the options.
pub type Opt = (u16, u32, Vec<(u16, Vec<u8>)>);

/// The OPT record.
pub fn opt_of(message: &[u8]) -> Option<Opt> {
    let found = sidestep::wire::records::walk(message).expect("a message").map(|r| r.expect("a record"));
    let opt = found.filter(|r| r.rtype == 41).collect::<Vec<_>>();
    assert!(opt.len() <= 1, "one OPT at most");
    let opt = opt.into_iter().next()?;
    let options = sidestep::wire::records::options(&message[opt.rdata.clone()])
        .map(|o| o.expect("an option"))
        .map(|(code, data)| (code, data.to_vec()))
        .collect();
    Some((opt.class, opt.ttl, options))
}

/// The extended errors (RFC 8914) of a message.
pub fn extended_errors(message: &[u8]) -> Vec<u16> {
    let options = opt_of(message).map_or_else(Vec::new, |(_, _, options)| options);
    options.iter().filter(|(code, _)| *code == 15).map(|(_, d)| u16::from_be_bytes([d[0], d[1]])).collect()
}
