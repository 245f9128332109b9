//! NDJSON: one object per line, told apart by `type`.

use serde_json::{Value, json};
use serin_core::release::Entry;
use serin_engine::run::{RunReport, StatusReport};

/// A journal entry.
pub(crate) fn entry(entry: &Entry, words: Option<&(String, String)>) -> Value {
    let (head, detail) = words.map_or((None, None), |(head, detail)| (Some(head), Some(detail)));
    json!({"type": "event", "at_ms": entry.at, "seq": entry.seq, "epoch": entry.epoch, "event": entry.event, "title": head, "text": detail})
}

/// A remark.
pub(crate) fn note(text: &str) -> Value {
    json!({"type": "note", "text": text})
}

/// How the release is.
pub(crate) fn status(status: &StatusReport) -> Value {
    json!({"type": "status", "status": status})
}

/// How the run ended.
pub(crate) fn end(report: &RunReport, exit_code: u8) -> Value {
    json!({"type": "end", "exit_code": exit_code, "report": report})
}

/// Why the run did not begin.
pub(crate) fn error(text: &str, checks: &[serin_core::release::Check], exit_code: u8) -> Value {
    json!({"type": "error", "exit_code": exit_code, "error": text, "checks": checks})
}
