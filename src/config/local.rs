//! The keys of a zone's own rules that are no plain values: `rewrite`, `template`, `records`, `hosts` and `dns64`.
//!
//! Each is read as text first and then by the stage that it is for, so that a Corefile and a file in TOML mean the same.

use std::path::PathBuf;
use std::time::Duration;

use super::file::{self, Reader};
use super::keys::{self, Names};
use super::kinds::{Kind, Node, Places, mistyped, quoted};
use super::print::Inline;
use super::problem::{Fault, Wrong};
use crate::local::hosts::{HOSTS_RELOAD, HOSTS_TTL};
use crate::local::records::RECORDS;
use crate::local::{
    Dns64, Hosts, Pattern, Prefix, Records, Refused, Rendering, Rewrite, Table, Template, Zones, text,
};
use toml::de::DeTable;

/// What is refused, as people read it.
fn wrong(refused: Refused) -> Wrong {
    Wrong::new(refused.what, refused.hint)
}

/// Reads a rule of `rewrite`.
pub(super) fn parse_rewrite(text: &str) -> Result<Rewrite, Wrong> {
    let words: Vec<&str> = text.split_whitespace().collect();
    Rewrite::from_words(&words).map_err(wrong)
}

/// The table that a value has to be, with no other keys than `names`.
fn table<'n, 't>(node: &'n Node<'t>, example: &str, names: &Names) -> Result<&'n DeTable<'t>, Fault> {
    let table = node.get_ref().as_table().ok_or_else(|| mistyped(node, "a table", example))?;
    file::refuse_unknown(table, "an entry", &names.0)?;
    Ok(table)
}

fn zones(texts: &[String]) -> Result<Zones, Refused> {
    Zones::parse(texts.iter().map(String::as_str))
}

/// A template while it is read.
#[derive(Clone, Debug)]
pub(super) struct WrittenTemplate {
    pub class: String,
    pub rtype: String,
    pub zones: Vec<String>,
    pub patterns: Vec<String>,
    pub sections: [Vec<String>; 3],
    pub rcode: String,
    /// A number and perhaps words; empty is none.
    pub error: String,
    pub fallthrough: Vec<String>,
}

impl Default for WrittenTemplate {
    fn default() -> Self {
        Self {
            class: "IN".to_owned(),
            rtype: "ANY".to_owned(),
            zones: vec![".".to_owned()],
            patterns: Vec::new(),
            sections: Default::default(),
            rcode: text::code_name(0),
            error: String::new(),
            fallthrough: Vec::new(),
        }
    }
}

impl From<&Template> for WrittenTemplate {
    fn from(template: &Template) -> Self {
        let rtype = text::type_name(template.rtype);
        Self {
            class: text::class_name(template.class).to_owned(),
            rtype: if rtype.is_empty() { format!("TYPE{}", template.rtype) } else { rtype },
            zones: template.zones.texts(),
            patterns: template.patterns.iter().map(|pattern| pattern.text().to_owned()).collect(),
            sections: template
                .sections
                .each_ref()
                .map(|section| section.iter().map(|rendering| rendering.text().to_owned()).collect()),
            rcode: text::code_name(template.rcode),
            error: template.error.as_ref().map_or(String::new(), |(code, reason)| format!("{code} {reason}")),
            fallthrough: template.fallthrough.texts(),
        }
    }
}

impl WrittenTemplate {
    fn settle(&self) -> Result<Template, Refused> {
        let class = text::record_class(&self.class)?;
        let mut template = Template::new(class, text::record_type(&self.rtype)?, zones(&self.zones)?);
        for pattern in &self.patterns {
            template.patterns.push(Pattern::new(pattern)?);
        }
        for (section, texts) in template.sections.iter_mut().zip(&self.sections) {
            for text in texts {
                section.push(Rendering::new(text)?);
            }
        }
        template.rcode = text::response_code(&self.rcode)?;
        template.fallthrough = zones(&self.fallthrough)?;
        if !self.error.is_empty() {
            let (code, reason) = self.error.split_once(' ').unwrap_or((&self.error, ""));
            let code = code.parse().map_err(|_| {
                Refused::new("an extended error without its number", "write it like \"15 blocked\"")
            })?;
            template.error = Some((code, reason.to_owned()));
        }
        template.check()?;
        Ok(template)
    }
}

/// A table that is a template.
pub(super) struct TemplateEntry;

impl Kind for TemplateEntry {
    type Value = Template;

    fn read(&self, node: &Node<'_>) -> Result<Template, Fault> {
        let mut written = WrittenTemplate::default();
        let mut names = Names::default();
        keys::template(&mut written.clone(), &mut names)?;
        let table =
            table(node, "write { type = \"A\", answer = [\"{{ .Name }} 60 IN A 192.0.2.1\"] }", &names)?;
        let mut reader = Reader { table, path: "zone.template", places: &mut Places::new() };
        keys::template(&mut written, &mut reader)?;
        written.settle().map_err(|refused| Fault::at(node.span(), wrong(refused)))
    }

