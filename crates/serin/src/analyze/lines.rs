//! A file line by line, in bounded memory.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read as _},
    path::Path,
};

use super::BadData;

/// The longest line that is read, in bytes.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// How recorded data is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// A JSON object per line.
    Ndjson,
    /// A header, then a row per line.
    Csv,
}

/// Where lines come from.
type Input = Box<dyn BufRead>;

/// Lines of a file with their numbers.
pub(crate) struct Lines {
    name: String,
    input: Input,
    number: u64,
    buffer: Vec<u8>,
}

impl Lines {
    /// Opens a file; `-` is standard input. The format follows from the extension, else from the first byte.
    ///
    /// # Errors
    /// If it cannot be opened or read.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, Format)> {
        let (name, input): (String, Input) = if path == Path::new("-") {
            ("<stdin>".to_owned(), Box::new(BufReader::new(io::stdin())))
        } else {
            (path.display().to_string(), Box::new(BufReader::new(File::open(path)?)))
        };
        let mut lines = Self::new(name, input);
        let extension = path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
        let format = match extension.as_deref() {
            Some("csv") => Format::Csv,
            Some("ndjson" | "jsonl" | "json") => Format::Ndjson,
            _ if lines.starts_like_json()? => Format::Ndjson,
            _ => Format::Csv,
        };
        Ok((lines, format))
    }

    /// Lines of anything.
    pub(super) fn new(name: String, input: Input) -> Self {
        Self { name, input, number: 0, buffer: Vec::new() }
    }

    /// The next line without its end; `None` at the end of the file.
    ///
    /// # Errors
    /// If the file cannot be read, or the line is too long or not UTF-8.
    pub(crate) fn next(&mut self) -> Result<Option<String>, BadData> {
        self.buffer.clear();
        self.number = self.number.saturating_add(1);
        let read = self.input.by_ref().take(MAX_LINE_BYTES + 1).read_until(b'\n', &mut self.buffer);
        if let Err(error) = read {
            return Err(self.bad(format!("cannot be read: {error}")));
        }
        if self.buffer.is_empty() {
            return Ok(None);
        }
        if self.buffer.len() as u64 > MAX_LINE_BYTES && self.buffer.last() != Some(&b'\n') {
            return Err(self.bad("the line is longer than 1 MiB; expected a row per line".to_owned()));
        }
        let text = match std::str::from_utf8(&self.buffer) {
            Ok(text) => text.trim_end_matches(['\n', '\r']),
            Err(_) => return Err(self.bad("the line is not UTF-8 text".to_owned())),
        };
        let text = if self.number == 1 { text.strip_prefix('\u{feff}').unwrap_or(text) } else { text };
        Ok(Some(text.to_owned()))
    }

    /// The number of the line that was read last, from 1.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// An error at the line that was read last.
    pub(crate) fn bad(&self, message: String) -> BadData {
        BadData { source_name: self.name.clone(), line: self.number.max(1), message }
    }

    fn starts_like_json(&mut self) -> io::Result<bool> {
        let start = self.input.fill_buf()?;
        let start = start.strip_prefix(b"\xef\xbb\xbf".as_slice()).unwrap_or(start);
        Ok(start.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: Vec<u8>) -> Lines {
        Lines::new("data".to_owned(), Box::new(io::Cursor::new(bytes)))
    }

    #[test]
    fn ends_of_lines_and_byte_order_marks_are_not_part_of_them() {
        let mut lines = of("\u{feff}a\r\nb\n\nc".into());
        let read: Vec<_> = std::iter::from_fn(|| lines.next().unwrap()).collect();
        assert_eq!(read, ["a", "b", "", "c"]);
        assert!(of("\u{feff} {".into()).starts_like_json().unwrap() && !of("at,arm".into()).starts_like_json().unwrap());
    }

    #[test]
    fn lines_that_are_too_long_or_no_text_are_errors_with_their_number() {
        let most = usize::try_from(MAX_LINE_BYTES).unwrap();
        let mut lines = of([vec![b'x'; most], b"\n".to_vec(), vec![b'y'; most + 1]].concat());
        assert_eq!(lines.next().unwrap().unwrap().len(), most);
        assert_eq!(lines.next().unwrap_err().to_string(), "data:2: the line is longer than 1 MiB; expected a row per line");
        assert_eq!(of(vec![b'a', 0xff]).next().unwrap_err().to_string(), "data:1: the line is not UTF-8 text");
    }
}
