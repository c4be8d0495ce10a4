//! The echo and this program.

use std::io;
use std::path::Path;
use std::process::Command;

use super::Site;

/// The ceiling is this very program, in another part.
pub fn echo(program: &Path, site: &Site) -> io::Result<Command> {
    let mut command = Command::new(program);
    let (size, workers) = (site.size.answer.to_string(), site.size.workers.to_string());
    command.args(["echo", "--listen", &site.listen.to_string(), "--size", &size, "--workers", &workers]);
    Ok(command)
}

/// With its defaults, apart from what every server is told.
pub fn sidestep(program: &Path, site: &Site) -> io::Result<Command> {
    let mut command = Command::new(program);
    let (upstream, workers) = (format!("tcp://{}", site.upstream), site.size.workers.to_string());
    command.args(["--listen", &site.listen.to_string(), "--upstream", &upstream, "--workers", &workers]);
    if let Some(bytes) = cache_size(site.size.entries) {
        command.args(["--cache-size", &bytes.to_string()]);
    }
    Ok(command)
}

/// The memory for `entries` answers, where the default of 32 MiB might not do: an answer takes a few hundred bytes.
fn cache_size(entries: usize) -> Option<usize> {
    (entries > 20_000).then(|| entries * 1024)
}
