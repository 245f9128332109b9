//! The proxy against real servers and raw sockets on loopback.

// The exemption of clippy.toml covers test functions, not the helpers that they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

mod control;
mod counting;
mod failing;
mod judging;
mod passing;
mod preview;
mod refusing;
mod splitting;
