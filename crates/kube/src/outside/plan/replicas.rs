//! Numbers of replicas in a plan: the canary's, which grow ahead of its share, and the minimum of stable's autoscaler, which is held meanwhile.
//!
//! Stable is taken to have at every step the replicas that are ready now. Where nobody may look for autoscalers, it is said, and planned as if there
//! were none.

use serde_json::{Value, json};
use serin_core::{
    WeightBps,
    plan::Plan,
    release::{Check, CheckStatus},
};
use serin_spec::validated::ClusterRouter;

use super::{
    Session,
    draft::{Draft, Drawn},
};
use crate::{
    api::ApiError,
    release::{Place, check, replicas_for, share_of},
    workload::{Autoscaler, Pair, PairError},
};

/// See the module.
pub(super) struct Replicas {
    /// Identity of the release.
    release: String,
    /// The canary in the draft.
    canary: usize,
    /// Whether anybody gives the canary a number: a DaemonSet has none.
    is_scaled: bool,
    /// Whether the share is made of replicas.
    is_ratio: bool,
    /// The canary's before the run.
    rest: i64,
    /// Those of stable that are asked for, and that are ready.
    stable: [i32; 2],
    /// What the canary begins with.
    first: i32,
    canarys_autoscaler: Option<Autoscaler>,
    /// Stable's, and its place in the draft.
    stables_autoscaler: Option<(Autoscaler, usize)>,
}

impl Replicas {
    /// Reads the autoscalers. `uid`: of the release.
    pub(super) async fn read(
        session: &Session,
        (pair, place, uid, plan): (&Pair, &Place, &str, &Plan),
        canary: usize,
        draft: &mut Draft,
        checks: &mut Vec<Check>,
    ) -> Result<Self, ApiError> {
        let found = async { Ok((pair.stables_autoscaler().await?, pair.canarys_autoscaler().await?)) };
        let (of_stable, canarys_autoscaler) = match found.await {
            Ok(found) => found,
            Err(PairError::Api(error @ ApiError::Forbidden(..))) => {
                let hint = "with `list` on horizontalpodautoscalers and scaledobjects, what is changed of them is a part of the plan";
                checks.push(check("autoscalers", CheckStatus::Warn, format!("{error}; planned as if there were none"), Some(hint)));
                (None, None)
            }
            Err(PairError::Api(error)) => return Err(error),
            Err(_) => (None, None),
        };
        let namespace = place.workload.namespace.as_deref().unwrap_or(&session.namespace);
        let stables_autoscaler = of_stable.map(|found| {
            let (resource, object) = found.object();
            let index = draft.take(&session.client, &resource, namespace, object.clone());
            (found, index)
        });
        let stable = pair.stable().map_or([1, 1], |stable| [stable.wanted, stable.ready]);
        let stated = place.workload.canary_replicas.and_then(|replicas| i32::try_from(replicas).ok());
        let is_ratio = matches!(place.traffic.router, ClusterRouter::Replicas { .. });
        let of_stage = plan.steps.iter().find_map(|step| replicas_for(stable[0], step.weight())).filter(|_| is_ratio);
        let first = stated.or(of_stage).unwrap_or(stable[0]).max(1);
        let is_scaled = pair.is_canary_scaled();
        let release = uid.to_owned();
        let mut made = Self { release, canary, is_scaled, is_ratio, rest: 0, stable, first, canarys_autoscaler, stables_autoscaler };
        made.rest = if pair.is_managed() { 0 } else { made.wanted(draft) };
        Ok(made)
    }

    /// The minimum of stable's autoscaler is held.
    pub(super) fn held(&self, draft: &mut Draft) -> Option<Drawn> {
        let (found, index) = self.stables_autoscaler.as_ref()?;
        let patch = found.holding(&self.release, self.stable[0])?;
        draft.draw(*index, &patch)
    }

    /// It is put back.
    pub(super) fn let_go(&self, draft: &mut Draft) -> Option<Drawn> {
        let (found, index) = self.stables_autoscaler.as_ref()?;
        let patch = found.changed(draft.current(*index)).letting_go(&self.release)?;
        draft.draw(*index, &patch)
    }

    /// What the canary begins with, as a merge patch. One that has an autoscaler and runs already is left to that.
    pub(super) fn begun(&self, draft: &Draft) -> Value {
        let replicas = match &self.canarys_autoscaler {
            _ if !self.is_scaled => return json!({}),
            Some(_) if self.wanted(draft) > 0 => return json!({}),
            Some(scaler) => self.first.max(scaler.min).min(scaler.max),
            None => self.first,
        };
        json!({"spec": {"replicas": replicas}})
    }

    /// The canary has as many as this share needs, or is made of.
    pub(super) fn grown(&self, draft: &mut Draft, weight: WeightBps) -> Option<Drawn> {
        if !self.is_scaled {
            return None;
        }
        if let Some(replicas) = replicas_for(self.stable[0], weight).filter(|_| self.is_ratio) {
            return draft.draw(self.canary, &json!({"spec": {"replicas": replicas}}));
        }
        let needed = share_of(self.stable[1], weight);
        if weight.is_zero() || self.canarys_autoscaler.is_some() || self.wanted(draft) >= i64::from(needed) {
            return None;
        }
        draft.draw(self.canary, &json!({"spec": {"replicas": needed}}))
    }

    /// The canary has again what it had before.
    pub(super) fn stopped(&self, draft: &mut Draft) -> Option<Drawn> {
        if self.is_scaled { draft.draw(self.canary, &json!({"spec": {"replicas": self.rest}})) } else { None }
    }

    /// Those that the canary is asked to have by now; none of a Deployment that is not there yet.
    fn wanted(&self, draft: &Draft) -> i64 {
        let canary = draft.current(self.canary);
        let unsaid = i64::from(canary.get("spec").is_some());
        canary.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(unsaid)
    }
}
