//! `sidestep doctor`: looks at this node and says what is wrong.

use std::process::ExitCode;

use super::args::DoctorArgs;
use crate::config::{Config, Flags, Source};
use crate::doctor::{Subject, examine, page};

/// Prints the report. A configuration that cannot be read leaves nothing to compare with: 2, as what cannot be
/// looked at.
pub(super) fn doctor(args: DoctorArgs) -> ExitCode {
    // What a Corefile asks for in vain is not what is looked for here.
    let source = args.config.map_or(Source::Nothing, |path| Source::file(path, true));
    let config = match Config::load(&Flags { source, ..Flags::default() }) {
        Ok(config) => config,
        Err(problem) => {
            super::complain(&problem.to_string());
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
