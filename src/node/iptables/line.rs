//! What `iptables-save -c` and `iptables -v -S` print, read back: the lines that carry a comment of ours in a chain of
//! ours. The two differ in where they put a rule's counters.

use std::net::{IpAddr, SocketAddr};

use super::rule::{Comment, PLACES, Protocol, Rule, SYN_MASK, Target, chain, table};
use crate::node::rules::Place;

/// A line that is ours or node-cache's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Table and chain.
    pub place: Place,
    /// What follows the chain, letter by letter: with it, and only with it, the line can be deleted.
    pub text: String,
    /// What it says; none: it says something that we never would, so somebody has changed it.
    pub rule: Option<Rule>,
    /// The address of ours that it is about.
    pub address: IpAddr,
    /// Packets that it has matched.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// All lines of ours in the output of `iptables-save -c`, in its order; of `iptables -v -S` if the table is put before
/// it, as `iptables-save` does.
pub fn parse(output: &str) -> Vec<Line> {
    let mut current = "";
    let mut lines = Vec::new();
    for text in output.lines() {
        if let Some(name) = text.strip_prefix('*') {
            current = name.trim();
        } else if let Some(line) = Line::parse(current, text) {
            lines.push(line);
        }
    }
    lines
}

impl Line {
    fn parse(current: &str, line: &str) -> Option<Self> {
        let (before, line) = line.split_at(line.find("-A ")?);
        let (name, text) = line.strip_prefix("-A ")?.split_once(' ')?;
        let place = PLACES.into_iter().find(|place| table(*place) == current && chain(*place) == name)?;
        let (packets, bytes, text) = counters(before, text)?;
        let words = words(&text);
        let comment = after(&words, "--comment").and_then(Comment::of)?;
        let address = after(&words, "-d").or_else(|| after(&words, "-s")).and_then(host)?;
        let rule = read(place, comment, &words);
        Some(Self { place, text, rule, address, packets, bytes })
    }
}

/// `[packets:bytes]` before the rule, or ` -c packets bytes -j` within it; and the rule without them.
fn counters(before: &str, text: &str) -> Option<(u64, u64, String)> {
    let number = |text: &str| text.parse::<u64>().ok();
    if let Some((packets, bytes)) =
        before.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']')?.split_once(':'))
    {
        return Some((number(packets)?, number(bytes)?, text.to_owned()));
    }
    let Some((matches, rest)) = text.rsplit_once("-c ") else { return Some((0, 0, text.to_owned())) };
    let mut rest = rest.splitn(3, ' ');
    match (rest.next().and_then(number), rest.next().and_then(number), rest.next()) {
        (Some(packets), Some(bytes), Some(target)) => Some((packets, bytes, format!("{matches}{target}"))),
        _ => Some((0, 0, text.to_owned())),
    }
}

/// Words between blanks; double quotes hold blanks, a backslash in them the next letter.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if quoted => word.get_or_insert_default().extend(letters.next()),
            blank if blank.is_whitespace() && !quoted => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

fn after<'a>(words: &'a [String], option: &str) -> Option<&'a str> {
    let at = words.iter().position(|word| word == option)?;
    words.get(at + 1).map(String::as_str)
}

/// One address, with or without the length of a whole prefix.
fn host(text: &str) -> Option<IpAddr> {
    let (address, length) =
        text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let address: IpAddr = address.parse().ok()?;
    let whole = if address.is_ipv4() { "32" } else { "128" };
    length.is_none_or(|length| length == whole).then_some(address)
}

fn ports(text: &str) -> Option<(u16, u16)> {
    let Some((first, last)) = text.split_once(':') else {
        let port = text.parse().ok()?;
        return Some((port, port));
    };
    let or = |text: &str, open: u16| if text.is_empty() { Some(open) } else { text.parse().ok() };
    Some((or(first, 0)?, or(last, u16::MAX)?))
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// None: there is something in it that we would not have written.
fn read(place: Place, comment: Comment, words: &[String]) -> Option<Rule> {
    let mut rule = Rule::new(place, comment, Target::Accept);
    let mut target = None;
    let mut negated = false;
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        if word == "!" {
            negated = true;
            continue;
        }
        let is = !std::mem::take(&mut negated);
        if !is && word != "--mark" {
            return None;
        }
        match word {
            "-s" => rule.source = Some(host(words.next()?)?),
            "-d" => rule.destination = Some(host(words.next()?)?),
            "-p" => rule.protocol = Some(protocol(words.next()?)?),
            "-m" => match words.next()? {
                "udp" | "tcp" | "comment" | "mark" | "conntrack" => {}
                "socket" => rule.socket = true,
                _ => return None,
            },
            "--sport" => rule.source_ports = Some(ports(words.next()?)?),
            "--dport" => rule.destination_port = Some(words.next()?.parse().ok()?),
            "--syn" => rule.opening = true,
            "--tcp-flags" => rule.opening = (words.next()?, words.next()?) == (SYN_MASK, "SYN"),
            "--mark" => rule.mark = Some((is, number(words.next()?.trim_end_matches("/0xffffffff"))?)),
            "--ctstate" => rule.translated = words.next()? == "DNAT",
            "--comment" => drop(words.next()?),
            "-j" => target = Some(words.next()?),
            "--notrack" if target == Some("CT") => target = Some("NOTRACK"),
            "--to-destination" => rule.target = Target::Dnat(destination(words.next()?)?),
            _ => return None,
        }
    }
    rule.target = match (target?, rule.target) {
        ("DNAT", server @ Target::Dnat(_)) => server,
        ("NOTRACK", Target::Accept) => Target::Notrack,
        ("ACCEPT", Target::Accept) => Target::Accept,
        ("MASQUERADE", Target::Accept) => Target::Masquerade,
        _ => return None,
    };
    Some(rule)
}

