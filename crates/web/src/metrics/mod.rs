//! What the daemon measures of itself and of its releases, for Prometheus.
//!
//! Almost everything is read from the services' status at the moment of a scrape; the rest are a few counters here. The text is written
//! directly ([`serin_engine::measure`]): a library of metrics would hold copies of what the status says, and they would have to be kept in step.

mod measured;
mod page;
mod watcher;

pub(crate) use measured::Measured;
pub(crate) use page::page;
pub(crate) use watcher::watch;
