//! What is asked of the world: only what the journal asked for and still wants, each under one id, moves to stable first, and
//! everything that is outstanding once more after a restart.

use std::collections::BTreeSet;

use serin_core::release::{EffectId, Output};

use super::{Broken, Rules, hold};

impl Rules {
    pub(super) fn effects_of(&self, output: &Output) -> Result<(), Broken> {
        let memory = &self.memory;
        for (_, effect) in &output.urgent {
            hold!(effect.is_retreat(), "effects", "urgent is for moves to stable: {effect:?}");
        }
        for (_, effect) in &output.effects {
            hold!(!effect.is_retreat(), "effects", "a move to stable waits for the journal: {effect:?}");
        }
        for (id, effect) in output.urgent.iter().chain(&output.effects) {
            hold!(
                memory.requested.get(id) == Some(effect),
                "effects",
                "{id:?} is {effect:?}, the journal has {:?}",
                memory.requested.get(id)
            );
            hold!(memory.outstanding.contains(id), "effects", "{effect:?} is done or overtaken, and wanted again");
        }
        if memory.rolled_back || memory.is_away() {
            hold!(memory.canary_is_out(), "no return", "traffic goes back, and routers are asked for {:?}", memory.asked);
        }
        Ok(())
    }

    /// A process that took over does not know how far the last one got.
    pub(super) fn resumed_effects(&self, output: &Output) -> Result<(), Broken> {
        let asked: BTreeSet<EffectId> = output.urgent.iter().chain(&output.effects).map(|(id, _)| *id).collect();
        hold!(asked == self.memory.outstanding, "effects", "outstanding {:?}, asked for {asked:?}", self.memory.outstanding);
        Ok(())
    }
}
