//! Talking to a server: where it is, who asks, and what it answers.

mod address;
mod client;
mod events;

pub(crate) use address::{ServerArg, socket_of};
pub(crate) use client::{Client, ClientError};
pub(crate) use events::{Events, Happened};
