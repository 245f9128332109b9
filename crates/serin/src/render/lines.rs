//! One line per event: what a pipe and the scrollback of a terminal get.

use serin_core::{Timestamp, release::Entry};

use super::{clock_time, plain};

/// An event as a line.
pub(crate) fn event(at: Timestamp, head: &str, detail: &str) -> String {
    let line = format!("{}  {head:<18} {detail}", clock_time(at));
    plain(line.trim_end())
}

/// A remark as a line.
pub(crate) fn note(text: &str) -> String {
    plain(&format!("          {text}"))
}

/// Something that happened on a server as a line.
pub(crate) fn server_event(event: &serin_engine::serve::ServerEvent) -> String {
    let service = &event.service;
    plain(format!("{}  {service}  {:<18} {}", clock_time(event.at), event.head, event.text).trim_end())
}

/// A journal entry as a line, if it is worth one.
pub(crate) fn entry(entry: &Entry, words: Option<&(String, String)>) -> Option<String> {
    words.map(|(head, detail)| event(entry.at, head, detail))
}
