//! Regular expressions on names, as CoreDNS's users write them: in Go's dialect.
//!
//! Names are ASCII, so that the regex crate works on bytes and needs no tables of other scripts. Its dialect
//! differs from Go's in small things, which are put right before it reads: Go takes a brace that is no
//! repetition, and a bracket or a doubled `-`, `&`, `~` inside of a class, as themselves. What Go knows and the
//! crate does not (`\Q...\E`, `\C`) is an error.

use regex::bytes::{Regex, RegexBuilder};

use super::refused::{Refused, shown};
use crate::limit::Limit;

/// Bytes of a pattern (CoreDNS takes as many).
pub const PATTERN: Limit<usize> = Limit::new(1, 10_000, 10_000);
/// Bytes that a compiled pattern may take.
const COMPILED: usize = 1 << 20;

/// What a pattern matched: the whole, then each group with its name; a group that took no part is empty.
pub type Captures<'p> = Vec<(Option<&'p str>, String)>;

/// A compiled pattern; two are equal that were written alike.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    regex: Regex,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// It is no regular expression, or too large.
    pub fn new(text: &str) -> Result<Self, Refused> {
        if text.len() > PATTERN.max {
            let what = format!("a pattern of {} bytes is too long", text.len());
            return Err(Refused::new(what, format!("write at most {} bytes", PATTERN.max)));
        }
        let built = RegexBuilder::new(&from_go(text)).unicode(false).size_limit(COMPILED).build();
        let regex = built.map_err(|error| {
            // The last line says what is wrong, those before it show where.
            let error = error.to_string();
            let why = error.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            let what = format!("`{}` is no regular expression: {why}", shown(text));
            Refused::new(what, "write it in Go's syntax, without \\Q, \\C and look-arounds")
        })?;
        Ok(Self { text: text.to_owned(), regex })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How many groups it has, the whole match not counted.
    pub fn groups(&self) -> usize {
        self.regex.captures_len() - 1
    }

    /// The names of its groups.
    pub fn group_names(&self) -> impl Iterator<Item = &str> {
        self.regex.capture_names().flatten()
    }

    /// Whether it matches.
    pub fn matches(&self, name: &str) -> bool {
        self.regex.is_match(name.as_bytes())
    }

    /// What it matches.
    pub fn captures<'p>(&'p self, name: &str) -> Option<Captures<'p>> {
        let captures = self.regex.captures(name.as_bytes())?;
        let text = |i| captures.get(i).map_or("".into(), |group| String::from_utf8_lossy(group.as_bytes()));
        Some(self.regex.capture_names().enumerate().map(|(i, name)| (name, text(i).into_owned())).collect())
    }

    /// `to` with `{0}`, `{1}` and so on replaced by what matched, if it matches. What is put in is not looked into
    /// again: a name that a client makes up would grow with each group.
    pub fn replace(&self, name: &str, to: &str) -> Option<String> {
        let groups = self.captures(name)?;
        let (mut text, mut rest) = (String::new(), to);
        while let Some((before, behind)) = rest.split_once('{') {
            text.push_str(before);
            if let Some((group, after)) = group(&groups, behind) {
                text.push_str(group);
                rest = after;
            } else {
                text.push('{');
                rest = behind;
            }
        }
        text.push_str(rest);
        Some(text)
    }

    /// That `to` uses no group that the pattern does not have.
    ///
    /// # Errors
    /// It does.
    pub fn fits(&self, to: &str) -> Result<(), Refused> {
        let groups = self.groups();
        let missing = (groups + 1..=groups + 100).find(|i| to.contains(&format!("{{{i}}}")));
        missing.map_or(Ok(()), |i| {
            let what =
                format!("`{}` uses {{{i}}}, but `{}` has {groups} groups", shown(to), shown(&self.text));
            Err(Refused::new(what, "put what is to be used into parentheses"))
        })
    }
}

/// The group whose number and `}` a text begins with, and what follows them.
fn group<'t>(groups: &'t Captures<'_>, text: &'t str) -> Option<(&'t str, &'t str)> {
    let (digits, after) = text.split_once('}')?;
    let number: usize = digits.parse().ok().filter(|number: &usize| number.to_string() == digits)?;
    groups.get(number).map(|(_, group)| (group.as_str(), after))
}

