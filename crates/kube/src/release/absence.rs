//! What is not there although traffic needs it.
//!
//! A metric source that asks the pods themselves sees nothing wrong where there are none: the share of a canary without a ready replica is lost, and
//! no criterion ever says so. A pod that is replaced comes back within the grace; what does not is a failure that needs no statistics. A Service that
//! is gone is one at once, because nobody deletes it for a moment.

use std::time::{Duration, Instant};

use serin_spec::validated::ClusterTraffic;

use crate::workload::Memory;

/// How long a canary with traffic may be without a ready replica.
const GRACE: Duration = Duration::from_secs(5);

/// Since when a canary that has traffic has had no ready replica.
#[derive(Debug, Default)]
pub(super) struct Absence {
    since: Option<Instant>,
}

impl Absence {
    /// Takes in how many replicas are ready, and says what is wrong if nothing was for too long.
    pub(super) fn see(&mut self, canary_ready: i32, has_traffic: bool, now: Instant) -> Option<String> {
        if canary_ready > 0 || !has_traffic {
            self.since = None;
            return None;
        }
        let since = *self.since.get_or_insert(now);
        let is_over = now.saturating_duration_since(since) >= GRACE;
        is_over.then(|| format!("no replica of the canary is ready for {} s, and it has traffic", GRACE.as_secs()))
    }
}

/// Which of both versions' Services, stable's and the canary's, is gone, in words. `namespace`: of the release. A router that needs none misses none.
pub(super) fn missing_services(memory: &Memory, namespace: &str, traffic: &ClusterTraffic) -> [Option<String>; 2] {
    let Some(services) = traffic.services() else { return [None, None] };
    services.map(|(elsewhere, name)| {
        let namespace = elsewhere.as_deref().unwrap_or(namespace);
        let is_gone = memory.services.get(namespace, &name).is_none();
        is_gone.then(|| format!("the Service {namespace}/{name} is gone"))
    })
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
}
