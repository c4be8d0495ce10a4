//! The tables of differences, as users read them in `docs/`.

/// A row: its cells.
pub type Row = Vec<Cell>;

/// A cell: the words that are set in code, or prose without any.
#[derive(Debug, PartialEq, Eq)]
pub struct Cell {
    pub text: String,
    pub codes: Vec<String>,
}

impl Cell {
    fn new(text: &str) -> Self {
        let codes = text.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        Self { text: text.trim().to_owned(), codes }
    }

    /// Whether a value is what this cell says: the one in code, nothing where it says `nothing`, any where it is prose.
    pub fn says(&self, value: Option<&String>) -> bool {
        match (self.codes.first(), value) {
            (Some(code), Some(value)) => code == value,
            (Some(_), None) => false,
            (None, value) => self.text != "nothing" || value.is_none(),
        }
    }
}

/// The first table under a heading, without its head.
///
/// # Panics
/// There is none.
pub fn under(document: &str, heading: &str) -> Vec<Row> {
    let start = document.find(&format!("{heading}\n")).unwrap_or_else(|| panic!("no heading {heading}"));
    let rows = document[start..].lines().skip_while(|line| !line.starts_with('|'));
    let rows: Vec<Row> = rows
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        // A bar within code is written as `\|`, as GitHub reads it.
        .map(|line| {
            let line = line.trim().trim_matches('|').replace("\\|", "\u{1}");
            line.split('|').map(|cell| Cell::new(&cell.replace('\u{1}', "|"))).collect()
        })
        .collect();
    assert!(!rows.is_empty(), "{heading}: no table");
    rows
}
