//! Routers: changes and questions that reach them late, twice, in part or never, and the order that every adapter keeps: a
//! change that was overtaken by a newer one for the same router is dropped.

use serin_core::{
    WeightBps,
    release::{Effect, EffectId, Fault, Input},
};

use super::{
    Sim, Stop,
    queue::{Change, Event, Fate},
};
use crate::{
    rules::RouterSight,
    scenario::{Kind, bps},
};

/// How long an adapter waits for a router.
const ROUTER_PATIENCE_MS: u64 = 3_000;

/// One router.
#[derive(Debug, Clone)]
pub(super) struct Router {
    pub(super) name: String,
    pub(super) weight: WeightBps,
    pub(super) matches: bool,
    pub(super) preview: bool,
    /// What it did before.
    before: WeightBps,
    /// The newest change that was asked for.
    newest: u64,
    /// Changed by hand or misread, and not seen since.
    is_unseen: bool,
    /// Changed by hand or misread since its last change.
    is_meddled: bool,
    /// The journal lost that it was ever asked for anything.
    pub(super) is_orphaned: bool,
    /// Until then an older reading may still arrive.
    readings_until_ms: u64,
}

impl Router {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            weight: WeightBps::ZERO,
            matches: false,
            preview: false,
            before: WeightBps::ZERO,
            newest: 0,
            is_unseen: false,
            is_meddled: false,
            is_orphaned: false,
            readings_until_ms: 0,
        }
    }
}

impl Sim {
    /// A router is asked for a weight.
    pub(super) fn shift(&mut self, epoch: u64, id: EffectId, target: &str, weight: WeightBps, (matches, preview): (bool, bool)) {
        let Some(index) = self.router(target) else { return };
        let version = self.overtake(index);
        if self.is_down(index) {
            let after_ms = self.luck.answers.range(1, ROUTER_PATIENCE_MS);
            return self.fails(epoch, id, after_ms, "the router does not answer", true);
        }
        let is_swallowed = self.has(Kind::RouterDeaf) && self.is_hit(Kind::RouterDeaf, index);
        let (there_ms, back_ms, fate) = (self.latency(), self.latency(), self.fate());
        let most = self.rules.most(target);
        let change = Change { epoch, target: index, version, weight, matches, preview, most, is_swallowed };
        self.queue.put(self.now_ms + there_ms, Event::Takes(change));
        self.answer(epoch, id, Input::Done(id), there_ms + back_ms, fate);
    }

    /// A change reaches its router.
    pub(super) fn takes(&mut self, change: Change) -> Result<(), Stop> {
        if self.routers[change.target].newest != change.version {
            return Ok(());
        }
        let name = self.routers[change.target].name.clone();
        if change.is_swallowed {
            let router = &mut self.routers[change.target];
            // Nobody reads matches and previews back.
            router.is_meddled |= (router.matches, router.preview) != (change.matches, change.preview);
            self.say(|| format!("world     {name} says yes to {} and does nothing", change.weight));
            return Ok(());
        }
        self.rules.router_takes(&name, change.weight, (change.matches, change.preview), change.most)?;
        let router = &mut self.routers[change.target];
        if router.weight != change.weight {
            router.before = router.weight;
        }
        (router.weight, router.matches, router.preview) = (change.weight, change.matches, change.preview);
        (router.is_unseen, router.is_meddled, router.is_orphaned) = (false, false, false);
        self.transcript.mix(u64::from(change.weight.canary_bps()));
        let beside = match (change.matches, change.preview) {
            (true, _) => " and matches",
            (_, true) => " and the preview",
            _ => "",
        };
        self.say(|| format!("world     {name} gives the canary {}{beside}", change.weight));
        Ok(())
    }

    /// A router is asked what it does.
    pub(super) fn read_back(&mut self, epoch: u64, id: EffectId, target: &str) {
        let Some(index) = self.router(target) else { return };
        if self.is_down(index) {
            let after_ms = self.luck.answers.range(1, ROUTER_PATIENCE_MS);
            return self.fails(epoch, id, after_ms, "the router does not answer", true);
        }
        let (there_ms, back_ms, fate) = (self.latency(), self.latency(), self.fate());
        self.queue.put(self.now_ms + there_ms, Event::Reads { epoch, id: id.0, target: index, back_ms, fate });
    }

