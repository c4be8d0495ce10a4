//! What a line of the query log says: words with placeholders, as CoreDNS's `log` has them.

use std::fmt;

use crate::local::Refused;

/// What stands for `{common}`.
const COMMON: &str = "{remote}:{port} - {>id} \"{type} {class} {name} {proto} {size} {>do} {>bufsize}\" \
                      {rcode} {>rflags} {rsize} {duration}";
/// What stands for `{combined}`: with the opcode.
const OPCODE: &str = " \"{>opcode}\"";

/// A thing that can be said of a query and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The type that is asked for.
    Type,
    /// The name, in lower case, with its last dot.
    Name,
    /// The class.
    Class,
    /// `udp` or `tcp`.
    Protocol,
    /// The client's address, in brackets if it is IPv6.
    Remote,
    /// Our address, likewise.
    Local,
    /// Bytes of the query.
    Size,
    /// The client's port.
    Port,
    /// Seconds from the query to its answer.
    Duration,
    /// The response code.
    ResponseCode,
    /// Bytes of the answer, if it were not compressed.
    ResponseSize,
    /// The flags of the answer.
    Flags,
    /// The largest answer that the client takes, in bytes.
    BufferSize,
    /// Whether the query has the DO bit (RFC 3225).
    DnssecOk,
    /// The id.
    Id,
    /// The opcode.
    Opcode,
}

const FIELDS: [(&str, Field); 16] = [
    ("type", Field::Type),
    ("name", Field::Name),
    ("class", Field::Class),
    ("proto", Field::Protocol),
    ("remote", Field::Remote),
    ("local", Field::Local),
    ("size", Field::Size),
    ("port", Field::Port),
    ("duration", Field::Duration),
    ("rcode", Field::ResponseCode),
    ("rsize", Field::ResponseSize),
    (">rflags", Field::Flags),
    (">bufsize", Field::BufferSize),
    (">do", Field::DnssecOk),
    (">id", Field::Id),
    (">opcode", Field::Opcode),
];

/// A part of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// As it stands.
    Text(String),
    /// What is known of a query.
    Field(Field),
}

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    text: String,
    parts: Vec<Part>,
}

impl Default for Format {
    /// `{common}`
    fn default() -> Self {
        Self { text: "{common}".to_owned(), parts: split(COMMON) }
    }
}

impl Format {
    /// Reads a format. Braces around what is no placeholder stand for themselves.
    ///
    /// # Errors
    /// It has a label of metadata: `{/...}`.
    pub fn new(text: &str) -> Result<Self, Refused> {
        let whole = text.replace("{common}", COMMON).replace("{combined}", &[COMMON, OPCODE].concat());
        let labels = whole.split("{/").skip(1).filter_map(|rest| rest.split_once('}'));
        if let Some((label, _)) = labels.into_iter().find(|(label, _)| !label.contains('{')) {
            let what = format!("`{{/{}}}` is a label of metadata, which is not kept", label.escape_debug());
            return Err(Refused::new(
                what,
                "leave it out; `class` chooses queries by what they were answered",
            ));
        }
        Ok(Self { text: text.to_owned(), parts: split(&whole) })
    }

    /// The same where labels of metadata are let pass: each is a dash, as it is in CoreDNS where nothing gives it a value.
    ///
    /// # Errors
    /// None that a label is the reason for.
    pub fn without_labels(text: &str) -> Result<Self, Refused> {
        let mut plain = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{/") {
            plain.push_str(before);
            match after.split_once('}').filter(|(label, _)| !label.contains('{')) {
                Some((_, behind)) => {
                    plain.push('-');
                    rest = behind;
                }
                None => {
                    plain.push_str("{/");
                    rest = after;
                }
            }
        }
        plain.push_str(rest);
        Self::new(&plain)
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it consists of.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The parts of a format. A placeholder begins at the last brace before the one that closes it.
fn split(mut rest: &str) -> Vec<Part> {
    let (mut parts, mut text) = (Vec::new(), String::new());
    while let Some((before, after)) = rest.split_once('}') {
        let placeholder = before.rsplit_once('{').and_then(|(before, word)| {
            FIELDS.iter().find(|(known, _)| *known == word).map(|&(_, field)| (before, field))
        });
        match placeholder {
            Some((before, field)) => {
                text.push_str(before);
                if !text.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut text)));
                }
                parts.push(Part::Field(field));
            }
            None => text.extend([before, "}"]),
        }
        rest = after;
    }
    text.push_str(rest);
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Part {
        Part::Text(text.to_owned())
    }

    #[test]
    fn placeholders_are_found_between_what_stands_for_itself() {
        let format = Format::new("} { {type}{>id} {other} {NAME} x{name").unwrap();
        assert_eq!(
            format.parts(),
            [text("} { "), Part::Field(Field::Type), Part::Field(Field::Id), text(" {other} {NAME} x{name")]
        );
        assert_eq!(Format::new("").unwrap().parts(), []);
    }

    #[test]
    fn the_common_format_has_a_name_and_may_be_part_of_another() {
        let common = Format::default();
        assert_eq!(Format::new("{common}").unwrap(), common);
        let more = Format::new("> {common}").unwrap();
        assert_eq!(more.parts()[0], text("> "));
        assert_eq!(more.parts()[1..], *common.parts());
        let combined = Format::new("{combined}").unwrap();
        assert_eq!(combined.parts()[..common.parts().len()], *common.parts());
        assert!(combined.parts().contains(&Part::Field(Field::Opcode)) && combined.text() == "{combined}");
    }

    #[test]
    fn metadata_is_refused() {
        assert!(
            Format::new("{name} {/log/class}").unwrap_err().what.starts_with("`{/log/class}` is a label")
        );
        assert!(Format::new("{/ {name}").is_ok(), "no label: nothing closes it");
        let let_pass = Format::without_labels("{name} {/log/class}, {/ {type} {/a}{/b").unwrap();
        assert_eq!(let_pass, Format::new("{name} -, {/ {type} -{/b").unwrap());
    }
}
