//! Shares that are made of replicas: how many the canary has for a share, and which part of a Service's endpoints is the canary's in truth.
//!
//! *Rounding.* The canary has the most replicas whose part is not more than the share, counted beside the replicas that stable is asked to have;
//! never fewer than one, and where not even one is little enough the release is refused before it begins. Stable is not scaled. While a pod
//! of stable is not ready the canary's part is greater than that: nothing is moved for it.

use std::{collections::BTreeSet, sync::atomic::Ordering, time::Duration};

use k8s_openapi::api::{core::v1::Pod, discovery::v1::EndpointSlice};
use kube::{Api, api::ListParams};
use serin_core::{WeightBps, release::Fault};
use serin_spec::validated::ClusterRouter;
use tokio::time::{Instant, sleep};

use super::effects::{World, no_longer_wanted, pair_fault};
use crate::api::{ApiError, within};

/// How long endpoints may take to follow.
const FOLLOW_WITHIN: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The most replicas of the canary whose part is not more than the share; `None` where replicas make no share: nothing and everything.
pub(crate) fn replicas_for(stable: i32, weight: WeightBps) -> Option<i32> {
    if weight.is_zero() || weight == WeightBps::FULL {
        return None;
    }
    let replicas = i64::from(stable.max(0)) * i64::from(weight.canary_bps()) / i64::from(weight.stable_bps());
    Some(i32::try_from(replicas).unwrap_or(i32::MAX))
}

/// How many replicas of stable a share needs, so that one of the canary is not more than it.
pub(super) fn least_stable(weight: WeightBps) -> i32 {
    let (stable, canary) = (i32::from(weight.stable_bps()), i32::from(weight.canary_bps()));
    if canary == 0 { 0 } else { stable.div_euclid(canary) + i32::from(stable % canary != 0) }
}

/// The part that so many replicas are.
pub(super) fn part(canary: i32, stable: i32) -> WeightBps {
    let (canary, stable) = (i64::from(canary.max(0)), i64::from(stable.max(0)));
    let bps = if canary + stable == 0 { 0 } else { canary * 10_000 / (canary + stable) };
    u16::try_from(bps).ok().and_then(|bps| WeightBps::new(bps).ok()).unwrap_or(WeightBps::FULL)
}

impl World {
    /// Whether the canary's share is made of replicas.
    pub(super) fn is_ratio(&self) -> bool {
        matches!(self.place.traffic.router, ClusterRouter::Replicas { .. })
    }

    /// Replicas with which a trial begins whose shares are made of them.
    pub(super) fn first_replicas(&self, stable: i32) -> Option<i32> {
        let first = self.weights.iter().find_map(|weight| replicas_for(stable, *weight)).filter(|_| self.is_ratio())?;
        Some(first.max(1))
    }

    /// Gives the canary the replicas of a share, no more and no fewer, and waits until they are ready.
    pub(super) async fn make_share(&self, weight: WeightBps) -> Result<(), Fault> {
        let stable = self.pair.fresh_stable().await.map_err(pair_fault)?.wanted;
        let Some(replicas) = replicas_for(stable, weight) else { return Ok(()) };
        if replicas == 0 {
            let text =
                format!("{weight} need {} replicas of stable beside one of the canary, and stable has {stable}", least_stable(weight));
            return Err(Fault { text, retryable: false });
        }
        let mut unwanted = self.unwanted.subscribe();
        {
            let _one_at_a_time = self.scaling.lock().await;
            if *unwanted.borrow_and_update() {
                return Err(no_longer_wanted());
            }
            self.pair.scale_canary(replicas).await.map_err(pair_fault)?;
        }
        let within = Duration::from_millis(self.place.workload.ready_within_ms);
        tokio::select! {
            settled = self.exactly(replicas) => settled,
            _ = unwanted.wait_for(|unwanted| *unwanted) => Err(no_longer_wanted()),
            () = sleep(within) => {
                let text = format!("the canary has not had exactly {replicas} replicas ready in time, which {weight} beside {stable} of stable are");
                Err(Fault { text, retryable: false })
            }
        }
    }

