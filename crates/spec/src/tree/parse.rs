//! YAML events into a tree, within a budget.
//!
//! Only what a release document needs is allowed: one document, text as keys, each key once, no tags, no merge keys. Aliases are allowed as
//! long as the document stays within the budget when they are written out. Mistakes that leave the structure clear (a key given twice)
//! are reported and reading goes on; those that do not (broken syntax, budget) end it.

use std::{borrow::Cow, collections::HashMap, rc::Rc};

use saphyr_parser::{Event, Parser, ScalarStyle, Span as YamlSpan, Tag};

use super::{Content, Entry, Node, Span, scalar, syntax};
use crate::{
    Diagnostic, Diagnostics, MAX_DOCUMENT_BYTES,
    diagnostic::{lines, quote},
};

/// The most nodes, counted as if aliases were written out.
const MAX_NODES: usize = 20_000;

/// The most bytes of text, counted as if aliases were written out.
const MAX_TEXT_BYTES: usize = 2 * MAX_DOCUMENT_BYTES;

/// The deepest nesting.
const MAX_DEPTH: usize = 64;

/// The document's tree, or `None` after reporting why there is none.
pub(crate) fn parse(text: &str, diagnostics: &mut Diagnostics) -> Option<Rc<Node>> {
    let mut builder =
        Builder { diagnostics, lines: lines(text), stack: Vec::new(), anchors: HashMap::new(), spent: Size::default(), root: None };
    let mut parser = Parser::new_from_str(text);
    let outcome = loop {
        match parser.next_event() {
            None | Some(Ok((Event::StreamEnd, _))) => break Ok(()),
            Some(Ok((event, span))) => {
                if let Err(stop) = builder.take(event, &span) {
                    break Err(stop);
                }
            }
            Some(Err(error)) => {
                let mark = error.marker();
                let open = builder.stack.last().map(|open| open.span);
                break Err(Box::new(syntax::explain(&builder.lines, mark.line(), mark.col() + 1, error.info(), open)));
            }
        }
    };
    let root = builder.root.take();
    if let Err(stop) = outcome {
        diagnostics.push(*stop);
        return None;
    }
    match root {
        Some(root) if !matches!(root.content, Content::Null) => Some(root),
        _ => {
            diagnostics.push(
                Diagnostic::error("empty", Span::start(), "the document is empty")
                    .expected("a release document")
                    .help("it begins with `apiVersion: serin.dev/v1alpha1` and `kind: Release`"),
            );
            None
        }
    }
}

/// What a node costs when its aliases are written out.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    nodes: usize,
    bytes: usize,
}

/// A list or map that is not complete yet.
struct Open {
    span: Span,
    anchor: usize,
    /// What was spent before it.
    before: Size,
    kind: OpenKind,
    flawed: bool,
}

enum OpenKind {
    List(Vec<Rc<Node>>),
    /// The fields, what comes next, and the names that were seen with their places.
    Map(Vec<Entry>, Key, HashMap<String, Span>),
}

/// What a map is waiting for.
enum Key {
    /// A key.
    None,
    /// The value of this key.
    Some(String, Span),
    /// The value of a key that was reported; it is read and forgotten.
    Refused,
}

struct Builder<'a> {
    diagnostics: &'a mut Diagnostics,
    lines: Vec<&'a str>,
    stack: Vec<Open>,
    anchors: HashMap<usize, (Rc<Node>, Size)>,
    spent: Size,
    root: Option<Rc<Node>>,
}

