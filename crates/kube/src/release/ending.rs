//! How a run ends, also one whose canary is no longer what was judged.
//!
//! In the phases that judge, the engine takes it for a failure of the canary. Elsewhere it takes an abort, which moves traffic whatever stable's
//! state: it is given only when that is no loss.

use serin_core::release::Phase;

/// Why an actor ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActorEnd {
    /// The run is over, and its status says so.
    Over,
    /// Another controller leads, or wrote the status since.
    Fenced,
    /// The release is gone.
    Gone,
}

/// How a run ends whose canary is no longer what was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WayToEnd {
    /// The engine takes it for a failure of the canary, and knows itself what a stable without replicas means.
    Engine,
    /// Nothing serves yet, or stable can take everything.
    Abort,
    /// Stable would lose everything that the canary serves now.
    WaitForStable,
}

pub(super) fn way_to_end(phase: &Phase, stable_ready: i32) -> WayToEnd {
    match phase {
        Phase::Preflight => WayToEnd::Abort,
        Phase::Finishing | Phase::Retained { .. } if stable_ready > 0 => WayToEnd::Abort,
        Phase::Finishing | Phase::Retained { .. } => WayToEnd::WaitForStable,
        _ => WayToEnd::Engine,
    }
}

#[cfg(test)]
mod tests {
    use serin_core::Timestamp;

    use super::*;

    #[test]
    fn nothing_is_moved_onto_a_stable_that_is_not_there() {
        let retained = Phase::Retained { since: Timestamp(0) };
        for (phase, stable_ready, expected) in [
            (Phase::Preflight, 0, WayToEnd::Abort),
            (Phase::Finishing, 0, WayToEnd::WaitForStable),
            (Phase::Finishing, 1, WayToEnd::Abort),
            (retained.clone(), 0, WayToEnd::WaitForStable),
            (retained, 2, WayToEnd::Abort),
            (Phase::Promoting, 2, WayToEnd::Engine),
            (Phase::Retiring, 2, WayToEnd::Engine),
        ] {
            assert_eq!(way_to_end(&phase, stable_ready), expected, "{phase:?} {stable_ready}");
        }
    }
}