    fn write(&self, value: &Template) -> String {
        Inline::of(|keys| keys::template(&mut value.into(), keys))
    }
}

/// Hosts entries while they are read.
#[derive(Clone, Debug)]
pub(super) struct WrittenHosts {
    pub zones: Vec<String>,
    /// Empty is none.
    pub file: String,
    pub reload: Duration,
    pub entries: Vec<String>,
    pub ttl: u32,
    pub reverse: bool,
    pub fallthrough: Vec<String>,
}

impl Default for WrittenHosts {
    fn default() -> Self {
        Self {
            zones: vec![".".to_owned()],
            file: String::new(),
            reload: HOSTS_RELOAD.default,
            entries: Vec::new(),
            ttl: HOSTS_TTL.default,
            reverse: true,
            fallthrough: Vec::new(),
        }
    }
}

impl From<&Hosts> for WrittenHosts {
    fn from(hosts: &Hosts) -> Self {
        Self {
            zones: hosts.zones.texts(),
            file: hosts.file.as_ref().map_or(String::new(), |file| file.display().to_string()),
            reload: hosts.reload,
            entries: hosts.inline.lines(),
            ttl: hosts.ttl,
            reverse: hosts.reverse,
            fallthrough: hosts.fallthrough.texts(),
        }
    }
}

impl WrittenHosts {
    fn settle(self) -> Result<Hosts, Refused> {
        let inline = Table::parse(&self.entries.join("\n"));
        if inline.skipped() > 0 {
            return Err(Refused::new("an entry that is none", "write them like \"192.0.2.1 db.example\""));
        }
        Ok(Hosts {
            file: (!self.file.is_empty()).then(|| PathBuf::from(&self.file)),
            reload: self.reload,
            inline,
            ttl: self.ttl,
            reverse: self.reverse,
            fallthrough: zones(&self.fallthrough)?,
            ..Hosts::new(zones(&self.zones)?)
        })
    }
}

/// A table that is hosts entries.
pub(super) struct HostsEntry;

impl Kind for HostsEntry {
    type Value = Hosts;

    fn read(&self, node: &Node<'_>) -> Result<Hosts, Fault> {
        let mut written = WrittenHosts::default();
        let mut names = Names::default();
        keys::hosts(&mut written.clone(), &mut names)?;
        let table = table(node, "write { file = \"/etc/hosts\" }, or \"off\"", &names)?;
        let mut reader = Reader { table, path: "zone.hosts", places: &mut Places::new() };
        keys::hosts(&mut written, &mut reader)?;
        written.settle().map_err(|refused| Fault::at(node.span(), wrong(refused)))
    }

    fn write(&self, value: &Hosts) -> String {
        Inline::of(|keys| keys::hosts(&mut value.into(), keys))
    }
}

/// A table that is dns64.
pub(super) struct Dns64Entry;

impl Kind for Dns64Entry {
    type Value = Dns64;

    fn read(&self, node: &Node<'_>) -> Result<Dns64, Fault> {
        let mut dns64 = Dns64::default();
        let mut names = Names::default();
        keys::dns64(&mut dns64, &mut names)?;
        let table = table(node, "write { prefix = \"64:ff9b::/96\" }, or \"off\"", &names)?;
        keys::dns64(&mut dns64, &mut Reader { table, path: "zone.dns64", places: &mut Places::new() })?;
        Ok(dns64)
    }

    fn write(&self, value: &Dns64) -> String {
        Inline::of(|keys| keys::dns64(&mut value.clone(), keys))
    }
}

/// Reads the prefix of `dns64`.
pub(super) fn parse_prefix(text: &str) -> Result<Prefix, Wrong> {
    Prefix::parse(text).map_err(wrong)
}

/// Records in text; an empty list is none.
pub(super) struct RecordLines;

impl Kind for RecordLines {
    type Value = Option<Records>;

    fn read(&self, node: &Node<'_>) -> Result<Self::Value, Fault> {
        const EXAMPLE: &str = "write [\"db.example 60 IN A 192.0.2.1\"]";
        let nodes = node.get_ref().as_array().ok_or_else(|| mistyped(node, "a list of records", EXAMPLE))?;
        let mut lines = Vec::new();
        for node in nodes.iter() {
            lines.push(node.get_ref().as_str().ok_or_else(|| mistyped(node, "a record", EXAMPLE))?);
        }
        if lines.is_empty() {
            return Ok(None);
        }
        Records::parse(lines).map(Some).map_err(|refused| {
            let place = refused.word.and_then(|word| nodes.get(word)).unwrap_or(node);
            Fault::at(place.span(), wrong(refused))
        })
    }

    fn write(&self, value: &Self::Value) -> String {
        let lines = value.iter().flat_map(|records| records.lines());
        format!("[{}]", lines.map(|line| quoted(line)).collect::<Vec<_>>().join(", "))
    }

    fn limits(&self) -> Option<[String; 2]> {
        Some([RECORDS.min.to_string(), RECORDS.max.to_string()])
    }
}
