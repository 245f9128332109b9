//! The release document: from text to a [validated release](validated::Release), or to diagnostics that say everything that is wrong.
//!
//! Reading is pure and happens in stages, each of which reports all its errors; meaning is checked wherever the structure is sound:
//!
//! 1. `tree`: YAML events become a tree in which every node knows its place. Size, nodes, depth and aliases are bounded.
//! 2. `check`: the tree is compared with the JSON Schema that is derived from the raw types. Unknown and missing fields, wrong
//!    types, unknown words and malformed scalars are found here, so that schema, editor help and errors cannot disagree.
//! 3. `raw`: the sound tree is read into the raw types.
//! 4. `lower`: meaning is checked, defaults are filled in, and the plan is made.
//!
//! What only the machine can tell (a taken port, a missing program) is not looked at here.

mod check;
mod diagnostic;
mod format;
mod lower;
mod raw;
mod schema;
mod structural;
mod tree;
pub mod validated;

pub use diagnostic::{Diagnostic, Diagnostics, MAX_DIAGNOSTICS, Severity, render};
pub use schema::schema;
pub use structural::cluster_spec_schema;

use std::rc::Rc;

use tree::Path;

/// The largest document that is read, in bytes. A larger one is refused before it is parsed.
pub const MAX_DOCUMENT_BYTES: usize = 1024 * 1024;

/// A document that can run, and what its author should know before it does.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The release.
    pub release: validated::Release,
    /// Warnings only; often empty.
    pub warnings: Diagnostics,
}

/// Reads a release document. `source_name` is the name that diagnostics are shown with; nothing is opened.
///
/// # Errors
/// Everything that is wrong with the document in the order of the text. Meaning is checked in sections whose structure is sound.
pub fn load(source_name: &str, text: &str) -> Result<Loaded, Diagnostics> {
    let (release, warnings) = settled(source_name, text, |diagnostics| read_with(text, diagnostics, lower::lower))?;
    Ok(Loaded { release, warnings })
}

/// A document of a cluster, and what its author should know before it runs.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedCluster {
    /// The release.
    pub release: validated::ClusterRelease,
    /// Warnings only; often empty.
    pub warnings: Diagnostics,
}

/// A document of either kind.
#[derive(Debug, Clone, PartialEq)]
pub enum LoadedAny {
    /// `serin run` and `serin serve` can run it.
    Machine(Box<Loaded>),
    /// `serin controller` can run it.
    Cluster(Box<LoadedCluster>),
}

/// Reads a release document for a cluster, like [`load`] one for this machine.
///
/// # Errors
/// Everything that is wrong with the document in the order of the text, documents for one machine included.
pub fn load_cluster(source_name: &str, text: &str) -> Result<LoadedCluster, Diagnostics> {
    let (release, warnings) = settled(source_name, text, |diagnostics| read_with(text, diagnostics, lower::cluster::lower))?;
    Ok(LoadedCluster { release, warnings })
}

/// A document as JSON, as it stands; `None` if it is no YAML.
#[must_use]
pub fn as_json(text: &str) -> Option<serde_json::Value> {
    parse(text, &mut Diagnostics::new("")).map(|(_, root)| root.to_json())
}

/// Reads a release document of either kind, in bytes that may not be text: for those who only look at it.
///
/// # Errors
/// Those of [`load_bytes`], or of [`load_cluster`] if it says anything that only a cluster has.
pub fn load_any(source_name: &str, bytes: &[u8]) -> Result<LoadedAny, Diagnostics> {
    enum Release {
        Machine(validated::Release),
        Cluster(validated::ClusterRelease),
    }
    let text = utf8(source_name, bytes)?;
    let read = |diagnostics: &mut Diagnostics| {
        read_with(text, diagnostics, |document, hash, cx| {
            if lower::cluster::is_for_cluster(&document) {
                lower::cluster::lower(document, hash, cx).map(Release::Cluster)
            } else {
                lower::lower(document, hash, cx).map(Release::Machine)
            }
        })
    };
    Ok(match settled(source_name, text, read)? {
        (Release::Machine(release), warnings) => LoadedAny::Machine(Box::new(Loaded { release, warnings })),
        (Release::Cluster(release), warnings) => LoadedAny::Cluster(Box::new(LoadedCluster { release, warnings })),
    })
}

/// Like [`load`], for bytes that may not be text.
///
/// # Errors
/// Those of [`load`], and bytes that are not UTF-8 with the place of the first.
pub fn load_bytes(source_name: &str, bytes: &[u8]) -> Result<Loaded, Diagnostics> {
    load(source_name, utf8(source_name, bytes)?)
}

