//! What lowering needs everywhere: places for errors, and scalars within a range.

use std::ops::RangeInclusive;

use crate::{
    Diagnostic, Diagnostics,
    diagnostic::{lines, quote},
    format::{self, Malformed},
    raw,
    tree::{Node, Path, Span},
};

/// The document's places and the list of what is wrong with it.
pub(crate) struct Context<'a> {
    root: &'a Node,
    lines: Vec<&'a str>,
    diagnostics: &'a mut Diagnostics,
}

/// Lengths of time in milliseconds.
pub(super) const SECOND: u64 = 1_000;
pub(super) const MINUTE: u64 = 60 * SECOND;
pub(super) const HOUR: u64 = 60 * MINUTE;
pub(super) const DAY: u64 = 24 * HOUR;

impl<'a> Context<'a> {
    /// `text` is the document without its byte order mark.
    pub(crate) fn new(root: &'a Node, text: &'a str, diagnostics: &'a mut Diagnostics) -> Self {
        Self { root, lines: lines(text), diagnostics }
    }

    pub(super) fn has_errors(&self) -> bool {
        self.diagnostics.has_errors()
    }

    /// Whether an error was reported at a path or anywhere below it.
    pub(super) fn has_reported(&self, path: &str) -> bool {
        let below = |found: &str| found.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
        self.diagnostics.has_omitted() || self.diagnostics.iter().any(|diagnostic| below(&diagnostic.path))
    }

    pub(super) fn push(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// An error at a field's value.
    pub(super) fn error(&self, path: &Path, code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(code, self.root.place_of(path), message).at(path)
    }

    /// An error at a part of a field's value, if that part can be found in the line.
    pub(super) fn error_within(&self, path: &Path, part: &str, code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(code, self.narrowed(self.root.place_of(path), part), message).at(path)
    }

    /// An error at a field's name.
    pub(super) fn error_at_key(&self, path: &Path, code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(code, self.root.key_place_of(path), message).at(path)
    }

    /// A warning at a field's name.
    pub(super) fn warning_at_key(&self, path: &Path, code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic::warning(code, self.root.key_place_of(path), message).at(path)
    }

    /// A warning at a field's value.
    pub(super) fn warning(&self, path: &Path, code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic::warning(code, self.root.place_of(path), message).at(path)
    }

    /// The line of a field's value, counted from 1.
    pub(super) fn line(&self, path: &Path) -> usize {
        self.root.place_of(path).line
    }

    fn malformed(&mut self, path: &Path, malformed: Malformed) {
        let diagnostic = self.error(path, "malformed", malformed.message).expected(malformed.expected).maybe_help(malformed.help);
        self.push(diagnostic);
    }

    /// The value, or the fallback after reporting why there is none.
    pub(super) fn take<T>(&mut self, path: &Path, value: Result<T, Malformed>, fallback: T) -> T {
        value.unwrap_or_else(|malformed| {
            self.malformed(path, malformed);
            fallback
        })
    }

    /// An optional duration in milliseconds, within a range.
    pub(super) fn duration(&mut self, path: &Path, given: Option<&raw::Duration>, default: u64, range: RangeInclusive<u64>) -> u64 {
        given.map_or(default, |given| self.given_duration(path, given, default, range))
    }

    /// A duration in milliseconds, within a range.
    pub(super) fn given_duration(&mut self, path: &Path, given: &raw::Duration, fallback: u64, range: RangeInclusive<u64>) -> u64 {
        let ms = self.take(path, format::duration_ms(&given.0), fallback);
        self.in_range(path, &given.0, ms, &range, format::short_duration)
    }

    /// An optional size in bytes, within a range.
    pub(super) fn size(&mut self, path: &Path, given: Option<&raw::Size>, default: u64, range: RangeInclusive<u64>) -> u64 {
        let Some(given) = given else { return default };
        let bytes = self.take(path, format::bytes(&given.0), default);
        self.in_range(path, &given.0, bytes, &range, |bytes| match bytes {
            bytes if bytes.is_multiple_of(1 << 30) => format!("{}GiB", bytes >> 30),
            bytes if bytes.is_multiple_of(1 << 20) => format!("{}MiB", bytes >> 20),
            bytes => format!("{}KiB", bytes >> 10),
        })
    }

    fn in_range(&mut self, path: &Path, text: &str, value: u64, range: &RangeInclusive<u64>, show: impl Fn(u64) -> String) -> u64 {
        if !range.contains(&value) {
            let word = if value < *range.start() { "short" } else { "long" };
            let word = if text.ends_with('B') { if word == "short" { "small" } else { "large" } } else { word };
            let message = format!("{} is too {word}: {}", crate::check::named(path), quote(text));
            let expected = format!("{} to {}", quote(&show(*range.start())), quote(&show(*range.end())));
            self.push(self.error(path, "out-of-range", message).expected(expected));
        }
        value
    }

    fn narrowed(&self, span: Span, part: &str) -> Span {
        let line = self.lines.get(span.line.saturating_sub(1)).copied().unwrap_or_default();
        let from = line.char_indices().nth(span.column.saturating_sub(1)).map_or(line.len(), |(index, _)| index);
        let rest = line.get(from..).unwrap_or_default();
        match rest.find(part) {
            Some(at) if !part.is_empty() && rest[..at].chars().count() < span.length => {
                Span { line: span.line, column: span.column + rest[..at].chars().count(), length: part.chars().count() }
            }
            _ => span,
        }
    }
}