    /// A question reaches its router.
    pub(super) fn reads(&mut self, epoch: u64, id: u64, index: usize, back_ms: u64, fate: Fate) {
        let stale = self.has(Kind::RouterStale) && self.is_hit(Kind::RouterStale, index) && self.luck.answers.chance(0.6);
        let router = &mut self.routers[index];
        let weight = if stale { router.before } else { router.weight };
        if weight == router.weight {
            router.is_unseen = false;
        } else {
            (router.is_unseen, router.is_meddled) = (true, true);
        }
        let later_ms = if let Fate::Doubled { later_ms } = fate { later_ms } else { 0 };
        router.readings_until_ms = router.readings_until_ms.max(self.now_ms + back_ms + later_ms);
        self.answer(epoch, EffectId(id), Input::ReadBack(EffectId(id), weight), back_ms, fate);
    }

    /// What the counters say that a router does.
    pub(super) fn seen_in_passing(&mut self, index: usize) -> WeightBps {
        let now_ms = self.now_ms;
        let router = &mut self.routers[index];
        if now_ms > router.readings_until_ms && !router.is_orphaned && self.process.is_some() {
            router.is_unseen = false;
        }
        router.weight
    }

    /// Somebody changes a router by hand.
    pub(super) fn tamper(&mut self, how: f64) {
        let index = self.luck.faults.index(self.routers.len());
        let router = &mut self.routers[index];
        router.before = router.weight;
        router.weight = bps(self.luck.faults.rounded(how * 10_000.0));
        (router.is_unseen, router.is_meddled) = (true, true);
        let (name, weight) = (router.name.clone(), router.weight);
        self.rules.allow(30);
        self.say(|| format!("world     somebody sets {name} to {weight} by hand"));
    }

    /// The routers as the rules see them.
    pub(super) fn sights(&self) -> Vec<RouterSight<'static>> {
        let asked = self.good_since(self.bad_router_ms);
        let stored = self.good_since(self.bad_router_ms.max(self.bad_disk_ms));
        self.routers
            .iter()
            .map(|router| RouterSight {
                target: if router.name == "east" { "east" } else { "west" },
                weight: router.weight,
                matches: router.matches,
                preview: router.preview,
                is_seen: !router.is_unseen && !router.is_orphaned,
                is_untouched: !router.is_meddled && !router.is_orphaned,
                good_since_ms: if router.is_meddled { stored } else { asked },
                stored_since_ms: stored,
            })
            .collect()
    }

    /// Whatever becomes of this effect, older changes of its router are void.
    pub(super) fn overtakes(&mut self, effect: &Effect) {
        if let Effect::Shift { target, .. } = effect
            && let Some(index) = self.router(target)
        {
            self.overtake(index);
        }
    }

    fn overtake(&mut self, index: usize) -> u64 {
        self.versions_asked += 1;
        self.routers[index].newest = self.versions_asked;
        self.versions_asked
    }

    fn router(&self, target: &str) -> Option<usize> {
        self.routers.iter().position(|router| router.name == target)
    }

    fn is_down(&self, index: usize) -> bool {
        self.has(Kind::RouterDown) && self.is_hit(Kind::RouterDown, index)
    }

    /// Whether the fault is this router's: it hits one of them, or both.
    fn is_hit(&self, kind: Kind, index: usize) -> bool {
        match self.how(kind) {
            Some(how) if self.routers.len() > 1 && how < 0.8 => (how < 0.4) == (index == 0),
            how => how.is_some(),
        }
    }

    pub(super) fn fails(&mut self, epoch: u64, id: EffectId, after_ms: u64, text: &str, retryable: bool) {
        let input = Input::Failed(id, Fault { text: text.to_owned(), retryable });
        let fate = self.fate();
        self.answer(epoch, id, input, after_ms, fate);
    }
}
