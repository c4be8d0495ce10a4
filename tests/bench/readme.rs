//! The README's part that the benchmark writes: what stands between two marks is what the command printed.

/// Where the part begins.
const BEGIN: &str = "<!-- bench: what `just bench --readme` printed -->\n";
/// Where it ends.
const END: &str = "<!-- bench ends -->";

/// `page` with `text` between its marks.
pub fn replace(page: &str, text: &str) -> Result<String, String> {
    let lacking = |mark: &str| format!("README.md has no mark {}", mark.trim());
    let begin = page.find(BEGIN).ok_or_else(|| lacking(BEGIN))? + BEGIN.len();
    let end = begin + page[begin..].find(END).ok_or_else(|| lacking(END))?;
    // Below a heading of the second level, with one empty line to either side.
    Ok(format!("{}\n{}\n\n{}", &page[..begin], text.trim(), &page[end..]))
}
