//! Text with fields of the question in it: the part of Go's template language that rules need.
//!
//! ```text
//! {{ .Name }}  {{ .Zone }}  {{ .Type }}  {{ .Class }}  {{ .Regex }}
//! {{ .Question.Name }}  {{ .Question.Qtype }}  {{ .Question.Qclass }}
//! {{ .Group.NAME }}  {{ index .Group "NAME" }}  {{ index .Match N }}
//! {{ parseInt FIELD BASE BITS }}  {{ "text" }}  {{/* a comment */}}  {{- and -}} take away white space
//! ```
//!
//! Anything else is an error, and says so.

use super::super::pattern::Pattern;
use super::super::record::RECORD_TEXT;
use super::super::refused::{Refused, shown};

/// Text with fields in it; two are equal that were written alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendering {
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field(Field),
    /// A field's number, written in a base, of so many bits at most.
    Number {
        field: Field,
        base: u32,
        bits: u32,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Field {
    Name,
    Zone,
    Type,
    Class,
    Regex,
    TypeNumber,
    ClassNumber,
    Group(String),
    Match(usize),
}

/// What the fields are read from.
pub(super) struct Question<'q> {
    pub zone: String,
    pub name: String,
    pub class: &'q str,
    pub rtype: String,
    /// Class and type.
    pub numbers: (u16, u16),
    pub pattern: &'q str,
    /// The whole match, then each group with its name.
    pub captures: Vec<(Option<&'q str>, String)>,
}

impl Rendering {
    /// Reads a text.
    ///
    /// # Errors
    /// It is too long, or has in it what is not known here.
    pub fn new(text: &str) -> Result<Self, Refused> {
        if text.len() > RECORD_TEXT.max {
            let what = format!("a template of {} bytes is too long", text.len());
            return Err(Refused::new(what, format!("write at most {} bytes", RECORD_TEXT.max)));
        }
        let (mut pieces, mut rest, mut trim) = (Vec::new(), text, false);
        loop {
            let (before, action) = match rest.split_once("{{") {
                Some((before, action)) => (before, Some(action)),
                None => (rest, None),
            };
            let trims = action.is_some_and(|a| a.starts_with('-') && a[1..].starts_with(char::is_whitespace));
            let before = if trim { before.trim_start() } else { before };
            let before = if trims { before.trim_end() } else { before };
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            let Some(action) = action else { break };
            let Some((inside, after)) = action.split_once("}}") else {
                let what = format!("`{}` has a {{{{ that does not end", shown(text));
                return Err(Refused::new(what, "write }} behind the field"));
            };
            trim = inside.ends_with('-') && inside[..inside.len() - 1].ends_with(char::is_whitespace);
            let inside = if trims { &inside[1..] } else { inside };
            let inside = if trim { &inside[..inside.len() - 1] } else { inside };
            pieces.extend(piece(inside.trim())?);
            rest = after;
        }
        Ok(Self { text: text.to_owned(), pieces })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text with the fields filled in. `None` if one cannot be: a match that is not there, a number that is
    /// none.
    pub(super) fn render(&self, question: &Question<'_>) -> Option<String> {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Field(field) => text.push_str(&field.read(question)?),
                Piece::Number { field, base, bits } => {
                    let digits = field.read(question)?;
                    let number =
                        u64::from_str_radix(&digits, *base).ok().filter(|_| !digits.starts_with('+'))?;
                    if *bits < u64::BITS && number >> bits != 0 {
                        return None;
                    }
                    text.push_str(&number.to_string());
                }
            }
        }
        Some(text)
    }

    /// That each group it uses is in one of the patterns.
    ///
    /// # Errors
    /// One is in none.
    pub(super) fn uses_groups_of(&self, patterns: &[Pattern]) -> Result<(), Refused> {
        for field in self.fields() {
            let (known, shown) = match field {
                Field::Group(group) => {
                    let number = group.parse().unwrap_or(usize::MAX);
                    let has = |p: &Pattern| number <= p.groups() || p.group_names().any(|name| name == group);
                    (patterns.iter().any(has), format!(".Group.{group}"))
                }
                Field::Match(place) => {
                    (patterns.iter().any(|p| *place <= p.groups()), format!("index .Match {place}"))
                }
                _ => continue,
            };
            if !known {
                let hint = "name a group of the pattern: (?P<name>...)";
                return Err(Refused::new(format!("no pattern has what {{{{ {shown} }}}} stands for"), hint));
            }
        }
        Ok(())
    }

    /// Whether it depends on what a pattern captured.
    pub(super) fn says_captures(&self) -> bool {
        self.fields().any(|f| matches!(f, Field::Group(_) | Field::Match(_) | Field::Regex))
    }

    /// Whether it depends on the type.
    pub(super) fn says_type(&self) -> bool {
        self.fields().any(|f| matches!(f, Field::Type | Field::TypeNumber))
    }

    /// Whether it depends on the class.
    pub(super) fn says_class(&self) -> bool {
        self.fields().any(|f| matches!(f, Field::Class | Field::ClassNumber))
    }

    fn fields(&self) -> impl Iterator<Item = &Field> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Field(field) | Piece::Number { field, .. } => Some(field),
        })
    }
}

