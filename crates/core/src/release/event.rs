//! The journal of a release: every decision, in order. State is the fold of it.

use serde::{Deserialize, Serialize};

use super::{Cause, Check, Effect, EffectId};
use crate::{Timestamp, WeightBps};

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Position in the journal, from 1 without gaps.
    pub seq: u64,
    /// Which ownership of the release wrote it; grows with every restart of the shell.
    pub epoch: u64,
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    pub event: Event,
}

/// What can happen to a release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Event {
    /// The release was accepted.
    Began {
        /// The release's name.
        release: String,
        /// Who asked for it, where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        /// Why, if said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A new shell took over. What happened in between was not observed and does not count as held. Routers are to be
    /// read back once more.
    TakenOver {
        /// Time without an owner, in milliseconds.
        unobserved_ms: u64,
    },
    /// An effect was asked for; the entry's `seq` is its id.
    Requested {
        /// What to do.
        effect: Effect,
    },
    /// An effect was acknowledged.
    Done {
        /// Which.
        id: EffectId,
    },
    /// An effect failed and will be tried again, or given up where the next event says so.
    Failed {
        /// Which.
        id: EffectId,
        /// What went wrong.
        error: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// Preflight found nothing that stands against the release.
    PreflightPassed {
        /// Every check.
        checks: Vec<Check>,
    },
    /// Preflight found a reason not to start. The release ends here; nothing was changed.
    PreflightFailed {
        /// Every check.
        checks: Vec<Check>,
    },
    /// The canary is running and ready.
    Deployed,
    /// A stage began.
    StageEntered {
        /// Position in the plan, from 0.
        step: usize,
    },
    /// The router was read back and does what was asked; the stage's time starts.
    WeightProven {
        /// The router.
        target: String,
        /// The canary's share.
        weight: WeightBps,
    },
    /// The router was found to do something else than asked.
    DriftFound {
        /// The router.
        target: String,
        /// The share it should give the canary.
        asked: WeightBps,
        /// The share it gives.
        found: WeightBps,
    },
    /// All that a stage asks for was seen.
    StagePassed {
        /// Position in the plan, from 0.
        step: usize,
        /// The evidence in words.
        evidence: String,
    },
    /// A stage ended without a verdict, and the document says to go on all the same.
    StageWaived {
        /// Position in the plan, from 0.
        step: usize,
        /// What was missing.
        reason: String,
    },
    /// The stage waits for a person.
    ApprovalAwaited {
        /// Position in the plan, from 0.
        step: usize,
    },
    /// A person let the release go on.
    Approved {
        /// Who.
        by: String,
        /// Why, if said.
        reason: Option<String>,
    },
    /// The release stands still; judging goes on.
    Paused {
        /// Who; `None`: the release itself.
        by: Option<String>,
        /// Why.
        reason: String,
    },
    /// The release goes on.
    Resumed {
        /// Who.
        by: String,
        /// Why, if said.
        reason: Option<String>,
    },
    /// A person set a weight that is not the plan's.
    Overridden {
        /// The canary's share on every target.
        weight: WeightBps,
        /// Who.
        by: String,
        /// Why, if said.
        reason: Option<String>,
    },
    /// A person skipped the remaining stages.
    PromotedByPerson {
        /// Who.
        by: String,
        /// Why, if said.
        reason: Option<String>,
    },
    /// All stages are behind; the canary gets everything.
    PromotionStarted,
    /// The canary serves everything and is measured further.
    BakeStarted,
    /// The switch is confirmed by traffic: new requests reach the canary, and none stable.
    SwitchSeen {
        /// How many of the canary's were counted by then.
        requests: u64,
    },
    /// The bake is over; the canary becomes the version that is kept.
    BakePassed,
    /// The canary is the version that is kept; the old one waits for its retention to end.
    RetainStarted,
    /// The old version is no longer needed.
    RetainEnded {
        /// Who did not want to wait for the end of its time; `None`: it was over.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// The release is over and the new version serves.
    Succeeded,
    /// Both arms broke a limit: traffic leaves the canary while it is found out who causes it.
    Retreated {
        /// Why.
        cause: Cause,
    },
    /// Stable did not recover without the canary, or does now: back to the stage.
    RetreatEnded {
        /// Why.
        reason: String,
    },
    /// Traffic goes back to stable for good.
    RollbackDecided {
        /// Why.
        cause: Cause,
    },
    /// Every router was read back: the canary has no traffic.
    TrafficReturned,
    /// The rollback is complete.
    RolledBack,
    /// A rollback would lose all requests, because stable has no ready replica.
    OperatorNeeded {
        /// What the rollback would be for.
        cause: Cause,
    },
    /// Something people should know that changes nothing.
    Warned {
        /// What.
        text: String,
    },
}
