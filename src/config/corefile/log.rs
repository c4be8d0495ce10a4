//! `log`: which queries are logged, and how.

use super::plugins::Context;
use super::words::{Words, body, near, refused, unknown};
use crate::config::keys::CLASSES;
use crate::config::problem::shown;
use crate::corefile::{Directive, Fault};
use crate::local::{Zones, text};
use crate::resolve::log::{Class, Format, RULES, Rule};

/// `log [NAMES...] [FORMAT] { class CLASSES... }`
pub(super) fn read(line: &Directive, context: &mut Context<'_>) -> Result<(), Fault> {
    let mut words = line.arguments.as_slice();
    let mut format = Format::default();
    if let [names @ .., last] = words
        && last.text.contains('{')
    {
        if names.is_empty() {
            let what = format!("`{}` stands where a name does, and logs nothing", shown(&last.text));
            return context.tell.vain(&last.at, what, "write a name before the format: log . FORMAT");
        }
        format = match Format::new(&last.text) {
            Ok(format) => format,
            Err(label) => {
                context.tell.vain(&last.at, label.what, &label.hint)?;
                Format::without_labels(&last.text).map_err(|r| refused(last, &[], r))?
            }
        };
        words = names;
    }
    let mut names = Vec::new();
    for word in words {
        names.push(text::name(&word.text).map_err(|r| refused(word, &[], r))?);
    }
    let names = if names.is_empty() { Zones::all() } else { Zones::from_wire(names) };
    let classes = classes(line)?;
    let rules = &mut context.said.log;
    if rules.len() == RULES.max {
        let what = format!("more than {} lines of `log` in this block", RULES.max);
        return Err(Fault::new(line.at().clone(), what, "name several names in one of them"));
    }
    rules.push(Rule { names, format, classes });
    Ok(())
}

/// The classes that the block names; without any, all.
fn classes(line: &Directive) -> Result<Vec<Class>, Fault> {
    let mut classes = Vec::new();
    for line in body(line) {
        let mut words = Words::of(line);
        if line.name.text != "class" {
            return unknown(line, "log", &["class"]);
        }
        for word in words.some("a class of answers, such as denial or error")? {
            let Some(&(_, class)) = CLASSES.iter().find(|(known, _)| *known == word.text) else {
                let known: Vec<&str> = CLASSES.iter().map(|&(known, _)| known).collect();
                return Err(near(word, format!("unknown class `{}`", shown(&word.text)), &known));
            };
            if !classes.contains(&class) {
                classes.push(class);
            }
        }
        words.end()?;
    }
    Ok(if classes.is_empty() { vec![Class::All] } else { classes })
}
