//! What the state machine asks the shell to do.

use serde::{Deserialize, Serialize};

use crate::WeightBps;

/// Names one request for an effect: the journal sequence number of the event that asked for it. Within one
/// ownership of a release the same id always means the same effect. After a crash that lost the entry of an urgent effect the
/// next owner may give its number to another one, so adapters that remember keys remember them with the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EffectId(pub u64);

/// Something to be done in the world. Every effect may be repeated, and none is assumed done before it is acknowledged.
///
/// Whoever carries them out keeps the order per target: a move that is still on its way when a newer one for the same router
/// is asked for must be dropped or finish first, or an old raise lands after a retreat. Likewise [`StopCanary`](Self::StopCanary)
/// ends a [`Deploy`](Self::Deploy) that is still running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Check that the release can start, and take the snapshot.
    Preflight,
    /// Start the canary and wait until all its replicas are ready.
    Deploy,
    /// Give the canary this share on a target.
    Shift {
        /// The router.
        target: String,
        /// The canary's share.
        weight: WeightBps,
        /// Whether the declared matches send requests to the canary.
        matches: bool,
        /// Whether the preview address leads to the canary.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        preview: bool,
    },
    /// Read back which share the router really gives the canary.
    ReadBack {
        /// The router.
        target: String,
    },
    /// Make the canary the version that is kept.
    Finalize,
    /// Stop the old version.
    Retire,
    /// Stop the canary.
    StopCanary,
}

impl Effect {
    /// Whether this moves traffic to stable: such effects run before they are journaled, because nothing may delay them.
    #[must_use]
    pub fn is_retreat(&self) -> bool {
        matches!(self, Self::Shift { weight, matches: false, preview: false, .. } if weight.is_zero())
    }

    /// The target of effects that have one.
    #[must_use]
    pub fn target(&self) -> Option<&str> {
        match self {
            Self::Shift { target, .. } | Self::ReadBack { target } => Some(target),
            _ => None,
        }
    }
}
