//! `sidestep doctor`: looks at this node and says what is wrong.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use super::args::DoctorArgs;
use crate::config::{Config, Flags, Source};
use crate::doctor::{Subject, examine, page};

/// Prints the report. A configuration that cannot be read leaves nothing to compare with: 2, as what cannot be
/// looked at.
pub(super) fn doctor(args: DoctorArgs) -> ExitCode {
    let config = match config(args.config, args.node_cache) {
        Ok(config) => config,
        Err(problem) => {
            super::complain(&problem);
            return ExitCode::from(2);
        }
    };
    let mut settings = config.node.clone();
    if !args.node_address.is_empty() {
        settings.addresses = args.node_address;
    }
    settings.interface = args.interface.unwrap_or(settings.interface);
    let report = examine(&Subject::new(&config, &settings));
    let page = if args.json { page::json(&report) } else { page::text(&report) };
    let printed = super::print(page.as_bytes());
    if printed == ExitCode::SUCCESS { ExitCode::from(report.exit_code()) } else { printed }
}

/// What the cache here is told: by a file, by node-cache's flags, or by nobody.
fn config(file: Option<PathBuf>, node_cache: Vec<OsString>) -> Result<Config, String> {
    let flags = if node_cache.is_empty() {
        let source = file.map_or(Source::Nothing, |path| Source::file(path, true));
        Flags { source, ..Flags::default() }
    } else {
        super::node_cache::flags(node_cache)?
    };
    // What a Corefile asks for in vain is not what is looked for here.
    let flags = Flags { source: flags.source.clone().leniently(), ..flags };
    Config::load(&flags).map_err(|problem| problem.to_string())
}
