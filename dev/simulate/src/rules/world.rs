//! What really happens at routers and versions.
//!
//! A router takes only what is allowed at that moment. Whatever it does, once it answers again it has no more than what is
//! allowed within [`WITHIN_MS`]: whether the journal can be written, the metrics come, or anybody is there.

use serin_core::WeightBps;

use super::{Broken, Rules, hold};

/// How soon a router that answers, watched by a process with a clock that runs, does what the release may ask for: one
/// change and one question may each be on their way for five seconds, and be asked for again after as long.
const WITHIN_MS: u64 = 22_000;

/// One router as it is.
#[derive(Debug, Clone)]
pub(crate) struct RouterSight<'a> {
    pub(crate) target: &'a str,
    pub(crate) weight: WeightBps,
    pub(crate) matches: bool,
    pub(crate) preview: bool,
    /// What it does could be seen since it was last changed by hand or misread.
    pub(crate) is_seen: bool,
    /// It was not changed by hand, misread or silently disobedient since it last took a change.
    pub(crate) is_untouched: bool,
    /// Since when nothing stands between the release and the router, in true time.
    pub(crate) good_since_ms: Option<u64>,
    /// Since when, on top of that, the journal can be written: only moves to stable do without.
    pub(crate) stored_since_ms: Option<u64>,
}

/// Since when routers have had more than is allowed, and were good all the time.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// What was allowed then, and when that was.
    too_much_since: Vec<Option<(WeightBps, u64)>>,
}

impl Watch {
    pub(super) fn forget(&mut self) {
        self.too_much_since.clear();
    }
}

impl Rules {
    /// What a router may be asked for now.
    pub(crate) fn most(&self, target: &str) -> WeightBps {
        self.memory.most(target, &self.plan)
    }

    /// A router is about to take a weight; `most_then` was allowed when it was asked to.
    pub(crate) fn router_takes(&self, target: &str, weight: WeightBps, beside: (bool, bool), most_then: WeightBps) -> Result<(), Broken> {
        let memory = &self.memory;
        let (matches, preview) = beside;
        let most = memory.most(target, &self.plan).max(most_then);
        if memory.rolled_back || memory.is_away() {
            hold!(
                weight.is_zero() && !matches && !preview,
                "no return",
                "{target} takes {weight} ({beside:?}) after traffic was taken back"
            );
        }
        hold!(weight <= most, "share", "{target} takes {weight}, at most {most} is allowed");
        hold!(
            !matches || memory.may_match() || most_then > WeightBps::ZERO,
            "share",
            "{target} sends matches to the canary outside of a stage"
        );
        Ok(())
    }

    /// Looks at all routers at a moment of true time.
    pub(crate) fn look(&mut self, now_ms: u64, routers: &[RouterSight<'_>]) -> Result<(), Broken> {
        self.watch.too_much_since.resize(routers.len(), None);
        for (index, router) in routers.iter().enumerate() {
            let most = self.memory.most(router.target, &self.plan);
            // Only weights are read back: a router that silently keeps its matches is beyond any release.
            let beside = (router.matches && !self.memory.may_match()) || (router.preview && !self.memory.may_preview(&self.plan));
            let too_much = router.weight > most || (beside && router.is_untouched);
            let slot = &mut self.watch.too_much_since[index];
            let good_since = if most.is_zero() { router.good_since_ms } else { router.stored_since_ms };
            let Some(good_since) = good_since.filter(|_| too_much && router.is_seen && self.memory.asked.contains_key(router.target))
            else {
                *slot = None;
                continue;
            };
            // What counts is how long ago the last lowering of the limit is.
            let began_ms = slot.filter(|(then, _)| *then <= most).map_or(now_ms, |(_, began_ms)| began_ms);
            *slot = Some((most, began_ms));
            let since = began_ms.max(good_since);
            let for_ms = now_ms.saturating_sub(since);
            let rule = if self.memory.rolled_back { "abort" } else { "share" };
            if for_ms > WITHIN_MS {
                let (target, weight) = (router.target, router.weight);
                let detail = format!("{target} gives the canary {weight} instead of at most {most}, although it answers, for {for_ms} ms");
                return Err(Broken { rule, detail });
            }
        }
        Ok(())
    }

    /// The canary is about to be stopped.
    pub(crate) fn canary_stops(&self, routers: &[RouterSight<'_>]) -> Result<(), Broken> {
        for router in routers.iter().filter(|router| router.is_untouched) {
            let out = router.weight.is_zero() && !router.matches && !router.preview;
            hold!(out, "workload", "the canary stops while {} gives it {} (matches {})", router.target, router.weight, router.matches);
        }
        Ok(())
    }

    /// The old version is about to be stopped.
    pub(crate) fn stable_stops(&self, routers: &[RouterSight<'_>]) -> Result<(), Broken> {
        for router in routers.iter().filter(|router| router.is_untouched) {
            let full = router.weight == WeightBps::FULL;
            hold!(full, "workload", "the old version stops while {} gives the canary {}", router.target, router.weight);
        }
        Ok(())
    }
}
