//! Journal entries that a snapshot stands for, in files of their own.
//!
//! `journal-archive/<release>/<last entry>.ndjson`: one file per piece of the journal. Its first line is the state before the piece,
//! so that reading can begin at any of them; then an entry per line. A piece is written under another name, synced and renamed before
//! its entries leave the database: it is there whole or not at all, and writing it once more after a crash changes nothing. Nothing
//! that runs needs the archive: it is there for people.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serin_core::release::{Entry, State};

use super::{Journal, ReleaseId, StateFolder, StoreError};

/// Most pieces that are kept of one run: the newest.
const MOST_PIECES: usize = 50;
/// Longest line that is read, in bytes. What a release writes is far shorter.
const LONGEST_LINE: u64 = 4 << 20;

#[derive(Serialize, Deserialize)]
struct Head {
    state: State,
}

/// Writes a piece and has it on the disk when it returns.
pub(super) fn write(folder: &StateFolder, release: ReleaseId, piece: &Journal) -> Result<(), StoreError> {
    let dir = folder.archive(release);
    fs::create_dir_all(&dir).map_err(|error| StoreError::io("cannot create", &dir, error))?;
    let path = dir.join(format!("{:012}.ndjson", piece.last_seq()));
    let unready = path.with_extension("new");
    let written = File::create(&unready).and_then(|file| {
        let mut out = BufWriter::new(file);
        serde_json::to_writer(&mut out, &Head { state: piece.base.clone() })?;
        for entry in &piece.entries {
            out.write_all(b"\n")?;
            serde_json::to_writer(&mut out, entry)?;
        }
        out.write_all(b"\n")?;
        out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&unready, &path)
    });
    written.map_err(|error| StoreError::io("cannot write", &path, error))?;
    super::sync_parent(&path)
}

/// Removes the oldest pieces of a run beyond the most that are kept.
pub(super) fn trim(folder: &StateFolder, release: ReleaseId) {
    let pieces = pieces(folder, release);
    for path in pieces.iter().rev().skip(MOST_PIECES) {
        let _ = fs::remove_file(path);
    }
}

/// Removes what belongs to runs whose journal is not kept.
pub(super) fn sweep(folder: &StateFolder, is_kept: impl Fn(ReleaseId) -> bool) {
    for entry in fs::read_dir(folder.archives()).into_iter().flatten().flatten() {
        let release = entry.file_name().to_str().and_then(|name| name.parse().ok()).map(ReleaseId);
        if release.is_some_and(|release| !is_kept(release)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// The files of a run, oldest first.
#[must_use]
pub fn pieces(folder: &StateFolder, release: ReleaseId) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.archive(release)).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut pieces: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|extension| extension == "ndjson")).collect();
    pieces.sort();
    pieces
}

/// Reads one file.
///
/// # Errors
/// If it cannot be read, or something in it cannot be understood or is missing.
pub fn read(path: &Path) -> Result<Journal, StoreError> {
    let name = path.display().to_string();
    let damaged = |line: usize, detail: String| StoreError::damaged(&name, format!("line {line}: {detail}"));
    let fail = |error| StoreError::io("cannot read", path, error);
    let mut reader = BufReader::new(File::open(path).map_err(fail)?);
    let mut journal: Option<Journal> = None;
    let mut text = String::new();
    for line in 1.. {
        text.clear();
        if std::io::Read::take(&mut reader, LONGEST_LINE).read_line(&mut text).map_err(fail)? == 0 {
            break;
        }
        let Some(journal) = &mut journal else {
            let head: Head = serde_json::from_str(&text).map_err(|error| damaged(line, error.to_string()))?;
            journal = Some(Journal { base: head.state, entries: Vec::new() });
            continue;
        };
        let entry: Entry = serde_json::from_str(&text).map_err(|error| damaged(line, error.to_string()))?;
        if entry.seq != journal.last_seq() + 1 {
            return Err(damaged(line, format!("entry {} where entry {} was expected", entry.seq, journal.last_seq() + 1)));
        }
        journal.entries.push(entry);
    }
    journal.ok_or_else(|| damaged(1, "the file is empty".to_owned()))
}

/// The entries after `after` up to `last`, as far as the archive has them, and at least `most` of them if there are so many. Reads no more
/// files than that takes. What cannot be read is left out: the numbers of the entries show it.
pub(super) fn range(folder: &StateFolder, release: ReleaseId, after: u64, last: u64, most: usize) -> Vec<Entry> {
    let mut found: Vec<Entry> = Vec::new();
    for path in pieces(folder, release) {
        let reached = found.last().map_or(after, |entry| entry.seq);
        if reached >= last || found.len() >= most {
            break;
        }
        let end: Option<u64> = path.file_stem().and_then(|name| name.to_str()?.parse().ok());
        if end.is_some_and(|end| end <= reached) {
            continue;
        }
        match read(&path) {
            Ok(piece) => found.extend(piece.entries.into_iter().filter(|entry| entry.seq > reached && entry.seq <= last)),
            Err(error) => tracing::warn!(release = release.0, %error, "a part of the archived journal cannot be shown"),
        }
    }
    found
}

/// A journal with as much of its beginning as the archive still has, and why it does not have more. The database's part comes first in
/// doubt: a piece that does not fit it is left out.
#[must_use]
pub fn complete(folder: &StateFolder, release: ReleaseId, journal: Journal) -> (Journal, Option<String>) {
    let mut whole = journal;
    let mut trouble = None;
    for path in pieces(folder, release).iter().rev() {
        if whole.base.seq == 0 {
            break;
        }
        match read(path) {
            // Written, but its entries had not left the database when that was read.
            Ok(piece) if piece.last_seq() > whole.base.seq => {}
            Ok(mut piece) if piece.last_seq() == whole.base.seq => {
                piece.entries.append(&mut whole.entries);
                whole = piece;
            }
            Ok(piece) => {
                trouble = Some(format!("entries {} to {} are not in the archive", piece.last_seq() + 1, whole.base.seq));
                break;
            }
            Err(error) => {
                trouble = Some(error.to_string());
                break;
            }
        }
    }
    if whole.base.seq > 0 && trouble.is_none() {
        trouble = Some(format!("entries 1 to {} are no longer kept", whole.base.seq));
    }
    (whole, trouble)
}