impl Field {
    fn read(&self, question: &Question<'_>) -> Option<String> {
        let captured = |place: usize| question.captures.get(place).map(|(_, text)| text.clone());
        Some(match self {
            Self::Name => question.name.clone(),
            Self::Zone => question.zone.clone(),
            Self::Type => question.rtype.clone(),
            Self::Class => question.class.to_owned(),
            Self::Regex => question.pattern.to_owned(),
            Self::TypeNumber => question.numbers.1.to_string(),
            Self::ClassNumber => question.numbers.0.to_string(),
            Self::Match(place) => captured(*place)?,
            Self::Group(group) => {
                // A name may be a number; the last of a name counts.
                let named = question.captures.iter().rposition(|(name, _)| *name == Some(group.as_str()));
                captured(named.or_else(|| group.parse().ok())?)?
            }
        })
    }
}

/// What stands between the braces; `None` for a comment.
fn piece(inside: &str) -> Result<Option<Piece>, Refused> {
    if inside.starts_with("/*") && inside.ends_with("*/") {
        return Ok(None);
    }
    let unknown = || {
        Refused::new(
            format!("not supported in a template: {{{{ {} }}}}", shown(inside)),
            "known: .Name, .Zone, .Type, .Class, .Regex, .Question.Name, .Question.Qtype, .Question.Qclass, \
             .Group.NAME, index .Group \"NAME\", index .Match N, parseInt FIELD BASE BITS",
        )
    };
    let words: Vec<&str> = inside.split_whitespace().collect();
    let text = |word: &str| {
        let quote = word.chars().next().filter(|c| "\"`".contains(*c))?;
        let text = word.strip_prefix(quote)?.strip_suffix(quote)?;
        (!text.contains(['\\', '"', '`'])).then(|| text.to_owned())
    };
    if let Some(text) = text(inside) {
        return Ok(Some(Piece::Text(text)));
    }
    Ok(Some(match *words.as_slice() {
        ["index", ".Match", place] => Piece::Field(Field::Match(place.parse().map_err(|_| unknown())?)),
        ["index", ".Group", group] => Piece::Field(Field::Group(text(group).ok_or_else(unknown)?)),
        ["parseInt", name, base, bits] => {
            let number = |word: &str| word.parse::<u32>().map_err(|_| unknown());
            let (base, bits) = (number(base)?, number(bits)?);
            let field = field(name).filter(|_| (2..=36).contains(&base) && bits <= 64).ok_or_else(unknown)?;
            Piece::Number { field, base, bits: if bits == 0 { 64 } else { bits } }
        }
        [name] => Piece::Field(field(name).ok_or_else(unknown)?),
        _ => return Err(unknown()),
    }))
}

fn field(word: &str) -> Option<Field> {
    Some(match word {
        ".Name" | ".Question.Name" => Field::Name,
        ".Zone" => Field::Zone,
        ".Type" => Field::Type,
        ".Class" => Field::Class,
        ".Regex" => Field::Regex,
        ".Question.Qtype" => Field::TypeNumber,
        ".Question.Qclass" => Field::ClassNumber,
        _ => {
            let group = word.strip_prefix(".Group.")?;
            let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            (!group.is_empty() && group.chars().all(is_word)).then(|| Field::Group(group.to_owned()))?
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> Question<'static> {
        Question {
            zone: "example.".into(),
            name: "ip-0a-1.example.".into(),
            class: "IN",
            rtype: "A".into(),
            numbers: (1, 1),
            pattern: "p",
            captures: vec![(None, "ip-0a-1.".into()), (Some("a"), "0a".into()), (None, "1".into())],
        }
    }

    #[test]
    fn fields_are_filled_in() {
        for (text, expected) in [
            ("{{ .Name }} 60 {{.Class}} {{ .Type }} x", "ip-0a-1.example. 60 IN A x"),
            ("{{ .Zone }}{{ .Regex }}{{ .Question.Qtype }}{{ .Question.Qclass }}", "example.p11"),
            ("{{ .Group.a }}{{ index .Match 2 }}{{ index .Group \"2\" }}", "0a11"),
            ("{{ parseInt .Group.a 16 8 }}", "10"),
            ("a {{- .Type -}} b {{/* nothing */}}{{ \"{x}\" }}", "aAb {x}"),
            ("plain", "plain"),
        ] {
            let rendering = Rendering::new(text).unwrap();
            assert_eq!(rendering.render(&question()).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_filled_in_is_none() {
        for text in [
            "{{ index .Match 3 }}",
            "{{ .Group.b }}",
            "{{ parseInt .Name 10 8 }}",
            "{{ parseInt .Group.a 16 3 }}",
        ] {
            assert_eq!(Rendering::new(text).unwrap().render(&question()), None, "{text}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for text in [
            "{{ .Name",
            "{{ if .Name }}x{{ end }}",
            "{{ .Remote }}",
            "{{ .Meta \"x\" }}",
            "{{ .Name | printf }}",
            "{{ .Message.Id }}",
            "{{ .Group. }}",
            "{{ index .Match x }}",
            "{{ parseInt .Name 99 8 }}",
            "{{ $x }}",
            "{{ }}",
            "{{-}}",
        ] {
            assert!(Rendering::new(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_rendering_or_not(text in "[-{}. a-zA-Z\"/*é]*") {
            if let Ok(rendering) = Rendering::new(&text) {
                rendering.render(&question());
            }
        }
    }
}
