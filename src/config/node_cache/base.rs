//! The base file: a Corefile with variables.

use std::net::IpAddr;
use std::ops::Range;
use std::path::PathBuf;

use super::Options;
use crate::config::problem::{Problem, Wrong, shown};
use crate::config::read;

/// What stands for the address of the upstream Service.
const CLUSTER_DNS: &str = "__PILLAR__CLUSTER__DNS__";
/// What stands for the servers that other names are asked of.
const UPSTREAM_SERVERS: &str = "__PILLAR__UPSTREAM__SERVERS__";

/// The first line of what we fill in, by which we know it again: it is for people, and never a source.
const FILLED: &str = "# Filled in from the base file; changes here have no effect.";

/// A base file.
pub(super) struct Base {
    pub path: PathBuf,
    pub text: String,
}

impl Base {
    /// The base file that the flags name; `None` if there is none but a Corefile that is to be read as it is.
    pub fn find(options: &Options) -> Result<Option<Self>, Problem> {
        let path = options.base_corefile.clone();
        if path.exists() {
            let text = read(&path).map_err(Problem::of_config_map)?;
            return Ok(Some(Self { path, text }));
        }
        let corefile = options.corefile.display();
        let what = match read(&options.corefile) {
            // What is wrong with it is told by whoever reads it as it is.
            Err(_) if options.corefile.exists() => return Ok(None),
            Err(_) => format!("there is no such base file, nor a Corefile at {corefile}"),
            Ok(text) if text.starts_with(FILLED) => {
                format!(
                    "there is no such base file, and {corefile} is only what an earlier one was filled in to"
                )
            }
            Ok(_) => return Ok(None),
        };
        let hint = "mount the ConfigMap there (its key Corefile as Corefile.base), or name the file: -basecorefile, -conf";
        Err(Problem::new(path.display(), Wrong::new(what, hint)).of_config_map())
    }

    /// What is written for people to look at.
    pub fn for_people(filled: &str) -> String {
        format!("{FILLED}\n{filled}")
    }