/// A pattern of Go's as one of the regex crate's; what is the same in both passes as it is.
fn from_go(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let (mut out, mut i, mut class) = (String::with_capacity(text.len()), 0, None);
    while let Some(&c) = chars.get(i) {
        let next = chars.get(i + 1).copied();
        match (c, class) {
            ('\\', _) => {
                // Behind a backslash, what is no letter or digit means itself; the crate knows \< and \>.
                match next {
                    Some(angle @ ('<' | '>')) => out.push(angle),
                    Some(next) => out.extend([c, next]),
                    None => out.push(c),
                }
                i += 1;
            }
            ('[', None) => {
                let negated = next == Some('^');
                class = Some(i + 1 + usize::from(negated));
                out.push_str(if negated { "[^" } else { "[" });
                i += usize::from(negated);
            }
            (']', Some(start)) if i > start => {
                class = None;
                out.push(c);
            }
            ('[', Some(_)) if next == Some(':') => {
                let end = (i + 2..chars.len()).find(|&end| chars[end - 1..=end] == [':', ']']);
                let end = end.unwrap_or(i);
                out.extend(&chars[i..=end]);
                i = end;
            }
            ('[' | ']', Some(_)) => out.extend(['\\', c]),
            ('-' | '&' | '~', Some(start)) if i > start && chars[i - 1] == c => out.extend(['\\', c]),
            ('{', None) if !is_repetition(&chars[i + 1..]) => out.push_str("\\{"),
            _ => out.push(c),
        }
        i += 1;
    }
    out
}

/// Whether `{` and what follows it says how often: `{2}`, `{2,}`, `{2,3}`.
fn is_repetition(rest: &[char]) -> bool {
    let Some(end) = rest.iter().position(|&c| c == '}') else { return false };
    let digits = |digits: &[char]| digits.iter().all(char::is_ascii_digit);
    match rest[..end].iter().position(|&c| c == ',') {
        None => end > 0 && digits(&rest[..end]),
        Some(comma) => comma > 0 && digits(&rest[..comma]) && digits(&rest[comma + 1..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gos_dialect_is_understood() {
        for (pattern, name, matches) in [
            (r"^ip-(?P<a>[0-9]+)\.example\.$", "ip-10.example.", true),
            (r"^(?<a>\d{1,3})\.$", "123.", true),
            (r"^a{b}\.$", "a{b}.", true),
            (r"^a{2}\.$", "aa.", true),
            (r"^[[a]+\.$", "[a.", true),
            (r"^[[:digit:]x]+\.$", "1x.", true),
            (r"^[]a]+\.$", "]a.", true),
            (r"^[^]a]+$", "b.", true),
            (r"^[a&&b]+\.$", "a&b.", true),
            (r"^[+--]+\.$", "+,-.", true),
            (r"^\<a\>\.$", "<a>.", true),
            (r"(^|[.])example\.com\.$", "www.example.com.", true),
            (r"(^|[.])example\.com\.$", "wwwexample.com.", false),
            ("(?i)WWW", "www.", true),
            (r"\.$\z", "a.", true),
        ] {
            assert_eq!(Pattern::new(pattern).unwrap().matches(name), matches, "{pattern}");
        }
    }

    #[test]
    fn what_cannot_be_compiled_is_refused() {
        let long = "a".repeat(10_001);
        for pattern in ["(", "a**(", "[a", r"\Qa\E", "(?=a)", "a{1001}{1000}", &long, r"\pN{9}x\p{Greek}"] {
            assert!(Pattern::new(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn groups_are_put_into_the_replacement() {
        let pattern = Pattern::new(r"^(.*)-(us|eu)\.(x)?").unwrap();
        assert_eq!(pattern.replace("web-us.", "{2}.{1}.{0}{3}").as_deref(), Some("us.web.web-us."));
        assert_eq!(pattern.replace("web.", "{1}"), None);
        assert!(pattern.fits("{3}{0}").is_ok());
        assert!(pattern.fits("{4}").unwrap_err().what.contains("{4}"));
    }

    #[test]
    fn what_a_client_puts_into_a_name_is_no_group() {
        let pattern = Pattern::new(r"^(.*)\.(.*)\.(.*)\.$").unwrap();
        let name = "{2}{2}{2}.{3}{3}{3}.{0}{0}{0}.";
        assert_eq!(pattern.replace(name, "{1}.x").as_deref(), Some("{2}{2}{2}.x"));
        assert_eq!(pattern.replace("a.b.c.", "{{1}{01}{9}{").as_deref(), Some("{a{01}{9}{"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_pattern_or_not(text in r"[-\\\[\](){}*+?.|^$&~:,<>=!a-dPQ0-3é]{0,24}") {
            if let Ok(pattern) = Pattern::new(&text) {
                pattern.captures("a-b.1[c].");
                drop(pattern.fits("{0}{1}{2}"));
            }
        }
    }
}
