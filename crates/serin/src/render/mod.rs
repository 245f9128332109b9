//! What people see: lines in a pipe, a panel on a terminal, NDJSON for machines.

pub(crate) mod analyze;
pub(crate) mod cluster_plan;
pub(crate) mod eject;
pub(crate) mod end;
pub(crate) mod forecast;
pub(crate) mod json;
pub(crate) mod lines;
pub(crate) mod panel;
pub(crate) mod plan;
pub(crate) mod replay;
mod screen;
mod words;

pub(crate) use screen::Screen;
pub(crate) use words::{clock_time, clock_time_ms, ms_short, plain, share, value_or_dash};
