//! Rules from their words, as they stand in a Corefile behind `rewrite`.

use super::super::pattern::Pattern;
use super::super::refused::{Refused, shown};
use super::super::text;
use super::response::{Back, Undo};
use super::{Matcher, Rewrite, Rule};

/// What a TTL without an upper end goes up to (RFC 2181 section 8).
const TTL_END: u32 = i32::MAX as u32;

/// How names are compared.
const KINDS: [&str; 5] = ["exact", "prefix", "suffix", "substring", "regex"];

impl Rewrite {
    /// A rule from its words: `[continue|stop] KIND ...`, without `rewrite`.
    ///
    /// # Errors
    /// It is no rule that can be followed; [`Refused::word`] says where.
    pub fn from_words(words: &[&str]) -> Result<Self, Refused> {
        let blank = words.iter().position(|word| word.is_empty() || word.contains(char::is_whitespace));
        if let Some(place) = blank {
            return Err(Refused::new("a word with blanks in it, or nothing", "no name has any").at(place));
        }
        let first = words.first().map(|word| word.to_ascii_lowercase());
        let continues = first.as_deref() == Some("continue");
        let skip = usize::from(continues || first.as_deref() == Some("stop"));
        let rule = Rule::from_words(words.get(skip..).unwrap_or_default());
        let rule =
            rule.map_err(|refused| Refused { word: refused.word.map(|word| word + skip), ..refused })?;
        Ok(Self { text: words.join(" "), continues, rule })
    }
}

impl Rule {
    fn from_words(words: &[&str]) -> Result<Self, Refused> {
        let Some((kind, arguments)) = words.split_first() else {
            return Err(Refused::new("a rewrite rule without words", "write: rewrite name FROM TO"));
        };
        let rule = match kind.to_ascii_lowercase().as_str() {
            "name" => name_rule(arguments),
            "type" => two(arguments, "type", text::record_type).map(|(from, to)| Self::Type { from, to }),
            "class" => two(arguments, "class", text::record_class).map(|(from, to)| Self::Class { from, to }),
            "ttl" => ttl_rule(arguments),
            "rcode" => rcode_rule(arguments),
            "cname" => cname_rule(arguments),
            "edns0" => {
                return Err(Refused::new(
                    "not supported: rewrite edns0",
                    "leave the rule out: EDNS options go no further than one hop here",
                )
                .at(0));
            }
            "answer" => {
                return Err(Refused::new(
                    "`answer` stands alone",
                    "put it behind the name rule whose answers it is about",
                )
                .at(0));
            }
            _ => {
                return Err(Refused::new(
                    format!("unknown rewrite rule `{}`", shown(kind)),
                    "known: name, type, class, ttl, rcode, cname",
                )
                .at(0));
            }
        };
        // Those count from the first argument.
        rule.map_err(|refused| Refused { word: refused.word.map(|word| word + 1), ..refused })
    }
}

/// `FROM TO`, `KIND FROM TO answer ...`
fn name_rule(words: &[&str]) -> Result<Rule, Refused> {
    let (matcher, to, rest) = match words {
        [from, to] => (Matcher::Exact(text::normal(from)), to, 2),
        [kind, from, to, ..] => (Matcher::new(kind, from, 0)?, to, 3),
        _ => return Err(few("name", "write: rewrite name FROM TO")),
    };
    if let Matcher::Regex(pattern) = &matcher {
        pattern.fits(to).map_err(|refused| refused.at(rest - 1))?;
    }
    let to = text::normal(to);
    if let Matcher::Exact(from) = &matcher {
        text::name(from).map_err(|refused| refused.at(rest - 2))?;
        text::name(&to).map_err(|refused| refused.at(rest - 1))?;
    }
    let (auto, answers) = answer_rules(words, rest)?;
    let auto = auto || matches!(matcher, Matcher::Exact(_));
    Ok(Rule::Name { matcher, to, auto, answers })
}

/// `answer auto`, `answer name FROM TO`, `answer value FROM TO`, several of them from word number `at` on; the
/// second `answer` may be left out.
fn answer_rules(words: &[&str], mut at: usize) -> Result<(bool, Vec<Undo>), Refused> {
    let (mut auto, mut by_name, mut answers) = (false, false, Vec::new());
    let begin = at;
    while let Some(word) = words.get(at) {
        if *word == "answer" {
            at += 1;
        } else if at == begin {
            return Err(Refused::new(
                format!("`{}` is one word too many for a name rule", shown(word)),
                "what follows the names begins with `answer`",
            )
            .at(at));
        }
        let kind = *words.get(at).ok_or_else(|| few("answer", "write: answer auto|name|value").at(at - 1))?;
        if kind == "auto" {
            auto = true;
            at += 1;
            continue;
        }
        let [from, to] = words.get(at + 1..at + 3).unwrap_or_default() else {
            return Err(
                few("answer", "write: answer auto, answer name FROM TO or answer value FROM TO").at(at)
            );
        };
        let pattern = Pattern::new(from).map_err(|refused| refused.at(at + 1))?;
        pattern.fits(to).map_err(|refused| refused.at(at + 2))?;
        let back = Back::Regex { pattern, to: text::normal(to) };
        answers.push(match kind {
            "name" => {
                by_name = true;
                Undo::Name(back)
            }
            "value" => Undo::Value(back),
            _ => {
                let what = format!("unknown answer rule `{}`", shown(kind));
                return Err(Refused::new(what, "known: auto, name, value").at(at));
            }
        });
        at += 3;
    }
    if auto && by_name {
        let hint = "leave one of them out: both say what owners become";
        return Err(Refused::new("`answer auto` together with `answer name`", hint).at(begin));
    }
    Ok((auto, answers))
}

