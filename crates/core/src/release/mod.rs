//! The state machine of a release.
//!
//! [`Release`] takes inputs and the time, and emits journal entries and effects. Its [`State`] is nothing but the fold of its
//! journal: whatever is not in an [`Event`] is either derived or belongs to the judge's checkpoint. Effects are asked for by
//! events and stay outstanding until acknowledged, so that a restarted shell repeats exactly those that were not.
//!
//! Reading order: `event`, `state` and `clock` (what can happen and what it means), `machine` (inputs and outputs), `commands` (what
//! people ask for), `judgement` (what the judge's assessment leads to), `retreat` (who caused what both arms show), `preview` (what is
//! asked of a canary that nobody is sent to), `advance`
//! (what happens by itself), `routers` (what they are asked, and the proof), `delivery` (how effects get done), `wait` (why
//! nothing happens).

mod advance;
mod cause;
mod clock;
mod commands;
mod delivery;
mod effect;
mod event;
mod input;
mod judgement;
mod machine;
mod narrate;
mod preview;
mod retreat;
mod routers;
mod state;
mod wait;

pub use cause::{Cause, CauseKind};
pub use commands::{Action, Command, Refusal};
pub use effect::{Effect, EffectId};
pub use event::{Entry, Event};
pub use input::{Check, CheckStatus, Fault, Input, WorkloadSeen};
pub use machine::{Output, Release};
pub use narrate::{WITHOUT_VERDICT, narrate};
pub use state::{Pause, Phase, StageStep, State, TargetState};
pub use wait::Wait;
