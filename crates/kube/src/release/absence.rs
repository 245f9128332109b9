//! What is not there although traffic needs it.
//!
//! A metric source that asks the pods themselves sees nothing wrong where there are none: the share of a canary without a ready replica is lost, and
//! no criterion ever says so. A pod that is replaced comes back within the grace; what does not is a failure that needs no statistics. A Service that
//! is gone is one at once, because nobody deletes it for a moment.

use std::time::{Duration, Instant};

use serin_core::release::WorkloadSeen;
use serin_spec::validated::{ClusterTraffic, WorkloadKind};

use crate::workload::{ArmSeen, Memory};

/// How long a canary with traffic may be without a ready replica.
const GRACE: Duration = Duration::from_secs(5);

/// Since when a canary that has traffic has had no ready replica.
#[derive(Debug, Default)]
pub(super) struct Absence {
    since: Option<Instant>,
}

/// Who can take traffic.
#[derive(Debug)]
pub(super) struct Presence {
    /// Stable's replicas that requests reach.
    pub(super) stable_ready: i32,
    stable_service: Option<String>,
    canary_service: Option<String>,
    absent: Option<String>,
}

impl Absence {
    /// Looks at who is there. `namespace`: of the release; `arms`: stable and canary; `has_traffic`: whether the canary may be getting requests.
    pub(super) fn look(
        &mut self,
        memory: &Memory,
        namespace: &str,
        traffic: &ClusterTraffic,
        arms: [&Option<ArmSeen>; 2],
        has_traffic: bool,
    ) -> Presence {
        let [stable_service, canary_service] = missing_services(memory, namespace, traffic);
        let [stable_ready, canary_ready] = arms.map(|arm| arm.as_ref().map_or(0, |arm| arm.ready));
        Presence {
            // Without its Service nothing reaches it, however many replicas are ready.
            stable_ready: if stable_service.is_some() { 0 } else { stable_ready },
            absent: self.see(canary_ready, has_traffic, Instant::now()),
            stable_service,
            canary_service,
        }
    }

    /// Takes in how many replicas are ready, and says what is wrong if nothing was for too long.
    fn see(&mut self, canary_ready: i32, has_traffic: bool, now: Instant) -> Option<String> {
        if canary_ready > 0 || !has_traffic {
            self.since = None;
            return None;
        }
        let since = *self.since.get_or_insert(now);
        let is_over = now.saturating_duration_since(since) >= GRACE;
        is_over.then(|| format!("no replica of the canary is ready for {} s, and it has traffic", GRACE.as_secs()))
    }
}

impl Presence {
    /// Serin has not made the canary of this run yet: its Service is not missed before.
    pub(super) fn without_canary(&mut self) {
        self.canary_service = None;
    }

    /// Why the canary's share is lost, if it is.
    pub(super) fn lost(&self) -> Option<&str> {
        self.canary_service.as_deref().or(self.absent.as_deref())
    }

    /// All of it as the engine takes it. `over`: why the canary must end in any case; `failing`: what is wrong with one of its pods.
    /// `kind`: what stable is.
    pub(super) fn seen(
        self,
        kind: WorkloadKind,
        arms: [Option<ArmSeen>; 2],
        over: Option<String>,
        failing: Option<String>,
    ) -> WorkloadSeen {
        let [stable, canary] = arms;
        let ready = |ready: i32| Some(u32::try_from(ready).unwrap_or(0));
        let canary_ready = canary.as_ref().map_or(0, |canary| canary.ready);
        let trouble = canary.and_then(|canary| canary.trouble);
        WorkloadSeen {
            canary_ready: ready(canary_ready),
            stable_ready: ready(self.stable_ready),
            stable_failure: stable
                .map_or_else(|| Some(format!("its {} is gone", kind.name())), |stable| self.stable_service.or(stable.trouble)),
            // The cause before what it leads to.
            canary_failure: over.or(self.canary_service).or(failing).or(trouble).or(self.absent),
        }
    }
}

/// Which of both versions' Services, stable's and the canary's, is gone, in words. A router that needs none misses none.
fn missing_services(memory: &Memory, namespace: &str, traffic: &ClusterTraffic) -> [Option<String>; 2] {
    let Some(services) = traffic.services() else { return [None, None] };
    services.map(|(elsewhere, name)| {
        let namespace = elsewhere.as_deref().unwrap_or(namespace);
        let is_gone = memory.services.get(namespace, &name).is_none();
        is_gone.then(|| format!("the Service {namespace}/{name} is gone"))
    })
}

/// The canary's Service with its first port, as names are resolved within a cluster.
pub(super) fn address_of_canary(memory: &Memory, namespace: &str, traffic: &ClusterTraffic) -> Option<String> {
    let [_, (elsewhere, name)] = traffic.services()?;
    let namespace = elsewhere.as_deref().unwrap_or(namespace);
    let service = memory.services.get(namespace, &name)?;
    let port = service.spec.as_ref()?.ports.as_ref()?.first()?.port;
    Some(format!("{name}.{namespace}.svc:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_a_failure_once_it_lasts_and_only_with_traffic() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut absence = Absence::default();
        assert_eq!(absence.see(0, true, start), None);
        assert_eq!(absence.see(0, true, after(4)), None);
        assert_eq!(absence.see(1, true, after(4)), None);
        assert_eq!(absence.see(0, true, after(6)), None, "another gap begins");
        assert!(absence.see(0, true, after(11)).is_some());
        assert_eq!(absence.see(0, false, after(12)), None);
        assert_eq!(absence.see(0, true, after(20)), None);
    }

    #[test]
    fn the_cause_comes_before_what_it_leads_to() {
        let text = |text: &str| Some(text.to_owned());
        let there = |canary_service| Presence { stable_ready: 0, stable_service: text("gone"), canary_service, absent: text("absent") };
        let arms = || [Some(ArmSeen { ready: 2, ..ArmSeen::default() }), Some(ArmSeen::default())];
        let seen = there(None).seen(WorkloadKind::Deployment, arms(), None, text("crash loop"));
        assert_eq!((seen.stable_ready, seen.stable_failure, seen.canary_failure), (Some(0), text("gone"), text("crash loop")));
        assert_eq!(there(None).seen(WorkloadKind::Deployment, arms(), None, None).canary_failure, text("absent"));
        assert_eq!(there(text("service")).seen(WorkloadKind::Deployment, arms(), None, text("crash loop")).canary_failure, text("service"));
        assert_eq!(there(text("service")).seen(WorkloadKind::Deployment, arms(), text("changed"), None).canary_failure, text("changed"));
        assert_eq!(there(text("service")).lost(), Some("service"));
    }
}
