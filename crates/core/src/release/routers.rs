//! What every router is asked to do, and the proof that it does.
//!
//! The wish follows from the phase alone. A router that was asked is read back, and only what was read back is proven. One
//! that does something else than asked is asked again, at once the first time and after a growing wait from then on; one
//! that never keeps what it was asked for is given up like any other effect that fails.

use super::{Cause, CauseKind, Effect, EffectId, Event, Phase, Release, delivery::PATIENCE_ATTEMPTS};
use crate::WeightBps;

impl Release {
    /// Sets every router to what the phase wants, and has it read back.
    pub(super) fn align_routers(&mut self) {
        for target in self.plan.targets.clone() {
            let Some((weight, matches, preview)) = self.wanted(&target) else { continue };
            let state = self.state.targets.get(&target).copied();
            let on_its_way = self.is_outstanding(|effect| effect.target() == Some(&target));
            match state {
                // Never touched: there is nothing to take back.
                None if weight.is_zero() && !matches && !preview && !self.lost_its_past() => {}
                Some(state) if (state.asked, state.matches, state.preview) == (weight, matches, preview) => {
                    if state.drifted {
                        let shift = Effect::Shift { target, weight, matches, preview };
                        match state.drifts {
                            0..=1 => self.request(shift),
                            drifts => self.request_after(shift, drifts),
                        }
                    } else if state.proven.is_none() && !on_its_way {
                        self.request(Effect::ReadBack { target });
                    }
                }
                _ => self.request(Effect::Shift { target, weight, matches, preview }),
            }
        }
    }

    pub(super) fn read_back(&mut self, id: EffectId, weight: WeightBps) {
        let Some(Effect::ReadBack { target }) = self.state.outstanding.get(&id).cloned() else { return };
        self.record(Event::Done { id });
        let Some(asked) = self.state.targets.get(&target).map(|state| state.asked) else { return };
        if weight == asked {
            self.record(Event::WeightProven { target, weight });
            if matches!(self.state.phase, Phase::Retreated { .. }) && self.state.all_proven() {
                self.trial.begin_retreat();
            }
        } else {
            self.drift(&target, asked, weight);
        }
    }

    pub(super) fn router_seen(&mut self, target: &str, weight: WeightBps) {
        let Some(state) = self.state.targets.get(target) else { return };
        // While a change is on its way, the old weight is no surprise.
        if state.proven == Some(state.asked) && weight != state.asked {
            self.drift(target, state.asked, weight);
        }
    }

    fn drift(&mut self, target: &str, asked: WeightBps, found: WeightBps) {
        self.record(Event::DriftFound { target: target.to_owned(), asked, found });
        let drifts = self.state.targets.get(target).map_or(0, |state| state.drifts);
        if drifts >= PATIENCE_ATTEMPTS && self.state.canary_has_traffic() {
            let text = format!("router {target} does not keep the weight: {found} instead of {asked}, {drifts} times in a row");
            self.roll_back(Cause { kind: CauseKind::Effect, text });
        }
    }

    /// The share, whether the matches are on, and whether the preview is open; `None`: the router is not this phase's business.
    fn wanted(&self, target: &str) -> Option<(WeightBps, bool, bool)> {
        match &self.state.phase {
            Phase::Stage { step, .. } => match self.state.override_weight {
                Some(weight) => Some((weight, !weight.is_zero(), false)),
                None => {
                    let step = self.plan.steps.get(*step)?;
                    if step.is_preview() {
                        return Some((WeightBps::ZERO, false, true));
                    }
                    let weight = *step.weights.get(target)?;
                    // A target that gets nothing while others get something has not had its turn yet; a stage where none
                    // gets anything is there for the matches.
                    Some((weight, !weight.is_zero() || step.weight().is_zero(), false))
                }
            },
            Phase::Promoting | Phase::Baking { .. } | Phase::Finishing | Phase::Retained { .. } | Phase::Retiring => {
                Some((WeightBps::FULL, false, false))
            }
            Phase::Retreated { .. } | Phase::RollingBack { .. } => Some((WeightBps::ZERO, false, false)),
            // Everything stays as it was asked until stable is back or a person decides.
            Phase::NeedsOperator { .. } => self.state.targets.get(target).map(|state| (state.asked, state.matches, state.preview)),
            _ => None,
        }
    }

    /// The journal's end is missing, so no router's state is known from it.
    fn lost_its_past(&self) -> bool {
        self.state.rollback.as_ref().is_some_and(|cause| cause.kind == CauseKind::Latched)
    }
}
