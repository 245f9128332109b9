//! Why a run must end, because the canary is no longer what was judged, and how runs end.
//!
//! In the phases that judge, the engine takes it for a failure of the canary. Elsewhere it takes an abort, which moves traffic whatever stable's
//! state: it is given only when that is no loss.

use serin_core::release::Phase;
use serin_spec::validated::Pair;

use crate::workload::ArmSeen;

/// What is seen of the Deployments of a run.
#[derive(Debug, Clone)]
pub(super) struct Looked<'a> {
    pub(super) place: &'a Pair,
    /// The version that is on trial.
    pub(super) judged: &'a str,
    pub(super) phase: &'a Phase,
    /// The canary is there, or Serin has made it: until then it is missing, or another version.
    pub(super) is_made: bool,
    pub(super) stable: Option<&'a ArmSeen>,
    pub(super) canary: Option<&'a ArmSeen>,
    /// The version that would be tried now, as far as it is known.
    pub(super) candidate: Option<String>,
}

impl Looked<'_> {
    /// Why the run must end. While the old version is retired, nothing ends it any more.
    pub(super) fn why_to_end(&self) -> Option<String> {
        let Pair { stable: stables, canary: canarys, is_managed, kinds, .. } = self.place;
        let of = if *is_managed { stables } else { canarys };
        let kind = kinds[usize::from(!*is_managed)].name();
        if matches!(self.phase, Phase::Retiring) {
            return None;
        }
        if *is_managed && self.stable.is_some_and(|stable| !stable.paused) {
            return Some(format!("Deployment {of} was resumed by somebody else and rolls out what is on trial"));
        }
        if self.candidate.as_ref().is_some_and(|candidate| candidate != self.judged) {
            return Some(format!(
                "the template of {kind} {of}, or what it reads, was changed while it was on trial; what it is now begins a new release"
            ));
        }
        // What is edited of a pair is the canary itself, which was looked at.
        if *is_managed && self.is_made && self.canary.is_some_and(|canary| canary.version != self.judged) {
            return Some(format!("the template of the canary's Deployment {canarys} was changed by somebody else"));
        }
        let needs = matches!(self.phase, Phase::Finishing | Phase::Retained { .. });
        (needs && self.canary.is_none()).then(|| self.gone())
    }

    /// That the canary is gone.
    pub(super) fn gone(&self) -> String {
        format!("the canary's {} {} is gone", self.place.kinds[1].name(), self.place.canary)
    }
}

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
    fn what_is_no_longer_what_was_judged_ends_the_run() {
        let arm = |version: &str, paused| ArmSeen { version: version.to_owned(), paused, ..ArmSeen::default() };
        let (old, new, resumed) = (arm("v1", true), arm("v2", false), arm("v1", false));
        let (mut pair, stage) = (
            Pair {
                namespace: None,
                canary_namespace: None,
                kinds: [serin_spec::validated::WorkloadKind::Deployment; 2],
                stable: "shop".to_owned(),
                canary: "trial".to_owned(),
                is_managed: true,
                canary_replicas: None,
                ready_within_ms: 1,
            },
            Phase::Promoting,
        );
        let why = |place: &Pair, phase: &Phase, is_made, stable: &ArmSeen, canary: Option<&ArmSeen>, candidate: &str| {
            let candidate = Some(candidate.to_owned());
            Looked { place, judged: "v2", phase, is_made, stable: Some(stable), canary, candidate }.why_to_end()
        };
        let is = |why: Option<String>, part: &str| assert!(why.as_ref().is_some_and(|why| why.contains(part)), "{part}: {why:?}");
        assert_eq!(why(&pair, &stage, true, &old, Some(&new), "v2"), None);
        assert_eq!(why(&pair, &stage, false, &old, Some(&old), "v2"), None, "the canary of the run before");
        is(why(&pair, &stage, true, &old, Some(&old), "v2"), "by somebody else");
        is(why(&pair, &stage, true, &old, Some(&new), "v3"), "Deployment shop, or what it reads");
        is(why(&pair, &stage, true, &resumed, Some(&new), "v2"), "was resumed");
        is(why(&pair, &Phase::Finishing, true, &old, None, "v2"), "trial is gone");
        assert_eq!(why(&pair, &Phase::Retiring, true, &resumed, Some(&old), "v3"), None);
        pair.is_managed = false;
        assert_eq!(why(&pair, &stage, true, &resumed, Some(&old), "v2"), None, "it lacks the hash of what it reads");
        is(why(&pair, &stage, true, &resumed, Some(&new), "v3"), "Deployment trial");
    }

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
