//! The document as a tree in which every node knows its place.
//!
//! Aliases share the node that they name, so that a small document cannot become a large one in memory; what they would expand to
//! is counted against the same budget as nodes that are written out.

mod json;
mod parse;
mod path;
mod scalar;
mod syntax;

use std::rc::Rc;

pub(crate) use json::document_hash;
pub(crate) use parse::parse;
pub(crate) use path::{Path, Segment};
pub(crate) use scalar::Number;

/// A place: one-based line and column, and a number of characters on that line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) length: usize,
}

impl Span {
    /// The document's first character.
    pub(crate) fn start() -> Self {
        Self { line: 1, column: 1, length: 1 }
    }

    /// The character after a text.
    pub(crate) fn end_of(text: &str) -> Self {
        let lines = crate::diagnostic::lines(text);
        let last = lines.last().map_or(0, |line| line.chars().count());
        Self { line: lines.len().max(1), column: last + 1, length: 1 }
    }
}

/// A node with its place.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) content: Content,
    /// Something in it was refused and reported, so that it is less than what was written.
    pub(crate) flawed: bool,
}

/// What a node is.
#[derive(Debug)]
pub(crate) enum Content {
    /// Nothing, `~` or `null`.
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Rc<Node>>),
    Map(Vec<Entry>),
}

/// A field. Names are unique within their map.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Span,
    pub(crate) value: Rc<Node>,
}

impl Node {
    /// What a node is called in messages.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.content {
            Content::Null => "nothing",
            Content::Bool(_) => "true or false",
            Content::Number(_) => "a number",
            Content::Text(_) => "text",
            Content::List(_) => "a list",
            Content::Map(_) => "a mapping",
        }
    }

    /// The scalar as it is written; `None` for lists, maps and nothing.
    pub(crate) fn scalar_text(&self) -> Option<&str> {
        match &self.content {
            Content::Text(text) => Some(text),
            Content::Number(number) => Some(&number.text),
            Content::Bool(true) => Some("true"),
            Content::Bool(false) => Some("false"),
            Content::Null | Content::List(_) | Content::Map(_) => None,
        }
    }

    /// The field of a map.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.content {
            Content::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The place of what a path names, or of the nearest thing above it that exists. Scalars are pointed at themselves; lists and maps
    /// at the key that leads to them, because their own place is as long as their content.
    pub(crate) fn place_of(&self, path: &Path) -> Span {
        let mut node = self;
        let mut place = self.first_place();
        for segment in path.segments() {
            let next = match (segment, &node.content) {
                (Segment::Key(key), Content::Map(_)) => node.entry(key).map(|entry| (&entry.value, entry.key_span)),
                (Segment::Index(index), Content::List(items)) => items.get(*index).map(|item| (item, item.first_place())),
                _ => None,
            };
            let Some((value, key_place)) = next else { break };
            node = value;
            place = if node.scalar_text().is_some() { node.span } else { key_place };
        }
        place
    }

    /// The place of the key of a field; that of the map if it has no such field.
    pub(crate) fn key_place_of(&self, path: &Path) -> Span {
        let Some((Segment::Key(key), above)) = path.split_last() else { return self.place_of(path) };
        self.get(&above).and_then(|map| map.entry(key)).map_or_else(|| self.place_of(path), |entry| entry.key_span)
    }

    /// The node that a path names.
    pub(crate) fn get(&self, path: &Path) -> Option<&Node> {
        path.segments().iter().try_fold(self, |node, segment| match (segment, &node.content) {
            (Segment::Key(key), Content::Map(_)) => node.entry(key).map(|entry| entry.value.as_ref()),
            (Segment::Index(index), Content::List(items)) => items.get(*index).map(Rc::as_ref),
            _ => None,
        })
    }

    /// Where to point for a node that no key leads to: a map's first key, anything else's beginning.
    pub(crate) fn first_place(&self) -> Span {
        match &self.content {
            Content::Map(entries) => entries.first().map_or(self.span, |entry| entry.key_span),
            _ => self.span,
        }
    }
}
