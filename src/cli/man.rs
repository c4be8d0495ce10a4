//! `sidestep man`: the manual page, made from the same list of arguments as the help.

use std::io;

use clap::CommandFactory;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

/// The page in roff, for man(1).
pub(super) fn man() -> io::Result<Vec<u8>> {
    let command = super::args::Args::command();
    let mut page = Vec::new();
    let man = Man::new(command.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    own_sections(&command).to_writer(&mut page)?;
    man.render_version_section(&mut page)?;
    Ok(page)
}

/// What clap does not know: commands have no pages of their own, so they stand here.
fn own_sections(command: &clap::Command) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    for sub in command.get_subcommands() {
        let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
        roff.control("TP", []).text([bold(sub.get_name())]).text([roman(about)]);
    }
    roff.control("SH", ["SIGNALS"]);
    for (signal, what) in [
        ("SIGHUP, SIGUSR1", "Reads the configuration again. One that is wrong changes nothing."),
        ("SIGTERM, SIGINT", "Stops."),
    ] {
        roff.control("TP", []).text([bold(signal)]).text([roman(what)]);
    }
    roff.control("SH", ["EXIT STATUS"]);
    for (status, what) in [
        ("0", "Success."),
        ("1", "The configuration is wrong, or the start failed; standard error says why and what to do."),
        ("2", "The command line is wrong."),
        (
            "1, 2",
            "Of doctor: a problem was found; something could not be looked at, and there was no problem.",
        ),
        ("1, 2", "Of lab: the cure was not shown; the lab could not be built."),
    ] {
        roff.control("TP", []).text([bold(status)]).text([roman(what)]);
    }
    roff
}