    /// Waits until the canary has so many replicas, all of them ready, and no others. What is remembered may be older than what was just written.
    async fn exactly(&self, replicas: i32) -> Result<(), Fault> {
        loop {
            self.pair.canary_settled(&self.judged, replicas).await;
            let now = self.pair.fresh_canary().await.map_err(pair_fault)?;
            if now.settled && now.wanted == replicas {
                return Ok(());
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// What the canary has if it is more than the share that its Service stands for: somebody else has scaled one of the versions.
    pub(super) fn excess(&self, weight: WeightBps) -> Option<WeightBps> {
        if !self.is_ratio() || self.sizing.load(Ordering::SeqCst) > 0 {
            return None;
        }
        let (stable, canary) = (self.pair.stable()?, self.pair.canary()?);
        (canary.ready > replicas_for(stable.wanted, weight)?).then(|| part(canary.ready, stable.ready))
    }

    /// Waits until the endpoints of the Service are those of the share.
    pub(super) async fn endpoints_follow(&self, weight: WeightBps) -> Result<(), Fault> {
        let end = Instant::now() + FOLLOW_WITHIN;
        loop {
            let [stable, canary] =
                self.endpoints().await.map_err(|error| Fault { text: error.to_string(), retryable: error.may_pass() })?;
            let is_so = match replicas_for(self.pair.stable().map_or(0, |stable| stable.wanted), weight) {
                None if weight.is_zero() => canary == 0,
                // After the hand-over stable is the judged version.
                None => canary == 0 || stable == 0,
                Some(replicas) => canary > 0 && i32::try_from(canary).is_ok_and(|canary| canary <= replicas),
            };
            if is_so {
                return Ok(());
            }
            if Instant::now() >= end {
                let text = format!("the Service has {canary} endpoints of the canary and {stable} others, which are not {weight}");
                return Err(Fault { text, retryable: true });
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Ready endpoints of the Service: those that are not the canary's, and those that are.
    async fn endpoints(&self) -> Result<[usize; 2], ApiError> {
        let service = self.router.lens().name();
        let slices: Api<EndpointSlice> = Api::namespaced(self.client.clone(), &self.route_namespace);
        let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
        let slices = within(&format!("list EndpointSlices of {service}"), slices.list(&of_service)).await?;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let of_canary = ListParams::default().labels(&self.pair.canary_selector().unwrap_or_default());
        let pods = within("list pods of the canary", pods.list(&of_canary)).await?;
        let canary: BTreeSet<&str> = pods.items.iter().filter_map(|pod| pod.metadata.name.as_deref()).collect();
        let mut counts = [0, 0];
        for endpoint in slices.items.iter().flat_map(|slice| slice.endpoints.iter().flatten()) {
            let is_ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false);
            let pod = endpoint.target_ref.as_ref().and_then(|target| target.name.as_deref());
            if is_ready {
                counts[usize::from(pod.is_some_and(|pod| canary.contains(pod)))] += 1;
            }
        }
        Ok(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bps(weight: u16) -> WeightBps {
        WeightBps::new(weight).unwrap()
    }

    #[test]
    fn a_share_is_rounded_down_and_never_up() {
        let of = |stable, weight| replicas_for(stable, bps(weight));
        assert_eq!([of(10, 5_000), of(10, 2_000), of(10, 1_000), of(10, 900)], [Some(10), Some(2), Some(1), Some(0)]);
        assert_eq!([of(3, 3_000), of(1, 9_000), of(4, 0), of(4, 10_000), of(0, 5_000)], [Some(1), Some(9), None, None, Some(0)]);
        for stable in 1..40 {
            for weight in (100..10_000).step_by(100) {
                let canary = of(stable, weight).unwrap();
                assert!(part(canary, stable) <= bps(weight), "{canary} beside {stable}");
                assert!(i64::from(canary + 1) * 10_000 > i64::from(weight) * i64::from(canary + 1 + stable), "one more would be too many");
            }
        }
    }

    #[test]
    fn what_a_share_needs_at_least_is_just_enough() {
        for weight in 1..10_000 {
            let least = least_stable(bps(weight));
            assert!(replicas_for(least, bps(weight)).unwrap() >= 1, "{weight}");
            assert_eq!(replicas_for(least - 1, bps(weight)).unwrap(), 0, "{weight}");
        }
    }
}
