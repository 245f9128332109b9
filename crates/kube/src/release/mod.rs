//! One run of a release in a cluster.
//!
//! `snapshot` is what the status holds of the engine, `status` what people read there; `journal` writes it, guarded; `actor` is the loop, `ending`
//! says how it ends early, `effects` carries out what it decides, `preflight` looks before it begins, `setting` is what runs have in common. One turn of the loop is that of the engine on one machine: moves to stable
//! at once, then the status with the new state, then all else. If the status cannot be written, only moves to stable go on.

mod actor;
mod clock;
mod commands;
mod effects;
mod ending;
mod journal;
mod preflight;
mod setting;
mod snapshot;
mod status;

pub use actor::{Actor, ActorEnd};
pub(crate) use actor::{Run, now};
pub use setting::Setting;
pub(crate) use setting::router;
pub use snapshot::{MAX_ENGINE_BYTES, Place, Resumed, Snapshot};
pub use status::{Context, MAX_TIMELINE, idle, invalid, status, waiting};
