//! Diagnostics for people: the line, the place underlined, what was expected, what to do.
//!
//! Carets are placed by display width, so that they stand under wide characters, tabs and replaced control characters alike. Long lines
//! are cut around the place. Secrets are masked. Colour only repeats what the words say.

use unicode_width::UnicodeWidthStr;

use super::{
    Diagnostic, Diagnostics, Severity,
    secrets::{is_secret, masked_line},
    text::{lines, shown, visible},
};

/// The most columns of a source line that are shown.
const MAX_COLUMNS: usize = 120;

/// Columns of a long line that are shown before the place.
const LEAD_COLUMNS: usize = 40;

/// Diagnostics as text for a terminal or a log, with the lines they are about. `text` is the document they came from.
#[must_use]
pub fn render(diagnostics: &Diagnostics, source_name: &str, text: &str, colour: bool) -> String {
    let paint = Paint { colour };
    let lines = lines(text);
    let mut blocks: Vec<String> = diagnostics.iter().map(|diagnostic| block(diagnostic, source_name, &lines, paint)).collect();
    if diagnostics.omitted() > 0 {
        let more = format!("and {} more errors that are not shown", diagnostics.omitted());
        blocks.push(format!("{}: {more}\n", paint.bold_red("error")));
    }
    blocks.join("\n")
}

fn block(diagnostic: &Diagnostic, source_name: &str, lines: &[&str], paint: Paint) -> String {
    let word = match diagnostic.severity {
        Severity::Error => paint.bold_red("error"),
        Severity::Warning => paint.bold_yellow("warning"),
    };
    let number = diagnostic.line.to_string();
    let pad = " ".repeat(number.len());
    let bar = paint.blue("|");
    let mut out = format!("{word}: {}\n", paint.bold(&visible(&diagnostic.message)));
    out += &format!("{pad}{} {}:{}:{}\n", paint.blue("-->"), visible(source_name), diagnostic.line, diagnostic.column);
    let line = lines.get(diagnostic.line.saturating_sub(1)).copied().unwrap_or_default();
    let hidden_from = is_secret(&diagnostic.path).then(|| diagnostic.column.saturating_sub(1));
    let excerpt = Excerpt::of(&masked_line(line, hidden_from), diagnostic.column.saturating_sub(1), diagnostic.length);
    out += &format!("{pad} {bar}\n{} {bar}", paint.blue(&number));
    if !excerpt.text.is_empty() {
        out += &format!(" {}", excerpt.text);
    }
    let carets = "^".repeat(excerpt.width);
    let carets = if diagnostic.severity == Severity::Error { paint.bold_red(&carets) } else { paint.bold_yellow(&carets) };
    out += &format!("\n{pad} {bar} {}{carets}\n", " ".repeat(excerpt.offset));
    for (label, note) in [("expected", &diagnostic.expected), ("help", &diagnostic.help)] {
        if let Some(note) = note {
            out += &format!("{pad} {} {}: {}\n", paint.blue("="), paint.bold(label), visible(note));
        }
    }
    out
}

/// The part of a line that is shown, and where the carets go, in columns of the terminal.
struct Excerpt {
    text: String,
    offset: usize,
    width: usize,
}

impl Excerpt {
    fn of(line: &str, column: usize, length: usize) -> Self {
        let cells: Vec<(String, usize)> = line.chars().take(column + length + MAX_COLUMNS).map(cell).collect();
        let before: usize = cells.iter().take(column).map(|(_, width)| width).sum();
        let all: usize = before + cells.iter().skip(column).map(|(_, width)| width).sum::<usize>();
        // Whole if it fits; otherwise from a little before the place.
        let mut first = 0;
        let mut skipped = 0;
        if all > MAX_COLUMNS {
            while first < column && before - skipped > LEAD_COLUMNS {
                skipped += cells[first].1;
                first += 1;
            }
        }
        let mut text = if first > 0 { String::from("…") } else { String::new() };
        let mut offset = text.width();
        let mut columns = offset;
        let mut width = 0;
        let mut cut = false;
        for (index, (shown, shown_width)) in cells.iter().enumerate().skip(first) {
            if columns + shown_width > MAX_COLUMNS {
                cut = true;
                break;
            }
            text.push_str(shown);
            columns += shown_width;
            match index {
                index if index < column => offset += shown_width,
                index if index < column + length => width += shown_width,
                _ => {}
            }
        }
        let mut text = text.trim_end().to_owned();
        if cut {
            text.push('…');
        }
        Self { text, offset, width: width.max(1) }
    }
}

fn cell(character: char) -> (String, usize) {
    let text = shown(character).into_owned();
    let width = text.width();
    (text, width)
}

/// Colours of a terminal, or none.
#[derive(Clone, Copy)]
struct Paint {
    colour: bool,
}

impl Paint {
    fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }
    fn bold_red(self, text: &str) -> String {
        self.paint("1;31", text)
    }
    fn bold_yellow(self, text: &str) -> String {
        self.paint("1;33", text)
    }
    fn blue(self, text: &str) -> String {
        self.paint("1;34", text)
    }
    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Span;

    fn shown_at(text: &str, line: usize, column: usize, length: usize) -> String {
        let mut diagnostics = Diagnostics::new("r.yaml");
        diagnostics.push(Diagnostic::error("x", Span { line, column, length }, "wrong").expected("right").help("do so"));
        render(&diagnostics, "r.yaml", text, false)
    }

    #[test]
    fn reads_like_a_compiler() {
        assert_eq!(
            shown_at("a: 1\nbc: 2\n", 2, 1, 2),
            "error: wrong\n --> r.yaml:2:1\n  |\n2 | bc: 2\n  | ^^\n  = expected: right\n  = help: do so\n"
        );
    }

    #[test]
    fn carets_stand_under_wide_characters_tabs_and_replaced_ones() {
        for (line, column, length, expected) in [
            ("日本: x", 1, 2, "| 日本: x\n  | ^^^^\n"),
            ("日本: x", 5, 1, "| 日本: x\n  |       ^\n"),
            ("\ta: x", 2, 1, "|     a: x\n  |     ^\n"),
            ("a\u{1b}b", 2, 2, "| a␛b\n  |  ^^\n"),
            ("", 1, 1, "|\n  | ^\n"),
        ] {
            let shown = shown_at(line, 1, column, length);
            assert!(shown.contains(expected), "{shown}");
        }
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let line = format!("{}BAD{}", "x".repeat(1000), "y".repeat(100_000));
        let shown = shown_at(&line, 1, 1001, 3);
        let caret = shown.lines().nth(4).unwrap();
        let source = shown.lines().nth(3).unwrap();
        assert!(source.starts_with("1 | …x") && source.ends_with("y…"), "{source}");
        let from = caret.find('^').unwrap();
        let under: String = source.chars().skip(from).take(3).collect();
        assert_eq!(under, "BAD");
        assert!(source.chars().count() < 130);
    }

    #[test]
    fn colour_only_adds_escape_sequences() {
        let mut diagnostics = Diagnostics::new("r.yaml");
        diagnostics.push(Diagnostic::warning("x", Span { line: 1, column: 1, length: 1 }, "odd"));
        let plain = render(&diagnostics, "r.yaml", "a", false);
        let coloured = render(&diagnostics, "r.yaml", "a", true);
        let mut stripped = String::new();
        let mut rest = coloured.as_str();
        while let Some(at) = rest.find('\u{1b}') {
            stripped += &rest[..at];
            rest = rest[at..].split_once('m').unwrap().1;
        }
        assert_eq!(stripped + rest, plain);
        assert_ne!(coloured, plain);
    }
}
