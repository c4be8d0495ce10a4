//! The kube-dns ConfigMap, mounted to a folder: a file for each of its keys, JSON in it.
//!
//! `stubDomains` is `{"corp.example": ["10.1.2.3", "10.1.2.4:5353"]}`, `upstreamNameservers` is `["10.1.2.3"]`. Nothing
//! of it need be there. What is there has to be right: at a reload what ran before goes on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Options;
use crate::config::corefile::Stubs;
use crate::config::name::ZoneName;
use crate::config::problem::{Note, Problem, Spot, Wrong, shown};
use crate::config::{address, read};

/// How long answers about stub domains are kept, in seconds.
const CACHE: u32 = 30;

const STUBS: &str = "stubDomains";
const UPSTREAMS: &str = "upstreamNameservers";
const FEDERATIONS: &str = "federations";

/// What the ConfigMap says.
#[derive(Debug, Default)]
pub(super) struct ConfigMap {
    stubs: BTreeMap<String, Vec<String>>,
    upstreams: Vec<String>,
    /// The file with the stub domains.
    origin: PathBuf,
    /// Files to watch, there or not.
    pub files: Vec<PathBuf>,
    /// What is to be told.
    pub notes: Vec<Note>,
}

impl ConfigMap {
    /// Reads the folder, which need not be there.
    pub fn read(folder: &Path) -> Result<Self, Problem> {
        let origin = folder.join(STUBS);
        let mut map = Self { files: super::files(folder, &[STUBS, UPSTREAMS]), origin, ..Self::default() };
        if let Some(file) = File::find(folder, STUBS)? {
            map.stubs = file.stubs()?;
        }
        if let Some(file) = File::find(folder, UPSTREAMS)? {
            map.upstreams = file.servers(&file.value()?)?;
        }
        let federations = folder.join(FEDERATIONS);
        if federations.exists() {
            let at = Spot { file: federations.into(), line: 0, column: 0 };
            let what = "federations are no part of Kubernetes any more, and nothing is done about them";
            map.notes.push(Note { at, what: what.to_owned() });
        }
        Ok(map)
    }

    /// The servers for other names, if the ConfigMap names any.
    pub fn upstreams(&self) -> Option<String> {
        (!self.upstreams.is_empty()).then(|| self.upstreams.join(" "))
    }

    /// A block for each stub domain, as node-cache makes them.
    pub fn stubs(&self, options: &Options) -> Option<Stubs> {
        let local: Vec<String> = options.local_ip.iter().map(ToString::to_string).collect();
        let (port, local) = (options.port, local.join(" "));
        let block = |(domain, servers): (&String, &Vec<String>)| {
            let servers = servers.join(" ");
            format!(
                "\n{domain}:{port} {{\n    errors\n    cache {CACHE}\n    bind {local}\n    forward . {servers}\n}}\n"
            )
        };
        let text: String = self.stubs.iter().map(block).collect();
        (!text.is_empty()).then(|| Stubs { origin: self.origin.clone(), text })
    }
}

/// A file of it.
struct File {
    path: PathBuf,
    text: String,
}

impl File {
    fn find(folder: &Path, name: &str) -> Result<Option<Self>, Problem> {
        let path = folder.join(name);
        if !path.exists() {
            return Ok(None);
        }
        let text = read(&path)?;
        Ok(Some(Self { path, text }))
    }

    fn problem(&self, what: String, hint: &str) -> Problem {
        Problem::new(self.path.display(), Wrong::new(what, hint))
    }

    fn value(&self) -> Result<Value, Problem> {
        serde_json::from_str(&self.text).map_err(|error| {
            let spot = Spot { file: self.path.as_path().into(), line: error.line(), column: error.column() };
            let wrong = Wrong::new(format!("this is no JSON: {error}"), "write it like [\"10.1.2.3\"]");
            Problem::at(&spot, Some(&self.text), wrong)
        })
    }

