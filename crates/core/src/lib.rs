//! The heart of Serin: what a release is, what may happen next, and why.
//!
//! A [`Release`](release::Release) is a pure state machine. It takes inputs and the time, changes its state, and emits
//! journal events and effects. It knows no clock, no randomness, no I/O, no async and no document format, so that every
//! situation, however unlikely, can be played in a test in microseconds.
//!
//! - [`plan`]: what a release is going to do, compiled from the document.
//! - [`release`]: the state machine, its journal, its effects and its waits.
//! - [`judge`]: from observed traffic to verdicts.
//! - [`forecast`](mod@forecast): what the expected traffic can decide, before a release starts.
//! - [`traffic`]: the vocabulary of observed requests: arm, assignment, outcome, counts.

mod time;
mod units;
mod weight;

pub mod forecast;
pub mod judge;
pub mod plan;
pub mod release;
pub mod traffic;

pub use forecast::forecast;
pub use time::{Timestamp, human_duration};
pub use units::{Unit, format_count, format_value};
pub use weight::{WeightBps, WeightError};
