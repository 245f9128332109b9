//! What people are told of a run: the lines of the timeline, Events of the cluster, and the log.
//!
//! A decision is in the timeline at once, because it is stored with what it decides. Its Event waits until it is durable: another controller may
//! have decided otherwise meanwhile. What is acted on before it is stored, which is traffic that goes back to stable, is told at once.

use std::collections::VecDeque;

use serin_core::Timestamp;

use super::status::{MAX_TIMELINE, line};
use crate::{
    api::{Release, TimelineLine},
    controller::Recorder,
};

/// See the module.
pub(super) struct Story {
    recorder: Recorder,
    lines: VecDeque<TimelineLine>,
    /// Decided and not told yet; each with its position in the journal.
    untold: VecDeque<(u64, String, String)>,
}

impl Story {
    /// Goes on with what is known of a run.
    pub(super) fn after(lines: Vec<TimelineLine>, recorder: Recorder) -> Self {
        Self { recorder, lines: lines.into(), untold: VecDeque::new() }
    }

    /// Something that is no decision, or is acted on already.
    pub(super) fn say(&mut self, release: &Release, at: Timestamp, head: &str, detail: &str) {
        self.recorder.tell(release, head, detail);
        self.note_down(release, at, head, detail);
    }

    /// A decision with its position in the journal.
    pub(super) fn decided(&mut self, release: &Release, at: Timestamp, seq: u64, head: &str, detail: &str) {
        self.untold.push_back((seq, head.to_owned(), detail.to_owned()));
        self.note_down(release, at, head, detail);
    }

    /// All decisions up to this position are durable.
    pub(super) fn durable(&mut self, release: &Release, seq: u64) {
        while let Some((_, head, detail)) = self.untold.pop_front_if(|(decided, ..)| *decided <= seq) {
            self.recorder.tell(release, &head, &detail);
        }
    }

    /// The timeline, oldest first.
    pub(super) fn lines(&self) -> Vec<TimelineLine> {
        self.lines.iter().cloned().collect()
    }

    fn note_down(&mut self, release: &Release, at: Timestamp, head: &str, detail: &str) {
        tracing::info!(release = release.name(), namespace = release.namespace(), head, detail);
        self.lines.push_back(line(at, head, detail));
        if self.lines.len() > MAX_TIMELINE {
            self.lines.pop_front();
        }
    }
}
