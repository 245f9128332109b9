//! What end-to-end tests share: releases in temporary folders, real load beside them, and checks that nothing is left.
//!
//! A test makes a [`Place`], writes a [`Document`] into it and starts `serin run` there; or a [`Site`] for a [`Server`]. Every process that comes of it, however
//! far removed, is found by the place's folder in its environment, and dropping the place kills what is left, also after a
//! panic. Tests wait for conditions, in [`wait`] alone; campaigns also pause at random. [`cluster`] is a whole Kubernetes cluster.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests: what goes wrong ends the test")]

pub mod cluster;
mod disk;
mod document;
mod held;
pub mod http;
mod installed;
mod knocking;
mod load;
mod over;
mod place;
mod ports;
pub mod processes;
pub mod prometheus;
pub mod prompt;
mod release;
mod said;
pub mod schema;
mod server;
pub mod terminal;
pub mod torture;
pub mod wait;
mod wall_clock;

pub use disk::Disk;
pub use document::Document;
pub use held::Held;
pub use installed::installed;
pub use knocking::Knocking;
pub use load::{Load, LoadReport};
pub use over::Over;
pub use place::Place;
pub use ports::free_address;
pub use release::{Ended, Release};
pub use server::{Server, ServerEnd, Site};
pub use wall_clock::WallClock;
