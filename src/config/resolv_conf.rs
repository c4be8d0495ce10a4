//! The name servers of a resolv.conf (resolv.conf(5)): its `nameserver` lines, nothing else.
//!
//! Search domains and options are the client's business, not a forwarder's. As in glibc, a line that is not
//! understood is passed over; a file without a single server is refused.

use std::net::SocketAddr;
use std::path::Path;

use super::problem::{Problem, Wrong, shown};
use super::{address, read as read_text};
use crate::limit::Limit;

/// Servers that are taken from one file; glibc takes three. Later lines are passed over.
pub const SERVERS: Limit<usize> = Limit::new(1, 8, 8);

/// Reads the servers of the file at `path`, each once, with port 53.
pub fn read(path: &Path) -> Result<Vec<SocketAddr>, Problem> {
    parse(&read_text(path)?, &path.display().to_string())
}

/// Reads the servers from text; `origin` is where it comes from, for messages.
pub fn parse(text: &str, origin: &str) -> Result<Vec<SocketAddr>, Problem> {
    let mut servers = Vec::new();
    let mut first_bad = None;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let line_start = start;
        start += line.len();
        let Some((column, value)) = nameserver(line) else { continue };
        match address::parse_nameserver(value) {
            Some(server) if servers.len() < SERVERS.max && !servers.contains(&server) => servers.push(server),
            Some(_) => {}
            None => first_bad = first_bad.or(Some((line_start + column, value))),
        }
    }
    if !servers.is_empty() {
        return Ok(servers);
    }
    const HINT: &str = "add one, such as `nameserver 192.0.2.53`, or name upstreams yourself";
    Err(match first_bad {
        Some((at, value)) => {
            let wrong = Wrong::new(
                format!("`{}` is no IP address, and there is no other nameserver", shown(value)),
                HINT,
            );
            Problem::in_text(origin, text, at..at + value.len(), wrong)
        }
        None => Problem::new(origin, Wrong::new("has no nameserver line", HINT)),
    })
}

/// The address in a `nameserver` line, and where in the line it begins.
fn nameserver(line: &str) -> Option<(usize, &str)> {
    let rest = line.strip_prefix("nameserver")?.strip_prefix([' ', '\t'])?.trim_start();
    let value = rest.split_whitespace().next()?;
    Some((line.len() - rest.len(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(text: &str) -> Vec<String> {
        parse(text, "f").unwrap().iter().map(SocketAddr::to_string).collect()
    }

    #[test]
    fn nameserver_lines_are_read_and_nothing_else() {
        let text = "# made by hand\nsearch a.example\nnameserver 10.0.0.1\n;nameserver 10.0.0.9\n\
                    nameserver\t2001:db8::1 # second\r\nnameserver fe80::1%lo\noptions edns0\n\
                    nameserver 10.0.0.1\nnameserver nonsense\nnameservers 10.0.0.8\n";
        assert_eq!(servers(text), ["10.0.0.1:53", "[2001:db8::1]:53", "[fe80::1%1]:53"]);
    }

    #[test]
    fn no_more_servers_are_taken_than_the_limit() {
        let text: String = (0..20).map(|n| format!("nameserver 10.0.0.{n}\n")).collect();
        assert_eq!(servers(&text).len(), SERVERS.max);
    }

    #[test]
    fn a_file_without_servers_says_so() {
        let none = parse("search a\n", "f").unwrap_err().to_string();
        assert!(none.starts_with("f: has no nameserver line; add one"), "{none}");
        let bad = parse("\nnameserver dns.example\n", "f").unwrap_err().to_string();
        assert!(bad.starts_with("f:2:12: `dns.example` is no IP address"), "{bad}");
        let missing = read(Path::new("/nonexistent/resolv.conf")).unwrap_err().to_string();
        assert!(missing.starts_with("/nonexistent/resolv.conf: cannot be opened: No such file"), "{missing}");
    }
}
