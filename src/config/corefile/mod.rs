//! From a Corefile to settings: the same [`Written`] that a TOML file gives, so that flags and rules hold for both.
//!
//! Zone `.` is not added here as it is for TOML: what no block holds is refused, as CoreDNS does it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::file::Written;
use super::problem::{Note, Problem, Wrong};

/// What is known besides the text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Around {
    /// What cannot be honoured is a [`Note`] instead of an error.
    pub lenient: bool,
    /// The port of blocks that name none.
    pub port: u16,
    /// What is filled into a base file of node-cache; `None` for a Corefile that is read as it is.
    pub node: Option<Filling>,
}

/// What node-cache's variables stand for, and what it puts below the base file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filling {
    /// `__PILLAR__LOCAL__DNS__`; `__PILLAR__DNS__SERVER__` is nothing, as all addresses are here.
    pub local: Vec<IpAddr>,
    /// `__PILLAR__CLUSTER__DNS__`. `None`: the text does not use it.
    pub cluster: Option<IpAddr>,
    /// `__PILLAR__UPSTREAM__SERVERS__`: words that `forward` takes, addresses or the path of a resolv.conf.
    pub upstreams: String,
    /// `__PROMETHEUS__ENDPOINT__`
    pub prometheus: String,
    /// The blocks of stub domains.
    pub stubs: Option<Stubs>,
}

/// Blocks of our own making, to be read after the base file's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stubs {
    /// The file that asks for them, for messages: its lines are not those of `text`.
    pub origin: PathBuf,
    /// Server blocks, without variables.
    pub text: String,
}

/// What a Corefile says.
pub(super) struct Read {
    /// Everything that TOML could say too. `listen.addresses` is what its blocks bind.
    pub written: Written,
    /// What is to be told besides.
    pub notes: Vec<Note>,
    /// Files that were imported, and folders that were looked through for them.
    pub files: Vec<PathBuf>,
    /// The text with its variables filled in and the stub domains below it: what node-cache would have written.
    #[allow(dead_code, reason = "read where node-cache's flags are")]
    pub text: String,
}

/// Reads a Corefile's text; `origin` is its file, in whose folder imports are looked for.
pub(super) fn read(text: &str, origin: &Path, around: &Around) -> Result<Read, Problem> {
    let _ = (text, around);
    let wrong = Wrong::new("Corefiles cannot be read yet", "write the configuration as TOML");
    Err(Problem::new(origin.display(), wrong))
}