    fn stubs(&self) -> Result<BTreeMap<String, Vec<String>>, Problem> {
        const HINT: &str = "write it like {\"corp.example\": [\"10.1.2.3\"]}";
        let value = self.value()?;
        let object =
            value.as_object().ok_or_else(|| self.problem("this is no JSON object".to_owned(), HINT))?;
        let mut stubs = BTreeMap::new();
        for (domain, servers) in object {
            let name =
                domain.parse::<ZoneName>().map_err(|wrong| Problem::new(self.path.display(), wrong))?;
            // What a Corefile would read as more than a name, or as another kind of key.
            if name.is_root() || domain.contains(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c)))
            {
                let what = format!("`{}` is no stub domain's name", shown(domain));
                return Err(self.problem(what, HINT));
            }
            let servers = self.servers(servers)?;
            if servers.is_empty() {
                return Err(self.problem(format!("`{domain}` has no servers"), HINT));
            }
            let name = name.text().trim_end_matches('.').to_owned();
            if stubs.insert(name, servers).is_some() {
                return Err(self.problem(format!("`{domain}` is given twice"), "make one of the two"));
            }
        }
        Ok(stubs)
    }

    /// A list of servers, as words of a Corefile.
    fn servers(&self, value: &Value) -> Result<Vec<String>, Problem> {
        let hint = "write addresses, like [\"10.1.2.3\", \"10.1.2.4:5353\"]";
        let list = value.as_array().ok_or_else(|| self.problem("servers are no list".to_owned(), hint))?;
        let server = |value: &Value| {
            let text = value.as_str().ok_or_else(|| self.problem(format!("{value} is no text"), hint))?;
            let plain = text.strip_prefix("dns://").unwrap_or(text);
            match address::parse_server(plain) {
                Ok(server) => Ok(server.to_string()),
                Err(wrong) => Err(Problem::new(self.path.display(), wrong)),
            }
        };
        list.iter().map(server).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(files: &[(&str, &str)]) -> Result<ConfigMap, String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let shorten =
            |problem: Problem| problem.summary().replace(&format!("{}/", folder.path().display()), "");
        ConfigMap::read(folder.path()).map_err(shorten)
    }

    #[test]
    fn stub_domains_become_blocks() {
        let json = r#"{"Corp.example.": ["10.1.2.3", "dns://10.1.2.4:5353"], "a.test": ["fd00::1"]}"#;
        let map = read(&[(STUBS, json)]).unwrap();
        let local_ip = vec!["169.254.20.10".parse().unwrap(), "fd00::10".parse().unwrap()];
        let stubs = map.stubs(&Options { local_ip, port: 5300, ..Options::default() }).unwrap();
        assert_eq!(
            stubs.text,
            "\na.test:5300 {\n    errors\n    cache 30\n    bind 169.254.20.10 fd00::10\n    forward . [fd00::1]:53\n}\n\
             \ncorp.example:5300 {\n    errors\n    cache 30\n    bind 169.254.20.10 fd00::10\n    \
             forward . 10.1.2.3:53 10.1.2.4:5353\n}\n"
        );
        assert!(stubs.origin.ends_with(STUBS));
    }

    #[test]
    fn nothing_need_be_there() {
        let nowhere = ConfigMap::read(Path::new("/nonexistent/kube-dns")).unwrap();
        for map in [nowhere, read(&[]).unwrap(), read(&[(STUBS, "{}"), (UPSTREAMS, "[]")]).unwrap()] {
            assert!(map.stubs(&Options::default()).is_none() && map.upstreams().is_none());
            assert_eq!(map.files.len(), 2, "they may come");
        }
    }

    #[test]
    fn upstream_servers_are_words_and_federations_are_told_of() {
        let map = read(&[(UPSTREAMS, r#"["1.1.1.1", "[2001:db8::1]:5353"]"#), (FEDERATIONS, "{}")]).unwrap();
        assert_eq!(map.upstreams().as_deref(), Some("1.1.1.1:53 [2001:db8::1]:5353"));
        assert_eq!(map.notes.len(), 1);
        assert!(map.notes[0].to_string().ends_with("nothing is done about them"), "{}", map.notes[0]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_file() {
        for (name, text, message) in [
            (UPSTREAMS, "[\n  oops]", "upstreamNameservers:2:3: this is no JSON"),
            (UPSTREAMS, "", "upstreamNameservers:1:0: this is no JSON"),
            (UPSTREAMS, "{}", "upstreamNameservers: servers are no list; write addresses"),
            (UPSTREAMS, "[1]", "upstreamNameservers: 1 is no text"),
            (UPSTREAMS, "[\"dns.example\"]", "upstreamNameservers: `dns.example` is a host name"),
            (UPSTREAMS, "[\"1.1.1.1 {\"]", "upstreamNameservers: `1.1.1.1 {` is no IP address"),
            (STUBS, "[]", "stubDomains: this is no JSON object; write it like"),
            (STUBS, "{\"a\": []}", "stubDomains: `a` has no servers"),
            (STUBS, "{\"a\": \"1.1.1.1\"}", "stubDomains: servers are no list"),
            (STUBS, "{\".\": [\"1.1.1.1\"]}", "stubDomains: `.` is no stub domain's name"),
            (STUBS, "{\"a {\": [\"1.1.1.1\"]}", "stubDomains: "),
            (STUBS, "{\"a,b\": [\"1.1.1.1\"]}", "stubDomains: "),
            (STUBS, "{\"a\": [\"1.1.1.1\"], \"A.\": [\"1.1.1.1\"]}", "stubDomains: `a` is given twice"),
        ] {
            let found = read(&[(name, text)]).unwrap_err();
            assert!(found.starts_with(message), "{text}: {found}");
        }
    }
}
