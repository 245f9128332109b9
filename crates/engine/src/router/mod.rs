//! The port to whatever splits the traffic. One adapter per kind of router.

mod embedded;

pub use embedded::{EmbeddedRouter, LinkWatch, ProxyKeeper, ProxyLaunch, bind_check, running_proxy, take_back};

use serin_core::{
    WeightBps,
    release::{EffectId, Fault},
};

use crate::Pending;

/// A router that gives the canary a share of the traffic.
pub trait Router: Send + Sync {
    /// Splits the traffic like this, all of it in one change. Done when the router took it, not when it was merely told. A move whose `order` is lower than that of one already begun is obsolete and does nothing: whatever
    /// delays a raise, it cannot overtake the retreat that came after it.
    fn shift(&self, order: EffectId, split: Split) -> Pending<'_, Result<(), RouterError>>;

    /// The share that the router itself says it gives the canary.
    fn read_back(&self) -> Pending<'_, Result<WeightBps, RouterError>>;
}

/// What reaches the canary. By default nothing does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Split {
    /// Its share of what no rule matches.
    pub weight: WeightBps,
    /// Whether the declared matches lead to it.
    pub matches: bool,
    /// Whether the preview address does.
    pub preview: bool,
}

/// Why a router did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouterError {
    /// It cannot be reached right now.
    #[error("the router cannot be reached: {0}")]
    Unreachable(String),
    /// It refused.
    #[error("the router refused: {0}")]
    Refused(String),
}

impl RouterError {
    /// The error as the state machine takes it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        Fault { text: self.to_string(), retryable: matches!(self, Self::Unreachable(_)) }
    }
}
