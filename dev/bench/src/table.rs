//! Text tables: a heading, columns aligned to the right but for the first, and the last if it holds words.

/// A table that is being filled.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    title: String,
    rows: Vec<Vec<String>>,
    /// Whether the last column holds words.
    words_last: bool,
}

impl Table {
    /// An empty table under a title.
    pub(crate) fn new(title: &str, header: &[&str]) -> Self {
        Self { title: title.to_owned(), rows: vec![header.iter().map(ToString::to_string).collect()], words_last: false }
    }

    /// The same with words in the last column.
    pub(crate) fn with_words_last(self) -> Self {
        Self { words_last: true, ..self }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The text, with an empty line after it.
    pub(crate) fn draw(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = format!("{}\n", self.title);
        for row in &self.rows {
            let pad = |(column, (cell, width)): (usize, (&String, &usize))| {
                let left = column == 0 || self.words_last && column + 1 == columns;
                if left { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            };
            let line: Vec<String> = row.iter().zip(&widths).enumerate().map(pad).collect();
            text.push_str(line.join("  ").trim_end());
            text.push('\n');
        }
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new("5.0 Title", &["case", "a", "long"]);
        table.row(vec!["one".to_owned(), "1.25".to_owned(), "é".to_owned()]);
        assert_eq!(table.draw(), "5.0 Title\ncase     a  long\none   1.25     é\n\n");
        assert_eq!(table.with_words_last().draw(), "5.0 Title\ncase     a  long\none   1.25  é\n\n");
    }
}
