//! From OpenMetrics text to Prometheus' older text format (version 0.0.4), for those who read only that.
//!
//! The samples are the same in both. What differs is around them: the older format has neither units nor an
//! end mark, it has no type for information (a gauge, there), and there a counter's family bears the suffix
//! `_total` as its sample does.

/// The same metrics in the older format. Takes what [`render`](super::render) makes: `HELP` stands before
/// `TYPE`, and nothing between them.
pub fn classic(openmetrics: &str) -> String {
    let mut out = String::with_capacity(openmetrics.len());
    let mut help = "";
    for line in openmetrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').map_or("", |(_, text)| text);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, "untyped"));
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            out += &format!("# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n");
        } else if !line.starts_with('#') {
            match whole_bound(line) {
                Some((before, after)) => out.extend([before, after]),
                None => out += line,
            }
            out.push('\n');
        }
    }
    out
}

/// A bucket's line whose bound is a whole number: what stands before and behind its `.0`. The bound is the first label.
fn whole_bound(line: &str) -> Option<(&str, &str)> {
    const MARK: &str = "_bucket{le=\"";
    let start = line.find(MARK)? + MARK.len();
    let end = start + line[start..].find('"')?;
    let number = line[start..end].strip_suffix(".0")?;
    Some((&line[..start + number.len()], &line[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_lines_around_the_samples_change() {
        let openmetrics = "# HELP s_build The version\n# TYPE s_build info\ns_build_info{version=\"1\"} 1\n\
            # HELP s_hits Hits here\n# TYPE s_hits counter\ns_hits_total{zone=\"#\"} 2\n\
            # HELP s_cache_bytes Bytes\n# TYPE s_cache_bytes gauge\n# UNIT s_cache_bytes bytes\ns_cache_bytes 3\n\
            # HELP s_size Sizes\n# TYPE s_size histogram\ns_size_bucket{le=\"100.0\"} 1\n\
            s_size_bucket{le=\"0.5\",z=\"1.0\"} 1\n\
            # EOF\n";
        let expected = "# HELP s_build_info The version\n# TYPE s_build_info gauge\ns_build_info{version=\"1\"} 1\n\
            # HELP s_hits_total Hits here\n# TYPE s_hits_total counter\ns_hits_total{zone=\"#\"} 2\n\
            # HELP s_cache_bytes Bytes\n# TYPE s_cache_bytes gauge\ns_cache_bytes 3\n\
            # HELP s_size Sizes\n# TYPE s_size histogram\ns_size_bucket{le=\"100\"} 1\n\
            s_size_bucket{le=\"0.5\",z=\"1.0\"} 1\n";
        assert_eq!(classic(openmetrics), expected);
    }
}
