//! The Corefile: from text to a tree of blocks, directives and words, each with its place. No plugin is known here.
//!
//! ```text
//! base file > pillar > lexer > stream (import, environment) > grammar, key > Corefile > print > text
//! ```
//!
//! It reads what CoreDNS's Caddyfile dialect means, as of CoreDNS 1.14: words parted by blanks; `"..."` around a
//! word that has blanks, where only `\"` is an escape and lines may break; `#` up to the line's end; a `\` at a
//! line's end or a backquote is nothing special. A block has keys, and its directives in braces, or up to the end of
//! the file. A directive is a line, perhaps with a block in braces below it. `import` stands for the words of a snippet,
//! a file, or the files that a pattern names, and takes no arguments beside that. `{$NAME}` and `{%NAME%}` stand
//! for the environment, wherever in a word.
//!
//! # Where it differs
//!
//! What CoreDNS reads without complaint but nobody can have meant is an error here, with line and column:
//!
//! - A quote that is never closed. There the rest of the file is the word.
//! - `#` inside of a word with more words after it. There the first of them is left out and the others count.
//! - `}` without `{`, and a block without a key: there it is read and thrown away. `{` below its directive's line and `}`
//!   beside other words: there the plugin meets a brace where it wants a word. `{` glued to a name.
//! - A variable's name that no shell would take, as in `{$x := 1}`, and `{$NAME:default}`: there it becomes nothing. A value
//!   that brings another variable: there it is replaced again, perhaps without an end.
//! - A key that can be no zone, or whose port is none: there `a:b`, `a,b`, `foo://a` and `10.0.0.0/33` are names.
//! - Files that import each other: there up to 100,000 times.
//! - A pattern in a folder's name. There it may stand anywhere.
//!
//! And what is in quotes or comes from a variable is never syntax: there a quoted brace is a brace. `import` may stand
//! beside the brace that opens its block; there it is a plugin's word. CIDR keys that begin with `::` or `0` are reverse
//! zones as others are; there they are refused.
//!
//! What CoreDNS lets pass with a warning or silently, and may have been meant, is a [note](Corefile::notes): a variable that
//! is not set is an empty word, a pattern that finds no file is nothing, an empty word is no key.

mod environment;
mod fuzz;
mod grammar;
mod import;
mod key;
mod lexer;
pub mod pillar;
mod place;
mod print;
mod source;
mod stream;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use fuzz::fuzz;
pub use key::{Key, Transport};
pub use place::{Fault, Place};
pub use source::{Disk, Surroundings};

/// Bytes of one file: no ConfigMap holds more, and somebody may import /dev/zero.
pub const FILE: usize = 1 << 20;
/// Bytes of all files that are read for one Corefile, so that imports of imports end soon.
pub const TEXT: usize = 16 << 20;
/// Bytes of one word. A TXT record, the longest thing a plugin takes, has 64 KiB (RFC 1035 section 3.2.1).
pub const WORD: usize = 64 << 10;
/// Words of the whole tree: a file full of host names has 100,000.
pub const WORDS: usize = 1 << 18;
/// Blocks within blocks. CoreDNS's own plugins have two.
pub const NESTING: usize = 16;
/// Imports within imports.
pub const DEPTH: usize = 16;
/// Files and snippets that are imported in all. Each costs a read, even if it holds no word.
pub const IMPORTS: usize = 10_000;
/// Notes that are kept; one more says that there were others.
pub const NOTES: usize = 100;

/// A word, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it says: without quotes, variables replaced.
    pub text: String,
    /// Where it begins.
    pub at: Place,
    /// Whether it stands in quotes, or has to because of what a variable put into it.
    pub quoted: bool,
}

/// A line: its first word, its other words, and the block below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// A plugin's name, a property's, or whatever else a line begins with.
    pub name: Token,
    /// The words after it.
    pub arguments: Vec<Token>,
    /// What stands in its braces, if it has any.
    pub body: Option<Vec<Directive>>,
}

impl Directive {
    /// Where it begins.
    pub fn at(&self) -> &Place {
        &self.name.at
    }
}

/// A server block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The zones, with ports and transports: one at least.
    pub keys: Vec<Key>,
    /// What stands in it, in the order of the file.
    pub directives: Vec<Directive>,
    /// Where it begins.
    pub at: Place,
}

/// What a Corefile says, and what it was read from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Corefile {
    /// The server blocks, in the order of the file.
    pub blocks: Vec<Block>,
    /// The files that were read, each once, the Corefile first.
    pub files: Vec<PathBuf>,
    /// The folders that patterns were looked for in: a file that appears there may belong to it.
    pub folders: Vec<PathBuf>,
    /// What was read but may not be what was meant.
    pub notes: Vec<Fault>,
}

/// Reads a Corefile and what it imports.
pub fn read(path: &Path, around: &dyn Surroundings) -> Result<Corefile, Fault> {
    let text = around.file(path).map_err(|error| {
        let file = Place { file: Arc::from(path), line: 0, column: 0, via: None };
        Fault::new(file, format!("cannot be read: {error}"), "name a Corefile that this process may read")
    })?;
    parse(&text, path, around)
}

/// Reads text as the content of the file `origin`, whose folder is where its imports are looked for.
pub fn parse(text: &str, origin: &Path, around: &dyn Surroundings) -> Result<Corefile, Fault> {
    grammar::parse(text, &[], origin, around)
}

/// Reads a base file whose variables were filled in. Places are those of the base file.
pub fn parse_filled(
    filled: &pillar::Filled,
    origin: &Path,
    around: &dyn Surroundings,
) -> Result<Corefile, Fault> {
    grammar::parse(filled.text(), filled.shifts(), origin, around)
}
