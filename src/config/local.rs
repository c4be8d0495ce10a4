//! The keys of a zone's own rules that are no plain values: `rewrite`, `template`, `records`, `hosts` and `dns64`.
//!
//! Each is read as text first and then by the stage that it is for, so that a Corefile and a file in TOML mean the same.

use std::path::PathBuf;
use std::time::Duration;

use super::element::Element;
use super::keys::{self, Keys};
use super::kinds::{Kind, Node, mistyped, quoted};
use super::problem::{Fault, Wrong, shown};
use crate::local::hosts::{HOSTS_RELOAD, HOSTS_TTL};
use crate::local::records::RECORDS;
use crate::local::{
    Dns64, Hosts, Pattern, Prefix, Records, Refused, Rendering, Rewrite, Table, Template, Zones, text,
};

/// Reads a rule of `rewrite`.
pub(super) fn parse_rewrite(text: &str) -> Result<Rewrite, Wrong> {
    let words: Vec<&str> = text.split_whitespace().collect();
    Ok(Rewrite::from_words(&words)?)
}

fn zones(texts: &[String]) -> Result<Zones, Refused> {
    Zones::parse(texts.iter().map(String::as_str))
}

/// A template while it is read.
#[derive(Debug)]
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

impl Element for WrittenTemplate {
    type Value = Template;
    const KEY: &'static str = "zone.template";
    const EXAMPLE: &'static str = "write { type = \"A\", answer = [\"{{ .Name }} 60 IN A 192.0.2.1\"] }";

    fn keys(&mut self, keys: &mut impl Keys) -> Result<(), Fault> {
        keys::template(self, keys)
    }

    fn finish(self) -> Result<Template, Wrong> {
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

    fn of(template: &Template) -> Self {
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

/// Hosts entries while they are read.
#[derive(Debug)]
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

impl Element for WrittenHosts {
    type Value = Hosts;
    const KEY: &'static str = "zone.hosts";
    const EXAMPLE: &'static str = "write { file = \"/etc/hosts\" }, or \"off\"";

    fn keys(&mut self, keys: &mut impl Keys) -> Result<(), Fault> {
        keys::hosts(self, keys)
    }

    fn finish(self) -> Result<Hosts, Wrong> {
        let is_none = |entry: &&String| {
            let table = Table::parse(entry);
            table.entries() == 0 || table.skipped() > 0
        };
        if let Some(entry) = self.entries.iter().find(is_none) {
            let what = format!("`{}` is no address with names", shown(entry));
            return Err(Wrong::new(what, "write entries like \"192.0.2.1 db.example\""));
        }
        let inline = Table::parse(&self.entries.join("\n"));
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

    fn of(hosts: &Hosts) -> Self {
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

impl Element for Dns64 {
    type Value = Self;
    const KEY: &'static str = "zone.dns64";
    const EXAMPLE: &'static str = "write { prefix = \"64:ff9b::/96\" }, or \"off\"";

    fn keys(&mut self, keys: &mut impl Keys) -> Result<(), Fault> {
        keys::dns64(self, keys)
    }

    fn finish(self) -> Result<Self, Wrong> {
        Ok(self)
    }

    fn of(dns64: &Self) -> Self {
        *dns64
    }
}

/// Reads the prefix of `dns64`.
pub(super) fn parse_prefix(text: &str) -> Result<Prefix, Wrong> {
    Ok(Prefix::parse(text)?)
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
            Fault::at(place.span(), refused.into())
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
