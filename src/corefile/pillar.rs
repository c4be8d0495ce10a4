//! The variables of a node-local add-on's base file: `__PILLAR__LOCAL__DNS__` and its like.
//!
//! They are filled in as text, as node-cache does it: a value may be several words, or a part of one. A value has no
//! line break, so every line stays where it was; the columns behind a value move. [`Filled`] remembers by how
//! much, and the reader of the filled text says places of the base file: a word of a value stands where its variable does.
//!
//! Where a line is a comment, what is unknown may stay.

use std::path::Path;
use std::sync::Arc;

use super::place::shown;
use super::{Fault, Place};

/// The values. Whoever uses a variable that is `None` is told so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variables {
    /// `__PILLAR__DNS__DOMAIN__`: the cluster's zone. node-cache leaves it to whoever installs.
    pub domain: Option<String>,
    /// `__PILLAR__LOCAL__DNS__`: the local addresses.
    pub local: Option<String>,
    /// `__PILLAR__DNS__SERVER__`: nothing, where the local addresses have it too.
    pub server: String,
    /// `__PILLAR__CLUSTER__DNS__`: the address of the upstream Service.
    pub cluster: Option<String>,
    /// `__PILLAR__UPSTREAM__SERVERS__`: addresses, or a resolv.conf.
    pub upstreams: Option<String>,
    /// `__PROMETHEUS__ENDPOINT__`: where the metrics are served.
    pub prometheus: Option<String>,
}

impl Variables {
    /// Each variable with its value.
    fn table(&self) -> [(&'static str, Option<&str>); 6] {
        [
            ("__PILLAR__DNS__DOMAIN__", self.domain.as_deref()),
            ("__PILLAR__LOCAL__DNS__", self.local.as_deref()),
            ("__PILLAR__DNS__SERVER__", Some(&self.server)),
            ("__PILLAR__CLUSTER__DNS__", self.cluster.as_deref()),
            ("__PILLAR__UPSTREAM__SERVERS__", self.upstreams.as_deref()),
            ("__PROMETHEUS__ENDPOINT__", self.prometheus.as_deref()),
        ]
    }
}

/// What every variable begins with, known or not.
const BEGINNINGS: [&str; 2] = ["__PILLAR__", "__PROMETHEUS__"];

/// A base file with its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filled {
    text: String,
    shifts: Vec<Shift>,
}

impl Filled {
    /// The text to read.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn shifts(&self) -> &[Shift] {
        &self.shifts
    }
}

/// A value in the filled text. Columns count from 1, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shift {
    line: u32,
    /// The value's first column in the filled text, and the first one behind it.
    value: (u32, u32),
    /// The variable's first column in the base file, and the first one behind it.
    variable: (u32, u32),
}

/// Where in the base file a column of the filled text was. The shifts are in the order of the text.
pub(super) fn base_column(shifts: &[Shift], line: u32, column: u32) -> u32 {
    let before = shifts.partition_point(|s| (s.line, s.value.0) <= (line, column));
    match before.checked_sub(1).map(|last| shifts[last]) {
        Some(s) if s.line == line && column < s.value.1 => s.variable.0,
        Some(s) if s.line == line => s.variable.1 + (column - s.value.1),
        _ => column,
    }
}

/// Fills the values into a base file. What looks like a variable but is none, or has no value, is a fault.
pub fn fill(text: &str, origin: &Path, variables: &Variables) -> Result<Filled, Fault> {
    let file: Arc<Path> = Arc::from(origin);
    let mut filled = Filled { text: String::with_capacity(text.len()), shifts: Vec::new() };
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        fill_line(line, number, &file, variables, &mut filled)?;
    }
    Ok(filled)
}

/// Refuses a text that still has variables, comments aside: it is a base file, and only node-cache's flags say their values.
pub fn is_filled(text: &str, origin: &Path) -> Result<(), Fault> {
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim_start().starts_with('#')) {
        let Some(start) = BEGINNINGS.iter().filter_map(|beginning| line.find(beginning)).min() else {
            continue;
        };
        let (before, found) = line.split_at(start);
        let at = Place { file: origin.into(), line: number, column: characters(before) + 1, via: None };
        let what = format!("the variable `{}` is filled in only in a base file of node-cache", name(found));
        let file = origin.display();
        let hint = format!("try `sidestep node-cache -check -localip 169.254.20.10 -basecorefile {file}`");
        return Err(Fault::new(at, what, hint));
    }
    Ok(())
}

/// The name that a text begins with, as it may be shown.
fn name(text: &str) -> String {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    shown(&text[..end])
}

