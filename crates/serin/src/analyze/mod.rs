//! Judging recorded data with the judge of live releases.
//!
//! `lines` reads a file line by line, `ndjson` and `csv` turn a line into fields, `row` checks what they say, `moments` puts the
//! rows of one time together as an observation, and `replay` gives them to the judge and notes what it says.

mod csv;
mod lines;
mod moments;
mod ndjson;
mod replay;
mod row;

pub(crate) use lines::{Format, Lines};
pub(crate) use moments::Moments;
pub(crate) use replay::{Change, Outcome, Replay, Standing, Step};

use row::Row;

/// What is wrong with recorded data, and where.
#[derive(Debug, thiserror::Error)]
#[error("{source_name}:{line}: {message}")]
pub(crate) struct BadData {
    /// The file's name.
    pub(crate) source_name: String,
    /// Line, counted from 1.
    pub(crate) line: u64,
    /// What is wrong, and what was expected.
    pub(crate) message: String,
}

/// Rows of a file in its order, one at a time.
pub(crate) struct Rows {
    lines: Lines,
    parser: Parser,
}

enum Parser {
    Ndjson,
    /// Until the header was read.
    CsvHead,
    Csv(csv::Header),
}

impl Rows {
    /// Rows of an opened file.
    pub(crate) fn new(lines: Lines, format: Format) -> Self {
        let parser = match format {
            Format::Ndjson => Parser::Ndjson,
            Format::Csv => Parser::CsvHead,
        };
        Self { lines, parser }
    }

    /// The next row with its line; `None` at the end. Empty lines are skipped.
    ///
    /// # Errors
    /// If the file cannot be read, or a line is not what was expected.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Row)>, BadData> {
        while let Some(text) = self.lines.next()? {
            if text.trim().is_empty() {
                continue;
            }
            let row = match &self.parser {
                Parser::Ndjson => ndjson::row(&text),
                Parser::Csv(header) => header.row(&text),
                Parser::CsvHead => {
                    let header = csv::Header::new(&text).map_err(|message| self.bad(message))?;
                    self.parser = Parser::Csv(header);
                    continue;
                }
            };
            let row = row.map_err(|message| self.bad(message))?;
            return Ok(Some((self.lines.number(), row)));
        }
        Ok(None)
    }

    /// An error at the line that was read last.
    pub(crate) fn bad(&self, message: String) -> BadData {
        self.lines.bad(message)
    }
}
