//! How what a run decides becomes durable: its status is written in the background, and what waited for that goes on when it was.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    super::{
        ending::ActorEnd,
        journal::{JournalError, Kept},
        snapshot::{Snapshot, Stored},
        status::{Context, status, took},
    },
    Actor, Written,
};
use crate::api::ReleaseStatus;

/// Between two attempts to write a status that cannot be written.
const STORE_RETRY: Duration = Duration::from_millis(250);

impl Actor {
    /// Writes the status in the background, one write at a time.
    pub(super) fn write(&mut self) {
        if self.writing || self.write_after.is_some_and(|after| Instant::now() < after) {
            return;
        }
        (self.writing, self.has_news, self.refreshed) = (true, false, Instant::now());
        let (status, memory) = self.status();
        let (journal, known) = (self.journal.clone(), self.known.clone());
        let (seq, written) = (self.engine.state().seq, self.written.0.clone());
        tokio::spawn(async move {
            let outcome = journal.write(&known, status, memory).await.map(Box::new);
            let _ = written.send(Written { seq, outcome }).await;
        });
    }

    /// The status, and what the judge remembers.
    fn status(&self) -> (ReleaseStatus, Option<String>) {
        let checkpoint = self.engine.trial().checkpoint();
        let snapshot = Snapshot {
            epoch: self.run.epoch,
            document_hash: &self.run.document_hash,
            template_hash: &self.run.judged,
            place: &self.run.place,
            canary_replicas: self.run.canary_replicas,
            state: self.engine.state(),
            checkpoint: &checkpoint,
            seen: self.engine.now(),
        };
        let Stored { engine, memory } = snapshot.store();
        let timeline = self.story.lines();
        let note = self.world.note();
        let context = Context {
            generation: self.known.generation(),
            run: self.run.number,
            before: self.known.status.as_ref(),
            timeline: &timeline,
            last_command: self.last_command.as_ref(),
            engine,
            note: note.as_deref(),
        };
        (status(&self.engine, context), memory)
    }

    /// A status was written, or not.
    pub(super) fn stored(&mut self, written: Written) -> Option<ActorEnd> {
        self.writing = false;
        match written.outcome {
            Ok(kept) => {
                let Kept { object, lacking } = *kept;
                if let Some(why) = lacking
                    && !std::mem::replace(&mut self.is_told_of_memory, true)
                {
                    self.say(
                        "memory",
                        &format!("what the judge remembers cannot be stored: {why}; another controller that takes over goes on without what is missing"),
                    );
                    self.refresh_soon();
                }
                self.known.status = object.status;
                self.known.metadata.resource_version = object.metadata.resource_version;
                self.write_after = None;
                self.story.durable(&self.known, written.seq);
                while self.backlog.front().is_some_and(|(seq, _)| *seq <= written.seq) {
                    let Some((_, batch)) = self.backlog.pop_front() else { break };
                    for (id, effect) in batch.effects {
                        // What was decided before something else may be overtaken by now.
                        if self.engine.state().outstanding.contains_key(&id) {
                            self.spawn(id, effect);
                        }
                    }
                }
                if self.engine.state().is_final() && self.backlog.is_empty() {
                    tracing::info!(release = self.known.name(), run = self.run.number, took = %took(&self.engine), "over");
                }
                None
            }
            Err(JournalError::Fenced) => Some(ActorEnd::Fenced),
            Err(JournalError::Gone) => Some(ActorEnd::Gone),
            Err(JournalError::Trouble(why)) => {
                tracing::warn!(release = self.known.name(), %why, "the release stands still until its status can be written");
                self.has_news = true;
                self.write_after = Some(Instant::now() + STORE_RETRY);
                None
            }
        }
    }
}