/// A text that can be the name of a token, for journals and in configurations of servers.
///
/// # Errors
/// What is wrong with it, and what would be right.
pub fn token_name(text: &str) -> Result<String, String> {
    match format::check_token_name(text) {
        Ok(()) => Ok(text.to_owned()),
        Err(malformed) => Err(format!("{}; expected {}", malformed.message, malformed.expected)),
    }
}

/// Reads the configuration of a server, like [`load`] a release document.
///
/// # Errors
/// Everything that is wrong with it in the order of the text.
pub fn load_server(source_name: &str, text: &str) -> Result<validated::Server, Diagnostics> {
    settled(source_name, text, |diagnostics| read_server(text, diagnostics)).map(|(server, _)| server)
}

/// JSON Schema (draft 2020-12) of a server's configuration.
#[must_use]
pub fn server_schema() -> serde_json::Value {
    schema::of_server().clone()
}

fn utf8<'a>(source_name: &str, bytes: &'a [u8]) -> Result<&'a str, Diagnostics> {
    std::str::from_utf8(bytes).map_err(|error| {
        let before = String::from_utf8_lossy(bytes.get(..error.valid_up_to()).unwrap_or_default());
        let mut diagnostics = Diagnostics::new(source_name);
        let place = tree::Span::end_of(&before);
        diagnostics.push(
            Diagnostic::error("invalid-utf8", place, "the document is not UTF-8 text")
                .expected("a YAML document in UTF-8")
                .help("save the file as UTF-8; if it is compressed or binary, it is not a release document"),
        );
        diagnostics
    })
}

/// What was read with its warnings, in the order of the text; or all that is wrong, if anything is.
fn settled<T>(source_name: &str, text: &str, read: impl FnOnce(&mut Diagnostics) -> Option<T>) -> Result<(T, Diagnostics), Diagnostics> {
    let mut diagnostics = Diagnostics::new(source_name);
    let found = read(&mut diagnostics);
    diagnostics.settle(text);
    match found {
        Some(found) if !diagnostics.has_errors() => Ok((found, diagnostics)),
        _ => Err(diagnostics),
    }
}

fn read_server(text: &str, diagnostics: &mut Diagnostics) -> Option<validated::Server> {
    let (text, root) = parse(text, diagnostics)?;
    check::check(&root, schema::of_server(), diagnostics);
    if diagnostics.has_errors() {
        return None;
    }
    let document = typed::<raw::ServerDocument>(root.to_json(), &root, diagnostics)?;
    lower::server::lower(document, &mut lower::Context::new(&root, text, diagnostics))
}

/// The document in the meaning that `lower` gives it, which takes it with its hash.
fn read_with<T>(
    text: &str,
    diagnostics: &mut Diagnostics,
    lower: impl FnOnce(raw::Document, String, &mut lower::Context<'_>) -> Option<T>,
) -> Option<T> {
    let (text, root) = parse(text, diagnostics)?;
    check::check(&root, schema::shared(), diagnostics);
    let value = root.to_json();
    if diagnostics.has_errors() {
        lower::sound::report(&value, &mut lower::Context::new(&root, text, diagnostics));
        return None;
    }
    let hash = tree::document_hash(&value);
    let document = typed::<raw::Document>(value, &root, diagnostics)?;
    lower(document, hash, &mut lower::Context::new(&root, text, diagnostics))
}

/// The text without its byte order mark, and its tree.
fn parse<'a>(text: &'a str, diagnostics: &mut Diagnostics) -> Option<(&'a str, Rc<tree::Node>)> {
    if text.len() > MAX_DOCUMENT_BYTES {
        diagnostics.push(
            Diagnostic::error("too-large", tree::Span::start(), format!("the document has {} bytes, more than Serin reads", text.len()))
                .expected(format!("at most {MAX_DOCUMENT_BYTES} bytes (1 MiB)")),
        );
        return None;
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    Some((text, tree::parse(text, diagnostics)?))
}

fn typed<T: serde::de::DeserializeOwned>(value: serde_json::Value, root: &tree::Node, diagnostics: &mut Diagnostics) -> Option<T> {
    match serde_json::from_value(value) {
        Ok(document) => Some(document),
        // The schema and the types come from the same source, so this cannot happen; if it does, it is said, not hidden.
        Err(error) => {
            let place = root.place_of(&Path::root());
            diagnostics.push(Diagnostic::error("unreadable", place, format!("the document cannot be read: {error}")));
            None
        }
    }
}
