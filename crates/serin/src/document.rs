//! Reading a release document from a file, with its diagnostics for people and for machines.

use std::{
    fs::File,
    io::{IsTerminal as _, Read as _},
    path::{Path, PathBuf},
};

use serin_engine::run::Document;
use serin_spec::{
    Diagnostics, LoadedAny, MAX_DOCUMENT_BYTES,
    validated::{ClusterRelease, Release, Server},
};

use crate::{
    exit,
    output::{self, Output},
};

/// A document that cannot be used; it has been said why.
#[derive(Debug)]
pub(crate) struct Rejected;

/// Reads a document, or says everything that is wrong with it. `-` is standard input.
pub(crate) fn read(path: &Path, output: Output) -> Result<Document, Rejected> {
    let given = Given::read(path, output)?;
    let loaded = serin_spec::load_bytes(&given.name, &given.bytes).map_err(|diagnostics| given.reject(&diagnostics, output))?;
    given.warn(&loaded.warnings, output);
    Ok(given.document(path, loaded.release))
}

/// A document of either kind.
pub(crate) enum Any {
    /// For this machine.
    Machine(Box<Document>),
    /// For a cluster, with the name that it is called by.
    Cluster(String, Box<ClusterRelease>),
}

/// Reads a document that may be for a cluster, for those who only look at it. `-` is standard input.
pub(crate) fn read_any(path: &Path, output: Output) -> Result<Any, Rejected> {
    let given = Given::read(path, output)?;
    match serin_spec::load_any(&given.name, &given.bytes).map_err(|diagnostics| given.reject(&diagnostics, output))? {
        LoadedAny::Machine(loaded) => {
            given.warn(&loaded.warnings, output);
            Ok(Any::Machine(Box::new(given.document(path, loaded.release))))
        }
        LoadedAny::Cluster(loaded) => {
            given.warn(&loaded.warnings, output);
            Ok(Any::Cluster(given.name, Box::new(loaded.release)))
        }
    }
}

/// What a file says, before anything is known about it.
struct Given {
    /// What diagnostics call it.
    name: String,
    bytes: Vec<u8>,
}

impl Given {
    fn read(path: &Path, output: Output) -> Result<Self, Rejected> {
        let name = if path == Path::new("-") { "<stdin>".to_owned() } else { path.display().to_string() };
        match bytes(path) {
            Ok(bytes) => Ok(Self { name, bytes }),
            Err(error) => {
                let hint = if error.kind() == std::io::ErrorKind::NotFound { "; `serin init` writes a first one" } else { "" };
                Err(refuse(output, &format!("cannot read {name}: {error}{hint}")))
            }
        }
    }

    /// As people may be shown it, also if it is no text.
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    fn warn(&self, warnings: &Diagnostics, output: Output) {
        if !warnings.is_empty() && output == Output::Text {
            show(warnings, &self.name, &self.text());
        }
    }

    fn reject(&self, diagnostics: &Diagnostics, output: Output) -> Rejected {
        report(diagnostics, &self.name, &self.text(), output);
        Rejected
    }

    fn document(&self, path: &Path, release: Release) -> Document {
        let dir = directory(path);
        let origin = path.file_name().map_or_else(|| self.name.clone(), |file| dir.join(file).display().to_string());
        Document { name: self.name.clone(), origin, text: self.text(), dir, release }
    }
}

/// A document for a cluster.
pub(crate) struct ForCluster {
    /// What it is called by.
    pub(crate) name: String,
    /// As it was read.
    pub(crate) text: String,
    /// What it means.
    pub(crate) release: ClusterRelease,
}

/// Reads a document for a cluster, or says everything that is wrong with it. `-` is standard input.
pub(crate) fn read_cluster(path: &Path, output: Output) -> Result<ForCluster, Rejected> {
    let Given { name, bytes } = Given::read(path, output)?;
    let text = String::from_utf8(bytes).map_err(|_| refuse(output, &format!("{name} is not UTF-8 text")))?;
    reread_cluster(&name, text, output)
}

/// Reads a document that a cluster has, or that was read already.
pub(crate) fn reread_cluster(name: &str, text: String, output: Output) -> Result<ForCluster, Rejected> {
    match serin_spec::load_cluster(name, &text) {
        Ok(loaded) => {
            if !loaded.warnings.is_empty() && output == Output::Text {
                show(&loaded.warnings, name, &text);
            }
            Ok(ForCluster { name: name.to_owned(), text, release: loaded.release })
        }
        Err(diagnostics) => {
            report(&diagnostics, name, &text, output);
            Err(Rejected)
        }
    }
}

/// Reads the configuration of a server, and says which folder its paths start from.
pub(crate) fn read_server(path: &Path, output: Output) -> Result<(Server, PathBuf), Rejected> {
    let name = path.display().to_string();
    let bytes = bytes(path).map_err(|error| refuse(output, &format!("cannot read {name}: {error}")))?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    match serin_spec::load_server(&name, &text) {
        Ok(server) => Ok((server, directory(path))),
        Err(diagnostics) => {
            report(&diagnostics, &name, &text, output);
            Err(Rejected)
        }
    }
}

/// Reads the configuration of a running server anew; if it cannot be used, why, for logs.
pub(crate) fn reread_server(path: &Path) -> Result<Server, String> {
    let bytes = bytes(path).map_err(|error| format!("cannot be read: {error}"))?;
    serin_spec::load_server(&path.display().to_string(), &String::from_utf8_lossy(&bytes)).map_err(|diagnostics| diagnostics.to_string())
}

/// Reads a document that the store kept.
pub(crate) fn reread(name: &str, text: String, output: Output) -> Result<Document, Rejected> {
    match serin_spec::load(name, &text) {
        Ok(loaded) => {
            let dir = directory(Path::new(name));
            Ok(Document { name: name.to_owned(), origin: name.to_owned(), text, dir, release: loaded.release })
        }
        Err(diagnostics) => {
            report(&diagnostics, name, &text, output);
            Err(Rejected)
        }
    }
}

fn bytes(path: &Path) -> std::io::Result<Vec<u8>> {
    // One byte more than allowed is enough to tell that it is too much.
    let most = MAX_DOCUMENT_BYTES as u64 + 1;
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().lock().take(most).read_to_end(&mut bytes)?;
    } else {
        File::open(path)?.take(most).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// What relative paths in the document start from.
fn directory(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    parent.canonicalize().unwrap_or_else(|_| parent.to_owned())
}

fn refuse(output: Output, text: &str) -> Rejected {
    match output {
        Output::Json => {
            let _ = output::data(&serde_json::json!({"type": "error", "exit_code": exit::USAGE, "error": text}).to_string());
        }
        Output::Text => output::error(text),
    }
    Rejected
}

fn report(diagnostics: &Diagnostics, name: &str, text: &str, output: Output) {
    match output {
        Output::Json => {
            let _ = output::data(
                &serde_json::json!({"type": "error", "exit_code": exit::USAGE, "error": "the document is not valid", "document": name, "diagnostics": diagnostics}).to_string(),
            );
        }
        Output::Text => show(diagnostics, name, text),
    }
}

fn show(diagnostics: &Diagnostics, name: &str, text: &str) {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    output::note(serin_spec::render(diagnostics, name, text, colour).trim_end());
}
