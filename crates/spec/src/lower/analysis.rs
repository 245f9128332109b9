//! How traffic is judged.

use serin_core::plan::{Analysis, JudgeKind, OnInconclusive, OnNoData, RetreatEnd, RetreatPolicy};

use super::{
    Basis, Context,
    context::{HOUR, SECOND},
    criterion::{self, Taken},
    guard,
};
use crate::{format::short_duration, raw, tree::Path};

/// Time between two looks of the threshold judge and how far they reach, in milliseconds, unless the document says otherwise.
const INTERVAL_MS: u64 = SECOND;
const WINDOW_MS: u64 = 30 * SECOND;

/// The analysis, and the names of its criteria, which those of stages may not have.
pub(super) fn lower(given: raw::Analysis, basis: &Basis, path: &Path, cx: &mut Context<'_>) -> (Analysis, Taken) {
    let (interval_ms, window_ms) = rhythm(&given, basis, path, cx);
    let at_criteria = path.key("criteria");
    let mut taken = Taken::new();
    let criteria = match given.criteria {
        None => {
            let defaults = criterion::defaults(basis.judging);
            taken.extend(defaults.iter().map(|criterion| (criterion.name.clone(), None)));
            defaults
        }
        Some(given) => {
            if given.is_empty() {
                cx.push(
                    cx.warning_at_key(&at_criteria, "no-criteria", "without criteria only guards can stop this release")
                        .help("leave `criteria` out to get the default ones"),
                );
            }
            criterion::criteria(given, &mut taken, basis, &at_criteria, cx)
        }
    };
    let retreat = given.retreat.unwrap_or_default();
    let analysis = Analysis {
        judge: basis.judging.kind,
        expect: basis.judging.expect,
        interval_ms,
        window_ms,
        // What is measured by others is read with its sources.
        poll_ms: None,
        on_no_data: match given.on_no_data {
            None | Some(raw::OnNoData::Hold) => OnNoData::Hold,
            Some(raw::OnNoData::Rollback) => OnNoData::Rollback,
            Some(raw::OnNoData::Continue) => OnNoData::Continue,
        },
        on_inconclusive: match given.on_inconclusive {
            None | Some(raw::OnInconclusive::Hold) => OnInconclusive::Hold,
            Some(raw::OnInconclusive::Advance) => OnInconclusive::Advance,
            Some(raw::OnInconclusive::Rollback) => OnInconclusive::Rollback,
        },
        retreat: RetreatPolicy {
            recover_within_ms: cx.duration(
                &path.key("retreat").key("recoverWithin"),
                retreat.recover_within.as_ref(),
                15 * SECOND,
                SECOND..=HOUR,
            ),
            otherwise: match retreat.otherwise {
                None | Some(raw::RetreatEnd::Pause) => RetreatEnd::Pause,
                Some(raw::RetreatEnd::Resume) => RetreatEnd::Resume,
                Some(raw::RetreatEnd::Rollback) => RetreatEnd::Rollback,
            },
        },
        criteria,
        guards: guard::guards(given.guards.unwrap_or_default(), basis, &path.key("guards"), cx),
    };
    (analysis, taken)
}

/// How often the threshold judge looks and how far back, in milliseconds. To other judges these times mean nothing.
fn rhythm(given: &raw::Analysis, basis: &Basis, path: &Path, cx: &mut Context<'_>) -> (u64, u64) {
    if basis.judging.kind != JudgeKind::Threshold {
        return (INTERVAL_MS, WINDOW_MS);
    }
    let interval_ms = cx.duration(&path.key("interval"), given.interval.as_ref(), INTERVAL_MS, 100..=HOUR);
    let at_window = path.key("window");
    let window_ms = cx.duration(&at_window, given.window.as_ref(), WINDOW_MS.max(interval_ms), 100..=HOUR);
    if window_ms < interval_ms {
        let message =
            format!("`window` is shorter than `interval`, `{}`: traffic between two looks would not be seen", short_duration(interval_ms));
        cx.push(cx.error(&at_window, "contradiction", message).expected("at least as long as `interval`"));
    }
    (interval_ms, window_ms)
}
