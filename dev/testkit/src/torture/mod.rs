//! Campaigns against a real `serin serve`: what must hold whatever is done to it. Short ones are tests, long ones are started with
//! `cargo xtask torture`.
//!
//! - `daemon`: the server, which may be killed and started again, and what it is asked. `api`: HTTP over its unix socket.
//! - `traffic`: requests of which each is remembered on its own, because a rule about single requests cannot be told from sums.
//! - `usage`: what processes use.
//! - `kills`, `aborts`, `many`: the campaigns. `findings`: what came of one. `app`: a version that Serin does not start. `over`: when threads end.
#![allow(clippy::print_stderr, reason = "long campaigns tell terminals and CI logs how far they are")]

pub mod aborts;
mod api;
mod app;
mod daemon;
mod dice;
mod findings;
pub mod kills;
pub mod many;
mod over;
mod traffic;
pub mod usage;

pub use findings::Findings;
