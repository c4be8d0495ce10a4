//! The pages for people: what they link to is there, and the metrics that they name are served.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

/// README.md and the pages of docs/ and deploy/, with their text.
fn pages() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths =
        vec![root.join("README.md"), root.join("deploy/README.md"), root.join("deploy/systemd/README.md")];
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    paths.extend(docs.filter(|path| path.extension().is_some_and(|end| end == "md")));
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// The text without its blocks of code.
fn prose(text: &str) -> String {
    let mut inside = false;
    let outside = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    });
    outside.collect::<Vec<_>>().join("\n")
}

/// What a heading is called behind `#`: small letters, digits, `-` and `_`, blanks as dashes.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| {
        let kept = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        kept.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut links = 0;
    for (path, text) in pages() {
        for rest in prose(&text).split("](").skip(1) {
            // A link may be broken over two lines nowhere but in its text.
            let target = rest.split(')').next().unwrap();
            if target.starts_with("http") {
                continue;
            }
            links += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(file.exists(), "{}: {target} is not there", path.display());
            if !anchor.is_empty() {
                let text = prose(&fs::read_to_string(&file).unwrap());
                assert!(
                    anchors(&text).iter().any(|a| a == anchor),
                    "{}: no heading {target}",
                    path.display()
                );
            }
        }
    }
    assert!(links > 50, "{links}");
}

#[test]
fn every_metric_that_is_named_is_served() {
    let list = include_str!("../docs/metrics.md");
    let mut names = 0;
    for (path, text) in pages() {
        for span in prose(&text).split('`').skip(1).step_by(2) {
            let name = span.split(['{', '(']).next().unwrap();
            // Families whose name is given by its beginning end in a star, rules of Prometheus have a colon.
            let is_metric = (name.starts_with("sidestep_") || name.starts_with("coredns_"))
                && !name.ends_with('_')
                && !name.contains([':', '*', '.', '/', ' ']);
            if is_metric {
                names += 1;
                assert!(list.contains(&format!("`{name}`")), "{}: {name} is not served", path.display());
            }
        }
    }
    assert!(names > 100, "{names}");
}
