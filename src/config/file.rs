//! From TOML text to settings: every key is looked for by name, what is left over is refused.
//!
//! The TOML is parsed into a tree that knows where each value stands, and the tree is walked by the list of
//! [keys]. Derived serde structs would name every key a second time, and a third time for
//! printing, and lose the place of a value by the time it is checked.

use toml::Spanned;
use toml::de::{DeString, DeTable};

use super::Config;
use super::keys::{self, Keys, Names, Section};
use super::kinds::{Kind, Node, Places, mistyped};
use super::problem::{Fault, Place, Problem, Wrong, shown};
use super::zone::WrittenZone;
use crate::resolve::zones::ZONES;

/// What a source says, before flags.
pub(super) struct Written {
    /// Everything but the zones.
    pub config: Config,
    /// The zones.
    pub zones: Vec<WrittenZone>,
    /// Where each key that was given stands.
    pub places: Places,
}

/// Reads a whole file.
pub(super) fn read(text: &str, origin: &str) -> Result<Written, Problem> {
    let document = DeTable::parse(text).map_err(|e| {
        let what = format!("{}; see https://toml.io", e.message());
        Problem::in_text(origin, text, e.span().unwrap_or(0..0), what)
    })?;
    let mut written = Written { config: Config::bare(), zones: Vec::new(), places: Places::new() };
    written.sections(document.get_ref()).map_err(|fault| problem(origin, text, &fault))?;
    Ok(written)
}

/// A fault as people read it.
fn problem(origin: &str, text: &str, fault: &Fault) -> Problem {
    let what = match fault.key.as_str() {
        "" => fault.wrong.to_string(),
        key => format!("{key}: {}", fault.wrong),
    };
    match &fault.span {
        Some(span) => Problem::in_text(origin, text, span.clone(), what),
        None => Problem::new(origin, what),
    }
}

impl Written {
    fn sections(&mut self, document: &DeTable<'_>) -> Result<(), Fault> {
        let known: Vec<&str> = Section::ALL.iter().map(|s| s.name()).chain(["zone"]).collect();
        if let Some(key) = first_unknown(document, &known) {
            return Err(Fault::at(key.span(), unknown_section(key.get_ref(), known)));
        }
        for section in Section::ALL {
            if let Some(node) = document.get(section.name()) {
                self.section(section, node)?;
            }
        }
        match document.get("zone") {
            Some(node) => self.zones(node),
            None => Ok(()),
        }
    }

    fn section(&mut self, section: Section, node: &Node<'_>) -> Result<(), Fault> {
        let name = section.name();
        let Some(table) = node.get_ref().as_table() else {
            return Err(mistyped(node, "a section", &format!("write [{name}]")).of(name));
        };
        let mut names = Names::default();
        section.keys(&mut Config::bare(), &mut names)?;
        refuse_unknown(table, &format!("[{name}]"), &names.0)?;
        let mut reader = Reader { table, path: name, places: &mut self.places };
        section.keys(&mut self.config, &mut reader)
    }

    fn zones(&mut self, node: &Node<'_>) -> Result<(), Fault> {
        let Some(nodes) = node.get_ref().as_array() else {
            return Err(mistyped(node, "a list of zones", "write [[zone]]").of("zone"));
        };
        if nodes.len() > ZONES.max {
            let wrong = Wrong::bounds(format!("{} zones", nodes.len()), 0, ZONES.max);
            return Err(Fault::at(node.span(), wrong));
        }
        let mut names = Names::default();
        keys::zone(&mut WrittenZone::default(), &mut names)?;
        for (index, node) in nodes.iter().enumerate() {
            let Some(table) = node.get_ref().as_table() else {
                return Err(mistyped(node, "a table", "write [[zone]]").of("zone"));
            };
            refuse_unknown(table, "[[zone]]", &names.0)?;
            let mut zone = WrittenZone::default();
            let path = format!("zone[{index}]");
            keys::zone(&mut zone, &mut Reader { table, path: &path, places: &mut self.places })?;
            if zone.name.is_none() {
                let wrong =
                    Wrong::new("a zone without a name", "add `name = \"cluster.local\"`, or \".\" for all");
                return Err(Fault::at(node.span(), wrong));
            }
            self.places.insert(path, Place::Toml(node.span()));
            self.zones.push(zone);
        }
        Ok(())
    }
}

/// Reads the keys of one table.
pub(super) struct Reader<'n, 't> {
    pub table: &'n DeTable<'t>,
    /// The way to the table, as places are named.
    pub path: &'n str,
    pub places: &'n mut Places,
}

impl Keys for Reader<'_, '_> {
    fn key<K: Kind>(&mut self, name: &'static str, kind: &K, setting: &mut K::Value) -> Result<(), Fault> {
        let Some(node) = self.table.get(name) else { return Ok(()) };
        // `zone[2].name` is a place; people are told `zone.name` and the line.
        let section = self.path.split('[').next().unwrap_or_default();
        *setting = kind.read(node).map_err(|fault| fault.of(&format!("{section}.{name}")))?;
        self.places.insert(format!("{}.{name}", self.path), Place::Toml(node.span()));
        Ok(())
    }
}

/// The first key, in the order of the file, that is not known.
fn first_unknown<'n, 't>(table: &'n DeTable<'t>, known: &[&str]) -> Option<&'n Spanned<DeString<'t>>> {
    table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())).min_by_key(|key| key.span().start)
}

pub(super) fn refuse_unknown(table: &DeTable<'_>, place: &str, known: &[&'static str]) -> Result<(), Fault> {
    let Some(key) = first_unknown(table, known) else { return Ok(()) };
    let what = format!("unknown key `{}` in {place}", shown(key.get_ref()));
    let wrong = match home(key.get_ref()) {
        Some(home) if home != place => Wrong::new(what, format!("it belongs to {home}")),
        _ => Wrong::near(what, key.get_ref(), known.iter().copied()),
    };
    Err(Fault::at(key.span(), wrong))
}

fn unknown_section(word: &str, known: Vec<&str>) -> Wrong {
    match home(word) {
        Some(home) => {
            Wrong::new(format!("key `{word}` outside of a section"), format!("it belongs to {home}"))
        }
        None => Wrong::unknown("section", word, known),
    }
}

/// The section that has a key of this name.
fn home(key: &str) -> Option<String> {
    let has = |walk: &dyn Fn(&mut Names) -> Result<(), Fault>| {
        let mut names = Names::default();
        walk(&mut names).is_ok() && names.0.contains(&key)
    };
    let found = Section::ALL.into_iter().find(|s| has(&|names| s.keys(&mut Config::bare(), names)));
    if let Some(section) = found {
        return Some(format!("[{}]", section.name()));
    }
    has(&|names| keys::zone(&mut WrittenZone::default(), names)).then(|| "[[zone]]".to_owned())
}
