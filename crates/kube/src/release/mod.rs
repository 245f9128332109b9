//! One run of a release in a cluster.
//!
//! `snapshot` is what the status holds of the engine, `status` what people read there; `journal` writes it, guarded, and `memory` what has no
//! room in it; `actor` is the loop, `ending` says how it ends early, `absence` notices what is not there to take traffic, `effects` carries out what
//! it decides, `ratio` makes shares of replicas, `preflight` looks before it begins, `story` is what people are told, `setting` is what runs have in common. One turn of the loop is
//! that of the engine on one machine: moves to stable at once, then the status with the new state, then all else. If the status cannot be
//! written, only moves to stable go on.

mod absence;
mod actor;
mod clock;
mod commands;
mod effects;
mod ending;
#[cfg(test)]
mod fixture;
mod journal;
mod keys;
mod memory;
mod preflight;
mod ratio;
mod setting;
mod snapshot;
mod status;
mod story;

pub use actor::Actor;
pub(crate) use clock::now;
pub(crate) use commands::{Asked, pending};
pub use commands::{Wish, annotation};
pub(crate) use effects::share_of;
pub use ending::ActorEnd;
pub(crate) use memory::{Recalled, recall};
pub(crate) use preflight::{check, shares};
pub(crate) use ratio::replicas_for;
pub use setting::Setting;
pub(crate) use setting::{Run, router};
pub use snapshot::{MAX_ENGINE_BYTES, Place, Resumed, Snapshot, Stored};
pub(crate) use status::cut;
pub use status::{Context, MAX_HISTORY, MAX_TIMELINE, idle, invalid, status, waiting};
