//! The data plane: a reverse proxy that follows a route table and counts by arm. It knows tables, not releases.
//!
//! [`run`] serves until it is told to stop. Control talks to it over a unix socket through [`ProxyLink`]: whole
//! [route tables](table::RouteTable) go in, acknowledgements and cumulative [counters](protocol::Stats) come out.
//! The data path never waits for control: without it the last good table is served for ever.
//!
//! Not built yet, and answered with a clear error instead of half a service: upgrades (WebSocket), `CONNECT`, HTTP/2,
//! gRPC.

pub mod protocol;
pub mod table;

mod access_log;
mod activity;
mod answer;
mod assign;
mod body;
mod classes;
mod client_io;
mod control;
mod counters;
mod descriptors;
mod endpoint;
mod exchange;
mod headers;
mod health;
mod link;
mod open;
mod pool;
mod preview;
mod route;
mod run;
mod seen;
mod service;
mod state;
mod sticky;
mod tracker;
mod wire;
mod worker;

pub use link::{Applied, LinkError, ProxyHello, ProxyLink};
pub use run::{ProxyConfig, ProxyError, run};
pub use sticky::bucket_of;

/// Takes a lock. A panic elsewhere must not stop the data path, and every guarded value is consistent between statements.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