/// `[KIND] NAME SECONDS`, where the seconds may be a range.
fn ttl_rule(words: &[&str]) -> Result<Rule, Refused> {
    let (matcher, at) = match words {
        [name, _] => (Matcher::Exact(text::normal(name)), 1),
        [kind, name, _] => (Matcher::new(kind, name, 0)?, 2),
        _ => return Err(few("ttl", "write: rewrite ttl [KIND] NAME SECONDS")),
    };
    let wrong = || {
        let what = format!("`{}` is no number of seconds and no range of them", shown(words[at]));
        Refused::new(what, "write 30, 30-300, 30- or -300").at(at)
    };
    let number =
        |text: &str, open| if text.is_empty() { Ok(open) } else { text.parse().map_err(|_| wrong()) };
    let (min, max) = match words[at].split_once('-') {
        None => (number(words[at], 0)?, number(words[at], 0)?),
        Some((min, max)) => (number(min, 0)?, number(max, TTL_END)?),
    };
    if min > max || words[at].is_empty() || words[at] == "-" {
        return Err(wrong());
    }
    Ok(Rule::Ttl { matcher, min, max })
}

/// `[KIND] NAME FROM TO`, response codes.
fn rcode_rule(words: &[&str]) -> Result<Rule, Refused> {
    let (matcher, at) = match words {
        [name, _, _] => (Matcher::Exact(text::normal(name)), 1),
        [kind, name, _, _] => (Matcher::new(kind, name, 0)?, 2),
        _ => return Err(few("rcode", "write: rewrite rcode [KIND] NAME FROM TO")),
    };
    let code = |at: usize| text::response_code(words[at]).map_err(|refused| refused.at(at));
    Ok(Rule::Rcode { matcher, from: code(at)?, to: code(at + 1)? })
}

/// `[KIND] FROM TO`, targets of aliases. Only whole names get a last dot.
fn cname_rule(words: &[&str]) -> Result<Rule, Refused> {
    let (kind, from, to, at) = match *words {
        [from, to] => ("exact", from, to, 0),
        [kind, from, to] => (kind, from, to, 1),
        _ => return Err(few("cname", "write: rewrite cname [KIND] FROM TO")),
    };
    let (from, to) = (from.to_ascii_lowercase(), to.to_ascii_lowercase());
    let matcher = match kind.to_ascii_lowercase().as_str() {
        "exact" => Matcher::Exact(text::normal(&from)),
        "prefix" => Matcher::Prefix(from),
        "suffix" => Matcher::Suffix(from),
        "substring" => Matcher::Substring(from),
        _ => Matcher::new(kind, &from, 0)?,
    };
    match &matcher {
        Matcher::Regex(pattern) => pattern.fits(&to).map_err(|refused| refused.at(at + 1))?,
        Matcher::Exact(_) => drop(text::name(&to).map_err(|refused| refused.at(at + 1))?),
        _ => {}
    }
    Ok(Rule::Cname { matcher, to })
}

impl Matcher {
    /// From words number `at` and the next. Texts that are no patterns get a last dot, as CoreDNS has it.
    fn new(kind: &str, text: &str, at: usize) -> Result<Self, Refused> {
        let normal = text::normal(text);
        Ok(match kind.to_ascii_lowercase().as_str() {
            "exact" => Self::Exact(normal),
            "prefix" => Self::Prefix(normal),
            "suffix" => Self::Suffix(normal),
            "substring" => Self::Substring(normal),
            "regex" => Self::Regex(Pattern::new(text).map_err(|refused| refused.at(at + 1))?),
            _ => {
                let what = format!("unknown way to compare names `{}`", shown(kind));
                return Err(Refused::new(what, format!("known: {}", KINDS.join(", "))).at(at));
            }
        })
    }
}

/// Two values that differ.
fn two(
    words: &[&str],
    kind: &str,
    read: impl Fn(&str) -> Result<u16, Refused>,
) -> Result<(u16, u16), Refused> {
    let &[from, to] = words else {
        return Err(few(kind, &format!("write: rewrite {kind} FROM TO")));
    };
    Ok((read(from).map_err(|refused| refused.at(0))?, read(to).map_err(|refused| refused.at(1))?))
}

fn few(kind: &str, hint: &str) -> Refused {
    Refused::new(format!("a {kind} rule with too few or too many words"), hint)
}
