//! What is wrong with a document, where, and what to do about it.
//!
//! Diagnostics are collected, not returned one by one: a document with five mistakes is reported once, not five times. Their number is
//! bounded, because a document may have a mistake on each of its thousands of lines; those left out are counted.

mod render;
mod secrets;
mod text;

pub use render::render;
pub(crate) use text::{lines, list, quote, visible};

use serde::Serialize;

use crate::tree::{Path, Span};

/// The most diagnostics that are kept; further ones are counted in [`Diagnostics::omitted`].
pub const MAX_DIAGNOSTICS: usize = 50;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The document cannot run.
    Error,
    /// The document can run, but probably does not mean what it says.
    Warning,
}

/// One thing that is wrong, and its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// A stable word for programs, such as `unknown-field`.
    pub code: &'static str,
    /// What is wrong, in a sentence without a full stop. Text of the document in it is shortened and has no control characters.
    pub message: String,
    /// Where in the document's structure, such as `spec.strategy.canary.stages[2].weight`; empty if it is not about a field.
    pub path: String,
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1. A byte order mark is not counted.
    pub column: usize,
    /// Number of characters that are meant, at least 1; they are all on `line`.
    pub length: usize,
    /// What would have been right.
    pub expected: Option<String>,
    /// What to do.
    pub help: Option<String>,
}

impl Diagnostic {
    pub(crate) fn error(code: &'static str, place: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, place, message.into())
    }

    pub(crate) fn warning(code: &'static str, place: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, place, message.into())
    }

    fn new(severity: Severity, code: &'static str, place: Span, message: String) -> Self {
        let Span { line, column, length } = place;
        Self { severity, code, message, path: String::new(), line, column, length, expected: None, help: None }
    }

    pub(crate) fn at(mut self, path: &Path) -> Self {
        self.path = path.to_string();
        self
    }

    pub(crate) fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn maybe_expected(mut self, expected: Option<String>) -> Self {
        self.expected = expected.or(self.expected);
        self
    }

    pub(crate) fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help.or(self.help);
        self
    }
}

/// Everything that is wrong with a document, in the order of the text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Diagnostics {
    /// The document's name as it was given to [`load`](crate::load).
    source: String,
    diagnostics: Vec<Diagnostic>,
    omitted: usize,
}

impl Diagnostics {
    pub(crate) fn new(source_name: &str) -> Self {
        Self { source: source_name.to_owned(), ..Self::default() }
    }

    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.diagnostics.is_empty()
    }

    /// Number of diagnostics that are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.diagnostics.len()
    }

    /// Whether any of them is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.omitted > 0 || self.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// Number of diagnostics that were left out because there were more than [`MAX_DIAGNOSTICS`].
    #[must_use]
    pub fn omitted(&self) -> usize {
        self.omitted
    }

    /// Whether some are known only by their number.
    pub(crate) fn has_omitted(&self) -> bool {
        self.omitted > 0
    }

    /// The document's name as it was given to [`load`](crate::load).
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// In the order of the text.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.diagnostics.iter()
    }

    /// Whether further ones are only counted: there is no point in finding good words for them.
    pub(crate) fn is_full(&self) -> bool {
        self.diagnostics.len() >= MAX_DIAGNOSTICS
    }

    /// Adds one. A warning that finds no room is dropped without a count: errors are what must not be lost.
    pub(crate) fn push(&mut self, mut diagnostic: Diagnostic) {
        diagnostic.message = secrets::masked_text(diagnostic.message);
        diagnostic.path = secrets::masked_text(diagnostic.path);
        for note in [&mut diagnostic.expected, &mut diagnostic.help] {
            *note = note.take().map(secrets::masked_text);
        }
        if !self.is_full() {
            self.diagnostics.push(diagnostic);
        } else if diagnostic.severity == Severity::Error {
            self.omitted = self.omitted.saturating_add(1);
        }
    }

    /// Puts them in the order of the text and makes sure that every place is in it.
    pub(crate) fn settle(&mut self, text: &str) {
        let lines = text::lines(text);
        for diagnostic in &mut self.diagnostics {
            diagnostic.line = diagnostic.line.clamp(1, lines.len().max(1));
            let characters = lines.get(diagnostic.line - 1).map_or(0, |line| line.chars().count());
            diagnostic.column = diagnostic.column.clamp(1, characters.max(1));
            diagnostic.length = diagnostic.length.clamp(1, (characters + 1).saturating_sub(diagnostic.column).max(1));
        }
        self.diagnostics.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// A line for each, for logs. People get [`render`].
impl std::fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, diagnostic) in self.iter().enumerate() {
            let line_end = if index == 0 { "" } else { "\n" };
            write!(f, "{line_end}{}:{}:{}: {}", visible(&self.source), diagnostic.line, diagnostic.column, diagnostic.message)?;
        }
        if self.omitted > 0 {
            write!(f, "\nand {} more errors", self.omitted)?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}
