//! What must hold when a release is over.

use serin_core::{
    WeightBps,
    release::{Entry, State},
};

use super::{Broken, End, RouterSight, Rules, hold};

/// Entries that a release may have, whatever happens to it.
const ENTRIES_OF_A_RELEASE: u64 = 60;
/// Entries per stage on top of these.
const ENTRIES_OF_A_STAGE: u64 = 40;
/// Entries per hour of its time on top of these.
const ENTRIES_OF_AN_HOUR: f64 = 60.0;

/// The world when a release is over.
#[derive(Debug)]
pub(crate) struct Ended<'a> {
    pub(crate) journal: &'a [Entry],
    pub(crate) state: &'a State,
    pub(crate) routers: &'a [RouterSight<'a>],
    pub(crate) canary_runs: bool,
    pub(crate) stable_runs: bool,
    /// A stop was given up because it failed again and again.
    pub(crate) stop_failed: bool,
    /// Which beginning of the journal is folded once more.
    pub(crate) keep: usize,
}

impl Rules {
    /// Looks at the whole of it.
    pub(crate) fn ended(&self, ended: &Ended<'_>) -> Result<(), Broken> {
        Self::folds(ended.journal, ended.state, ended.keep)?;
        let stored = serde_json::to_string(ended.journal).map_err(|error| Broken { rule: "fold", detail: error.to_string() })?;
        let read: Result<Vec<Entry>, _> = serde_json::from_str(&stored);
        hold!(read.is_ok_and(|read| read == ended.journal), "fold", "the journal is another one after it was stored and read");

        let Some(end) = self.memory.end else {
            return Err(Broken { rule: "end", detail: "it is over without an end".to_owned() });
        };
        let full = if end == End::Succeeded { WeightBps::FULL } else { WeightBps::ZERO };
        for router in ended.routers.iter().filter(|router| router.is_untouched) {
            let right = router.weight == full && !router.matches;
            hold!(right, "end", "{end:?} with {} at {} (matches {})", router.target, router.weight, router.matches);
        }
        if !ended.stop_failed {
            hold!(ended.canary_runs == (end == End::Succeeded), "workload", "{end:?}, and the canary runs: {}", ended.canary_runs);
            hold!(ended.stable_runs == (end != End::Succeeded), "workload", "{end:?}, and the old version runs: {}", ended.stable_runs);
        }
        self.journal_size()
    }

    /// The journal holds decisions, not ticks.
    pub(crate) fn journal_size(&self) -> Result<(), Broken> {
        let memory = &self.memory;
        let hours = memory.hours();
        let stages = self.plan.steps.len() as u64;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "far below 2^53")]
        let by_time = (hours * ENTRIES_OF_AN_HOUR) as u64;
        let most = ENTRIES_OF_A_RELEASE + ENTRIES_OF_A_STAGE * stages + by_time + self.budget;
        hold!(memory.seq <= most, "journal size", "{} entries in {hours:.2} h, at most {most} have a reason", memory.seq);
        Ok(())
    }
}