fn protocol(text: &str) -> Option<Protocol> {
    match text {
        "udp" | "17" => Some(Protocol::Udp),
        "tcp" | "6" => Some(Protocol::Tcp),
        _ => None,
    }
}

fn destination(text: &str) -> Option<SocketAddr> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: &str = r#"# Generated by iptables-save v1.8.9
*nat
:PREROUTING ACCEPT [0:0]
[1:60] -A PREROUTING -d 169.254.20.10/32 -p tcp -m tcp --sport 0:46883 --dport 53 --tcp-flags FIN,SYN,RST,ACK SYN -m mark ! --mark 0x53 -m comment --comment "sidestep: cluster DNS while the cache is gone" -j DNAT --to-destination 10.0.0.5:53
COMMIT
*raw
:PREROUTING ACCEPT [0:0]
[7:420] -A PREROUTING -d 169.254.20.10/32 -p udp -m udp --dport 53 -m socket -m comment --comment "NodeLocal DNS Cache: skip conntrack" -j NOTRACK
[0:0] -A PREROUTING -d 10.1.2.3/32 -p udp -m comment --comment "somebody's \"own\" rule" -j NOTRACK
[0:0] -A cali-PREROUTING -d 169.254.20.10/32 -m comment --comment "NodeLocal DNS Cache: skip conntrack" -j NOTRACK
[0:0] -A OUTPUT -s 169.254.20.10/32 -p tcp -m tcp --sport 53 -m comment --comment "NodeLocal DNS Cache: skip conntrack" -m limit --limit 5/sec -j CT --notrack
COMMIT
"#;

    #[test]
    fn lines_of_ours_are_found_by_comment_and_place() {
        let lines = parse(SAVED);
        assert_eq!(lines.len(), 3);
        assert_eq!((lines[1].place, lines[1].packets, lines[1].bytes), (Place::RawPrerouting, 7, 420));
        assert_eq!(lines[2].rule, None, "a limit is nothing we would have written");
        assert_eq!(lines[2].address, "169.254.20.10".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn counters_of_either_program() {
        let saved = "*raw\n[7:420] -A OUTPUT -d 10.0.0.1/32 -m comment --comment \"NodeLocal DNS Cache: skip conntrack\" -j NOTRACK\n";
        let listed = "*raw\n-P OUTPUT ACCEPT -c 1 2\n-A OUTPUT -d 10.0.0.1/32 -m comment --comment \"NodeLocal DNS Cache: skip conntrack\" -c 7 420 -j NOTRACK\n";
        assert_eq!(parse(saved), parse(listed));
        assert_eq!((parse(listed)[0].packets, parse(listed)[0].bytes), (7, 420));
    }

    #[test]
    fn what_a_rule_prints_it_reads_again() {
        for line in &parse(SAVED)[..2] {
            assert_eq!(line.rule.as_ref().unwrap().to_string(), line.text);
        }
    }

    #[test]
    fn spellings_of_other_versions_are_the_same_rule() {
        let one = parse(
            "*raw\n-A OUTPUT -s fd00::10/128 -p tcp -m tcp --sport 53 -m comment --comment \"NodeLocal DNS Cache: skip conntrack\" -j NOTRACK\n",
        );
        let other = parse(
            "*raw\n[0:0] -A OUTPUT -p 6 -s fd00:0::10 -m comment --comment \"NodeLocal DNS Cache: skip conntrack\" -m tcp --sport 53:53 -j CT --notrack\n",
        );
        assert!(one[0].rule.is_some());
        assert_eq!(one[0].rule, other[0].rule);
    }

    #[test]
    fn a_negation_of_ours_that_we_never_make_is_a_changed_rule() {
        let lines = parse(
            "*raw\n-A OUTPUT ! -s 10.0.0.1/32 -p tcp -m comment --comment \"NodeLocal DNS Cache: skip conntrack\" -j NOTRACK\n",
        );
        assert_eq!(lines[0].rule, None);
    }
}