    /// The address of the upstream Service, by the environment, as Kubernetes sets it. `None`: nobody needs it.
    pub fn cluster_dns(
        &self,
        service: &str,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<IpAddr>, Problem> {
        let Some(place) = self.first(CLUSTER_DNS) else { return Ok(None) };
        let name = format!("{}_SERVICE_HOST", service.replace('-', "_").to_ascii_uppercase());
        let problem = |what: String, hint: &str| {
            let origin = self.path.display().to_string();
            Problem::in_text(&origin, &self.text, place.clone(), Wrong::new(what, hint))
        };
        match variable(&name).filter(|value| !value.is_empty()) {
            None => Err(problem(
                format!(
                    "this is the address of Service `{service}`, and the environment has no {name}: no such Service \
                     was in this pod's namespace when the pod started"
                ),
                &format!(
                    "create it (with a cluster IP, pods k8s-app=kube-dns) and restart the pod, or name the one that is \
                     there with -upstreamsvc, or write the address into the base file; enableServiceLinks must not be \
                     false. Outside of a pod, as with -check, set {name} to an address"
                ),
            )),
            Some(value) => value.parse().map(Some).map_err(|_| {
                let what = format!("{name} is `{}`, which is no IP address", shown(&value));
                problem(what, "give the Service a cluster IP, or name another with -upstreamsvc")
            }),
        }
    }

    /// The text, with `forward` asking the upstream servers over UDP even where it says `force_tcp`: servers that a
    /// ConfigMap names need not answer TCP. Lines stay where they are.
    pub fn over_udp(&self) -> String {
        let mut inside = false;
        let mut text = String::with_capacity(self.text.len());
        for line in self.text.split_inclusive('\n') {
            let words: Vec<&str> = line.split_whitespace().collect();
            let is_forward = words.first() == Some(&"forward") && words.contains(&UPSTREAM_SERVERS);
            if inside && words == ["force_tcp"] {
                text.push_str("# force_tcp is not for upstreamNameservers\n");
            } else {
                text.push_str(line);
            }
            inside = match words.as_slice() {
                [.., "{"] if is_forward => true,
                ["}", ..] => false,
                _ => inside,
            };
        }
        text
    }

    /// Where a word first stands, lines aside that are comments.
    fn first(&self, word: &str) -> Option<Range<usize>> {
        let mut start = 0;
        for line in self.text.split_inclusive('\n') {
            let is_comment = line.trim_start().starts_with('#');
            if let Some(column) = line.find(word).filter(|_| !is_comment) {
                return Some(start + column..start + column + word.len());
            }
            start += line.len();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(text: &str) -> Base {
        Base { path: "Corefile.base".into(), text: text.to_owned() }
    }

    fn cluster_dns(text: &str, value: Option<&str>) -> Result<Option<IpAddr>, String> {
        let variable = |name: &str| value.filter(|_| name == "MY_DNS_SERVICE_HOST").map(str::to_owned);
        base(text).cluster_dns("my-dns", &variable).map_err(|problem| problem.summary().to_owned())
    }

    #[test]
    fn the_address_of_the_service_comes_from_the_environment() {
        let text = "a {\n  forward . __PILLAR__CLUSTER__DNS__ {\n";
        assert_eq!(cluster_dns(text, Some("10.96.0.10")), Ok("10.96.0.10".parse().ok()));
        assert_eq!(cluster_dns(text, Some("fd00::a")), Ok("fd00::a".parse().ok()));
        for value in [None, Some("")] {
            let message = cluster_dns(text, value).unwrap_err();
            assert!(
                message.starts_with("Corefile.base:2:13: this is the address of Service `my-dns`"),
                "{message}"
            );
            assert!(
                message.contains("no MY_DNS_SERVICE_HOST") && message.contains("-upstreamsvc"),
                "{message}"
            );
            assert!(
                message.ends_with("Outside of a pod, as with -check, set MY_DNS_SERVICE_HOST to an address"),
                "{message}"
            );
        }
        let message = cluster_dns(text, Some("None")).unwrap_err();
        assert!(message.contains("MY_DNS_SERVICE_HOST is `None`, which is no IP address"), "{message}");
    }

    #[test]
    fn a_service_that_nobody_asks_for_may_be_missing() {
        for text in ["", ". {\n}\n", "# __PILLAR__CLUSTER__DNS__\n"] {
            assert_eq!(cluster_dns(text, None), Ok(None), "{text}");
        }
    }

    #[test]
    fn what_we_have_filled_in_is_no_corefile_to_read_as_it_is() {
        let folder = std::env::temp_dir().join(format!("sidestep-base-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let corefile = folder.join("Corefile");
        let options = Options {
            base_corefile: folder.join("Corefile.base"),
            corefile: corefile.clone(),
            ..Options::default()
        };
        let found = |text: &str| {
            std::fs::write(&corefile, text).unwrap();
            Base::find(&options).map(|base| base.is_some()).map_err(|problem| problem.to_string())
        };
        let (own, ours) = (found(". {\n}\n"), found(&Base::for_people(". {\n}\n")));
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(own, Ok(false));
        assert!(ours.unwrap_err().contains("is only what an earlier one was filled in to"));
    }

    #[test]
    fn servers_of_the_config_map_are_asked_over_udp() {
        let text = "a {\n  forward . 10.0.0.1 {\n    force_tcp\n  }\n}\n. {\n\
                    \tforward . __PILLAR__UPSTREAM__SERVERS__ {\n\t\tforce_tcp\n\t\texpire 1s\n\t}\n\
                    force_tcp\n}\n";
        let udp = base(text).over_udp();
        assert_eq!(udp.lines().count(), text.lines().count());
        let changed: Vec<_> = text.lines().zip(udp.lines()).filter(|(a, b)| a != b).collect();
        assert_eq!(changed, [("\t\tforce_tcp", "# force_tcp is not for upstreamNameservers")]);
        let plain = "forward . __PILLAR__UPSTREAM__SERVERS__\nforce_tcp\n";
        assert_eq!(base(plain).over_udp(), plain);
    }
}
