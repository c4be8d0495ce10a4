//! Lines on standard error: text for people or one JSON object a line, with UTC timestamps (RFC 3339,
//! microseconds).
//!
//! Our own events are written at the level of the configuration, those of the crates we use from warnings
//! up. The level can change while we run, the format cannot. No colours: the lines mostly go to a journal or
//! a container's log. Control characters in values are escaped by the formatter, so a name out of a packet
//! cannot forge a line.

use tracing::level_filters::LevelFilter;
use tracing::{Dispatch, Level};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, fmt, registry, reload};

use crate::config::{LogFormat, LogLevel, LogSettings};

/// What our own events name as their origin.
const OURS: &str = env!("CARGO_CRATE_NAME");

/// Changes what is logged while we run.
#[derive(Clone, Debug)]
pub struct LogHandle(reload::Handle<Targets, Registry>);

impl LogHandle {
    /// From now on our own events are written at `level`.
    pub fn set_level(&self, level: LogLevel) {
        // This fails only when the subscriber is gone, and then there is nobody to tell.
        let _ = self.0.reload(targets(level));
    }
}

/// Starts logging to standard error, for the whole process. Where somebody else has already started it (a
/// test, a program that embeds us), theirs stays.
pub fn init(settings: LogSettings) -> LogHandle {
    let (dispatch, handle) = dispatch(settings, std::io::stderr);
    let _ = tracing::dispatcher::set_global_default(dispatch);
    handle
}

/// What turns events into lines, and the handle to it.
fn dispatch<W>(settings: LogSettings, writer: W) -> (Dispatch, LogHandle)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(targets(settings.level));
    let lines = fmt::layer().with_writer(writer);
    let lines = match settings.format {
        LogFormat::Text => lines.with_ansi(false).boxed(),
        // The fields stand beside the message, not in an object of their own: easier to query.
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    (Dispatch::new(registry().with(filter).with(lines)), LogHandle(handle))
}

/// Ours at `level`, others from warnings up, or from errors up if that is what we keep to ourselves.
fn targets(level: LogLevel) -> Targets {
    let ours = match level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Trace => Level::TRACE,
    };
    let others = LevelFilter::from_level(ours.min(Level::WARN));
    Targets::new().with_default(others).with_target(OURS, ours)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Keeps what was written.
    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Page {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(settings: LogSettings, events: impl FnOnce(&LogHandle)) -> String {
        let page = Page::default();
        let writer = page.clone();
        let (dispatch, handle) = dispatch(settings, move || writer.clone());
        tracing::dispatcher::with_default(&dispatch, || events(&handle));
        page.text()
    }

    /// `2026-01-02T03:04:05.678901Z`
    fn is_timestamp(s: &str) -> bool {
        let shape = "dddd-dd-ddTdd:dd:dd.ddddddZ";
        s.len() == shape.len()
            && s.chars().zip(shape.chars()).all(|(c, p)| if p == 'd' { c.is_ascii_digit() } else { c == p })
    }

    #[test]
    fn a_text_line_has_time_level_origin_message_and_fields() {
        let text = logged(LogSettings::default(), |_| tracing::info!(address = "[::1]:53", "listening"));
        let (time, rest) = text.split_once(' ').unwrap();
        assert!(is_timestamp(time), "{text}");
        assert_eq!(rest, " INFO sidestep::telemetry::log::tests: listening address=\"[::1]:53\"\n");
    }

    #[test]
    fn a_json_line_is_one_object() {
        let settings = LogSettings { format: LogFormat::Json, level: LogLevel::Info };
        let text = logged(settings, |_| tracing::warn!(tries = 3, "a \"quoted\"\nname"));
        assert_eq!(text.lines().count(), 1);
        assert!(text.starts_with("{\"timestamp\":\"") && text.ends_with("}\n"), "{text}");
        assert!(is_timestamp(&text[14..41]), "{text}");
        for part in [r#""level":"WARN""#, r#""message":"a \"quoted\"\nname""#, r#""tries":3"#] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn the_level_can_change() {
        let text = logged(LogSettings::default(), |handle| {
            tracing::debug!("one");
            handle.set_level(LogLevel::Debug);
            tracing::debug!("two");
            handle.set_level(LogLevel::Error);
            tracing::warn!("three");
            tracing::error!("four");
        });
        let messages: Vec<_> = text.lines().filter_map(|l| l.rsplit(' ').next()).collect();
        assert_eq!(messages, ["two", "four"]);
    }

    #[test]
    fn other_crates_are_heard_from_warnings_up() {
        let settings = LogSettings { format: LogFormat::Text, level: LogLevel::Trace };
        let text = logged(settings, |_| {
            tracing::info!(target: "hyper::proto", "unheard");
            tracing::warn!(target: "hyper::proto", "heard");
        });
        assert!(text.contains("heard") && !text.contains("unheard"), "{text}");
    }

    #[test]
    fn a_value_cannot_forge_a_line() {
        let name = "a\x1b[31m\n2026-01-01T00:00:00Z ERROR sidestep: fire";
        let text = logged(LogSettings::default(), |_| tracing::info!(name, "asked"));
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(!text.contains('\x1b'), "{text}");
    }
}
