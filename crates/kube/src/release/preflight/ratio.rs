//! Whether the replicas at hand can make the shares of the stages, and how they are rounded.

use serin_core::{
    WeightBps,
    release::{Check, CheckStatus},
};
use serin_spec::validated::ClusterRouter;

use super::{
    super::{
        effects::World,
        ratio::{least_stable, part, replicas_for},
    },
    outcome,
};

pub(super) async fn checks(world: &World) -> Vec<Check> {
    let ClusterRouter::Replicas { max, .. } = &world.place.traffic.router else { return Vec::new() };
    let mut checks = Vec::new();
    let stable = match world.pair.fresh_stable().await {
        Ok(stable) => stable.wanted,
        Err(error) => return vec![outcome("replica ratio", "", Err(error.to_string()), "both versions must be there")],
    };
    let most = max.and_then(|max| i32::try_from(max).ok()).unwrap_or(stable);
    checks.push(shares(&world.weights, stable, most));
    let scaled = if world.pair.is_canary_scaled() { Ok(()) } else { Err("a DaemonSet is not scaled".to_owned()) };
    let scaled = match scaled {
        Ok(()) => match world.pair.canarys_autoscaler().await {
            Ok(None) => Ok(()),
            Ok(Some(scaler)) => Err(format!("{} owns their number", scaler.title)),
            Err(error) => Err(error.to_string()),
        },
        Err(why) => Err(why),
    };
    let hint = "take the canary's autoscaler away, or use a router that has weights";
    checks.push(outcome("canary's replicas", "their number is Serin's to set", scaled, hint));
    checks
}

/// What the stages become beside so many replicas of stable, if the canary may have so many.
pub(crate) fn shares(weights: &[WeightBps], stable: i32, most: i32) -> Check {
    let mut told = Vec::new();
    for weight in weights {
        match replicas_for(stable, *weight) {
            None => {}
            Some(0) => {
                let why = format!("{weight} are less than one pod beside the {stable} of stable");
                let hint = format!("scale stable to {} replicas, or begin with a greater weight", least_stable(*weight));
                return outcome("replica ratio", "", Err(why), &hint);
            }
            Some(replicas) if replicas > most => {
                let why = format!("{weight} need {replicas} replicas of the canary beside the {stable} of stable, and it may have {most}");
                return outcome("replica ratio", "", Err(why), "raise `traffic.replicas.max`, or leave that stage out");
            }
            Some(replicas) => told.push(format!("{weight}: {replicas} of {} pods, {}", replicas + stable, part(replicas, stable))),
        }
    }
    let detail = if told.is_empty() { "every stage is nothing or everything".to_owned() } else { told.join("; ") };
    Check { name: "replica ratio".to_owned(), status: CheckStatus::Pass, detail, hint: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_replicas_cannot_make_is_refused_with_how_many_are_needed() {
        let of = |weights: &[u16], stable, most| {
            shares(&weights.iter().map(|weight| WeightBps::new(*weight).unwrap()).collect::<Vec<_>>(), stable, most)
        };
        let fine = of(&[2_500, 5_000, 10_000], 3, 3);
        assert_eq!((fine.status, fine.detail.as_str()), (CheckStatus::Pass, "25 %: 1 of 4 pods, 25 %; 50 %: 3 of 6 pods, 50 %"));
        let small = of(&[500], 3, 3);
        assert_eq!(small.status, CheckStatus::Fail);
        assert!(small.hint.unwrap().contains("19 replicas"));
        let large = of(&[9_000], 3, 3);
        assert!(large.detail.contains("27 replicas") && large.hint.unwrap().contains("max"), "{}", large.detail);
        assert_eq!(of(&[9_000], 3, 27).status, CheckStatus::Pass);
    }
}