type Stop = Box<Diagnostic>;

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, yaml: &YamlSpan) -> Result<(), Stop> {
        let span = span_of(yaml);
        match event {
            Event::DocumentStart(_) if self.root.is_some() => Err(Box::new(
                Diagnostic::error("several-documents", span, "a second document begins here")
                    .expected("one release document in a file")
                    .help("move it to a file of its own"),
            )),
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(tag, span);
                self.spend(Size { nodes: 1, bytes: text.len() }, span)?;
                self.scalar(&text, style, anchor, span);
                Ok(())
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_tag(tag, span);
                self.open(OpenKind::List(Vec::new()), anchor, span)
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_tag(tag, span);
                self.open(OpenKind::Map(Vec::new(), Key::None, HashMap::new()), anchor, span)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                self.close();
                Ok(())
            }
            Event::Alias(anchor) => self.alias(anchor, span),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => Ok(()),
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, anchor: usize, span: Span) {
        if self.expects_key() {
            self.key(text, style, span);
            if anchor > 0 {
                let node = Node { span, content: Content::Text(text.to_owned()), flawed: false };
                self.anchors.insert(anchor, (Rc::new(node), Size { nodes: 1, bytes: text.len() }));
            }
            return;
        }
        let resolved = match style {
            ScalarStyle::Plain => scalar::resolve(text),
            _ => Ok(Content::Text(text.to_owned())),
        };
        let flawed = resolved.is_err();
        let content = resolved.unwrap_or_else(|why| {
            let message = format!("{} {why}", quote(text));
            self.diagnostics.push(Diagnostic::error("bad-number", span, message).help("quote it if it is meant as text"));
            Content::Null
        });
        let node = Rc::new(Node { span, content, flawed });
        self.complete(node, anchor, Size { nodes: 1, bytes: text.len() });
    }

    fn key(&mut self, text: &str, style: ScalarStyle, span: Span) {
        let Some(Open { kind: OpenKind::Map(_, key, seen), flawed, .. }) = self.stack.last_mut() else { return };
        let plain = style == ScalarStyle::Plain;
        let refused = if plain && text == "<<" {
            Some(
                Diagnostic::error("merge-key", span, "merge keys (`<<`) are not supported")
                    .help("write the fields out, or share a whole value with an anchor `&name` and an alias `*name`"),
            )
        } else if plain && !matches!(scalar::resolve(text), Ok(Content::Text(_))) {
            let what = if text.is_empty() { "a field has no name".to_owned() } else { format!("the name {} is not text", quote(text)) };
            let help = if text.is_empty() { "write a name before the colon".to_owned() } else { format!("quote it: `\"{text}\"`") };
            Some(Diagnostic::error("key-not-text", span, what).expected("a name").help(help))
        } else {
            seen.get(text).map(|place| {
                let message = format!("the field {} is given twice", quote(text));
                Diagnostic::error("duplicate-key", span, message)
                    .help(format!("the first one is on line {}, column {}; remove one of them", place.line, place.column))
            })
        };
        if refused.is_none() {
            seen.insert(text.to_owned(), span);
        }
        *key = if refused.is_some() { Key::Refused } else { Key::Some(text.to_owned(), span) };
        if let Some(refused) = refused {
            *flawed = true;
            self.diagnostics.push(refused);
        }
    }

    fn open(&mut self, kind: OpenKind, anchor: usize, span: Span) -> Result<(), Stop> {
        if self.expects_key() {
            return Err(Box::new(syntax::structure_as_name(&self.lines, span)));
        }
        if self.stack.len() >= MAX_DEPTH {
            return Err(Box::new(
                Diagnostic::error("too-deep", span, "the document is nested too deeply").expected(format!("at most {MAX_DEPTH} levels")),
            ));
        }
        let before = self.spent;
        self.spend(Size { nodes: 1, bytes: 0 }, span)?;
        self.stack.push(Open { span, anchor, before, kind, flawed: false });
        Ok(())
    }

    fn close(&mut self) {
        let Some(open) = self.stack.pop() else { return };
        let content = match open.kind {
            OpenKind::List(items) => Content::List(items),
            OpenKind::Map(entries, ..) => Content::Map(entries),
        };
        let size = Size { nodes: self.spent.nodes - open.before.nodes, bytes: self.spent.bytes - open.before.bytes };
        self.complete(Rc::new(Node { span: open.span, content, flawed: open.flawed }), open.anchor, size);
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), Stop> {
        let Some((node, size)) = self.anchors.get(&anchor).map(|(node, size)| (Rc::clone(node), *size)) else {
            return Err(Box::new(Diagnostic::error("recursive-alias", span, "the alias stands within the value it names")));
        };
        self.spend(size, span)?;
        if self.expects_key() {
            match &node.content {
                Content::Text(text) => self.key(text, ScalarStyle::DoubleQuoted, span),
                _ => self.key("", ScalarStyle::Plain, span),
            }
        } else {
            self.complete(node, 0, size);
        }
        Ok(())
    }

    /// Puts a complete node where it belongs.
    fn complete(&mut self, node: Rc<Node>, anchor: usize, size: Size) {
        if anchor > 0 {
            self.anchors.insert(anchor, (Rc::clone(&node), size));
        }
        match self.stack.last_mut().map(|open| &mut open.kind) {
            None => self.root = Some(node),
            Some(OpenKind::List(items)) => items.push(node),
            Some(OpenKind::Map(entries, key, _)) => {
                if let Key::Some(key, key_span) = std::mem::replace(key, Key::None) {
                    entries.push(Entry { key, key_span, value: node });
                }
            }
        }
    }

    fn expects_key(&self) -> bool {
        matches!(self.stack.last(), Some(Open { kind: OpenKind::Map(_, Key::None, _), .. }))
    }

    fn spend(&mut self, size: Size, span: Span) -> Result<(), Stop> {
        self.spent.nodes = self.spent.nodes.saturating_add(size.nodes);
        self.spent.bytes = self.spent.bytes.saturating_add(size.bytes);
        if self.spent.nodes <= MAX_NODES && self.spent.bytes <= MAX_TEXT_BYTES {
            return Ok(());
        }
        Err(Box::new(
            Diagnostic::error("too-large", span, "the document is too large once its aliases are written out")
                .expected(format!("at most {MAX_NODES} values and {MAX_TEXT_BYTES} bytes of text")),
        ))
    }

    fn refuse_tag(&mut self, tag: Option<Cow<'_, Tag>>, span: Span) {
        if let Some(tag) = tag {
            let message = format!("tags such as {} are not supported", quote(&tag.to_string()));
            self.diagnostics.push(Diagnostic::error("tag", span, message).help("leave it out; quote a value to make it text"));
        }
    }
}

fn span_of(span: &YamlSpan) -> Span {
    Span { line: span.start.line(), column: span.start.col() + 1, length: span.end.index().saturating_sub(span.start.index()).max(1) }
}