fn fill_line(
    line: &str,
    number: u32,
    file: &Arc<Path>,
    variables: &Variables,
    filled: &mut Filled,
) -> Result<(), Fault> {
    let comment = line.trim_start().starts_with('#');
    let (mut rest, mut from, mut to) = (line, 1, 1);
    while let Some(start) = BEGINNINGS.iter().filter_map(|b| rest.find(b)).min() {
        let (before, found) = rest.split_at(start);
        copy(before, &mut from, &mut to, filled);
        let at = Place { file: file.clone(), line: number, column: from, via: None };
        match value(found, variables, &at) {
            Ok((name, value)) => {
                let (value_at, variable_at) = (to, from);
                filled.text.push_str(value);
                to += characters(value);
                from += characters(name);
                let shift = Shift { line: number, value: (value_at, to), variable: (variable_at, from) };
                filled.shifts.push(shift);
                rest = &found[name.len()..];
            }
            Err(_) if comment => {
                let (beginning, after) = found.split_at("__P".len());
                copy(beginning, &mut from, &mut to, filled);
                rest = after;
            }
            Err(fault) => return Err(fault),
        }
    }
    filled.text.push_str(rest);
    Ok(())
}

fn copy(text: &str, from: &mut u32, to: &mut u32, filled: &mut Filled) {
    filled.text.push_str(text);
    *from += characters(text);
    *to += characters(text);
}

fn characters(text: &str) -> u32 {
    u32::try_from(text.chars().count()).unwrap_or(u32::MAX)
}

/// The name and the value of the variable that a text begins with.
fn value<'v>(text: &str, variables: &'v Variables, at: &Place) -> Result<(&'static str, &'v str), Fault> {
    let table = variables.table();
    let Some((name, value)) = table.into_iter().find(|(name, _)| text.starts_with(name)) else {
        let known: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
        let what = format!("unknown variable `{}`", self::name(text));
        return Err(Fault::new(at.clone(), what, format!("known: {}", known.join(", "))));
    };
    match value {
        Some(value) if !value.contains('\n') => Ok((name, value)),
        Some(_) => {
            let what = format!("the value of `{name}` has a line break");
            Err(Fault::new(at.clone(), what, "give it words with blanks between them"))
        }
        None => {
            let what = format!("the variable `{name}` has no value");
            Err(Fault::new(at.clone(), what, "write its value into the base file in its stead"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Disk, parse_filled};
    use super::*;

    fn variables() -> Variables {
        Variables {
            domain: Some("cluster.local".to_owned()),
            local: Some("169.254.20.10 10.0.0.10".to_owned()),
            upstreams: Some("a\nb".to_owned()),
            ..Variables::default()
        }
    }

    fn filled(text: &str) -> Result<String, String> {
        match fill(text, Path::new("base"), &variables()) {
            Ok(filled) => Ok(filled.text().to_owned()),
            Err(fault) => Err(fault.to_string()),
        }
    }

    #[test]
    fn a_value_stands_in_the_variables_stead_wherever_that_is() {
        assert_eq!(filled("__PILLAR__DNS__DOMAIN__:53 {\r\n"), Ok("cluster.local:53 {\r\n".to_owned()));
        assert_eq!(
            filled("bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__"),
            Ok("bind 169.254.20.10 10.0.0.10 ".to_owned())
        );
        assert_eq!(filled("x__PILLAR__DNS__DOMAIN____PILLAR__DNS__DOMAIN__"), {
            Ok("xcluster.localcluster.local".to_owned())
        });
        assert_eq!(filled(""), Ok(String::new()));
    }

    #[test]
    fn what_is_unknown_or_has_no_value_is_a_fault_unless_in_a_comment() {
        let fault = filled("a\n é __PILLAR__DNS__NAME__:53").unwrap_err();
        assert!(
            fault.starts_with("base:2:4: unknown variable `__PILLAR__DNS__NAME__`; known: __PILLAR__"),
            "{fault}"
        );
        assert!(filled("__PROMETHEUS__PORT__").unwrap_err().contains("unknown variable"));
        assert!(filled("a __PILLAR__CLUSTER__DNS__").unwrap_err().starts_with("base:1:3: the variable"));
        assert!(filled("__PILLAR__UPSTREAM__SERVERS__").unwrap_err().contains("line break"));
        let comment = "  # __PILLAR__X__ __PILLAR__Y\n";
        assert_eq!(filled(comment), Ok(comment.to_owned()));
    }

    #[test]
    fn places_are_those_of_the_base_file() {
        let base =
            "__PILLAR__DNS__DOMAIN__:53 {\n bind é __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__ x\n}";
        let filled = fill(base, Path::new("base"), &variables()).unwrap();
        let tree = parse_filled(&filled, Path::new("base"), &Disk).unwrap();
        let bind = &tree.blocks[0].directives[0];
        let places: Vec<String> = bind.arguments.iter().map(|a| format!("{} {}", a.text, a.at)).collect();
        let columns = ["é base:2:7", "169.254.20.10 base:2:9", "10.0.0.10 base:2:9", "x base:2:56"];
        assert_eq!(places, columns);
        assert_eq!(base.lines().nth(1).unwrap().chars().nth(55), Some('x'));
    }
}
