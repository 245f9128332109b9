//! A row as comma-separated values (RFC 4180, save that no field goes over several lines). The first line names the columns.

use super::row::{self, Fields, Row, short};

/// The columns that there are, in their order here.
const COLUMNS: [&str; 10] = ["at", "arm", "weight", "requests", "errors", "clientErrors", "errorClass", "latencyMs", "cpu", "memory"];
/// Columns without which a row says nothing.
const NEEDED: [&str; 4] = ["at", "arm", "requests", "errors"];

/// Which column is where.
#[derive(Debug)]
pub(super) struct Header {
    columns: Vec<&'static str>,
}

impl Header {
    /// Reads the first line.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        let mut columns = Vec::new();
        for name in cells(text)? {
            let name = name.trim();
            // `latency_ms` is what people write in CSV; both spellings are one name.
            let known = COLUMNS
                .into_iter()
                .find(|column| plain(column) == plain(name))
                .ok_or_else(|| format!("unknown column '{}'; expected a header with {}", short(name), COLUMNS.join(", ")))?;
            if columns.contains(&known) {
                return Err(format!("the column `{known}` is there twice"));
            }
            columns.push(known);
        }
        match NEEDED.into_iter().find(|needed| !columns.contains(needed)) {
            Some(missing) => Err(format!("there is no column `{missing}`; expected a header with at least {}", NEEDED.join(", "))),
            None => Ok(Self { columns }),
        }
    }

    /// Reads a row. An empty cell is a missing value.
    pub(super) fn row(&self, text: &str) -> Result<Row, String> {
        let cells = cells(text)?;
        if cells.len() != self.columns.len() {
            return Err(format!("{} cells; expected {}, one for each column", cells.len(), self.columns.len()));
        }
        let mut fields = Fields::default();
        let mut class = None;
        for (name, cell) in self.columns.iter().zip(&cells) {
            let cell = cell.trim();
            if cell.is_empty() {
                continue;
            }
            match *name {
                "at" => fields.at = Some(row::time(cell)?),
                "arm" => fields.arm = Some(row::arm(cell)?),
                "weight" => fields.weight = Some(row::weight(number(name, cell.trim_end_matches('%').trim_end())?)?),
                "requests" => fields.requests = Some(row::count(name, number(name, cell)?)?),
                "errors" => fields.errors = Some(row::count(name, number(name, cell)?)?),
                "clientErrors" => fields.client_errors = Some(row::count(name, number(name, cell)?)?),
                "errorClass" => class = Some(cell.to_owned()),
                "latencyMs" => fields.latencies = vec![(row::gauge(name, number(name, cell)?)?, 1)],
                "cpu" => fields.cpu = Some(row::gauge(name, number(name, cell)?)?),
                _ => fields.memory = Some(row::gauge(name, number(name, cell)?)?),
            }
        }
        if let (Some(class), Some(errors @ 1..)) = (class, fields.errors) {
            let _ = fields.classes.insert(class, errors);
        }
        if !fields.latencies.is_empty() && fields.requests != Some(1) {
            return Err("a row with a latency is about one request; expected `requests` to be 1".to_owned());
        }
        fields.row()
    }
}

fn plain(name: &str) -> String {
    name.chars().filter(|c| *c != '_').map(|c| c.to_ascii_lowercase()).collect()
}

fn number(name: &str, cell: &str) -> Result<f64, String> {
    let number = cell.parse::<f64>().ok().filter(|number| number.is_finite());
    number.ok_or_else(|| format!("`{name}` is '{}'; expected a number", short(cell)))
}

/// The cells of a line. A cell in quotes may have commas, and quotes that are written twice.
fn cells(text: &str) -> Result<Vec<String>, String> {
    let mut cells = Vec::new();
    let mut rest = text;
    loop {
        let (cell, after) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (cell, after) = unquoted(quoted)?;
                (cell, after.strip_prefix(',').map(Some).or(after.is_empty().then_some(None)))
            }
            None => match rest.split_once(',') {
                Some((cell, after)) => (cell.to_owned(), Some(Some(after))),
                None => (rest.to_owned(), Some(None)),
            },
        };
        cells.push(cell);
        match after {
            Some(Some(after)) => rest = after,
            Some(None) => return Ok(cells),
            None => return Err("text after a closing quote; expected a comma".to_owned()),
        }
    }
}

fn unquoted(text: &str) -> Result<(String, &str), String> {
    let mut cell = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('"') {
        cell.push_str(before);
        match after.strip_prefix('"') {
            Some(more) => {
                cell.push('"');
                rest = more;
            }
            None => return Ok((cell, after)),
        }
    }
    Err("a quote that is not closed on its line".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_with_and_without_quotes() {
        assert_eq!(cells(r#"a,"b,c","d""e",,"#).unwrap(), ["a", "b,c", "d\"e", "", ""]);
        assert!(cells("\"a").unwrap_err().contains("not closed"));
        assert!(cells("\"a\"b").unwrap_err().contains("comma"));
    }

    #[test]
    fn rows_by_their_header() {
        let header = Header::new("requests, at ,arm,errors,latency_ms,error_class").unwrap();
        let row = header.row("1,12.5,canary,0,33.5,").unwrap();
        assert_eq!((row.at.0, row.counts.requests(), row.counts.latency.total()), (12_500, 1, 1));
        let failed = header.row("1,12.5,canary,1,33.5,503 GET /a").unwrap();
        assert_eq!((failed.counts.errors(), failed.counts.latency.total(), failed.counts.error_classes["503 GET /a"]), (1, 0, 1));
        for (text, expected) in [
            ("1,12.5,canary,0,33.5", "5 cells; expected 6"),
            ("NaN,12.5,canary,0,,", "`requests` is 'NaN'; expected a number"),
            ("2,12.5,canary,0,33.5,", "about one request"),
            ("1,,canary,0,33.5,", "`at` is missing"),
        ] {
            let error = header.row(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        for (text, expected) in [("at,arm,requests", "no column `errors`"), ("at,at", "twice"), ("at,when", "unknown column 'when'")] {
            let error = Header::new(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
