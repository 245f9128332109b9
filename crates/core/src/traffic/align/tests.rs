//! Processes scraped at other moments than each other, restarted, found late, gone.

use super::*;

fn series(arm: Arm, part: Part, id: &str, samples: &[(u64, f64)]) -> Series {
    let samples = samples.iter().map(|(at_s, value)| Sample { at_ms: at_s * 1_000, value: *value }).collect();
    Series { arm, part, id: id.to_owned(), target: id.split('/').next().unwrap().to_owned(), samples }
}

fn counts(requests: u64, events: u64) -> ArmCounts {
    ArmCounts { requests, events }
}

use Arm::{Canary, Stable};
use Part::{All, Bad, Good};

#[test]
fn what_was_before_the_first_look_does_not_count() {
    let mut aligner = Aligner::default();
    let first = [series(Stable, All, "s", &[(0, 500.0), (10, 900.0)]), series(Stable, Bad, "s/5", &[(0, 50.0), (10, 90.0)])];
    assert_eq!(aligner.take(&first).unwrap(), None);
    assert_eq!(aligner.take(&first).unwrap(), None, "the same again is nothing new");
    let next = [series(Stable, All, "s", &[(10, 900.0), (20, 1_000.0)]), series(Stable, Bad, "s/5", &[(10, 90.0), (20, 91.0)])];
    assert_eq!(aligner.take(&next).unwrap(), Some([counts(100, 1), counts(0, 0)]));
}

#[test]
fn arms_are_counted_up_to_a_sample_of_the_canary() {
    let mut aligner = Aligner::default();
    let both = |stable: &[(u64, f64)], canary: &[(u64, f64)]| [series(Stable, All, "s", stable), series(Canary, All, "c", canary)];
    assert_eq!(aligner.take(&both(&[(0, 0.0), (10, 100.0)], &[(4, 0.0)])).unwrap(), None);
    // Stable is known to 20, the canary to 14: stable's part up to 14 is 40 of the 100.
    let taken = aligner.take(&both(&[(10, 100.0), (20, 200.0)], &[(4, 0.0), (14, 10.0)])).unwrap();
    assert_eq!(taken, Some([counts(100, 0), counts(10, 0)]));
    // The canary was sampled at 24, up to which stable is not known yet.
    assert_eq!(aligner.take(&both(&[(20, 200.0)], &[(14, 10.0), (24, 20.0)])).unwrap(), None);
    assert_eq!(aligner.take(&both(&[(20, 200.0), (30, 300.0)], &[(24, 20.0)])).unwrap(), Some([counts(100, 0), counts(10, 0)]));
}

/// Both arms fail for a while, and are sampled at different moments: what is compared shows the trouble in both.
#[test]
fn shared_trouble_shows_in_both_arms_at_once() {
    let errors = |at_s: u64| (at_s.clamp(1_000, 1_090) - 1_000) as f64;
    let (mut aligner, mut worst) = (Aligner::default(), 0.0_f64);
    let [mut sum_stable, mut sum_canary] = [counts(0, 0); 2];
    for now_s in (0..1_300).step_by(5) {
        let sampled = |offset: u64| (0..=now_s).filter(move |at_s| at_s % 15 == offset).collect::<Vec<_>>();
        let one = |arm, part, id: &str, offset, value: &dyn Fn(u64) -> f64| {
            series(arm, part, id, &sampled(offset).into_iter().map(|at_s| (at_s, value(at_s))).collect::<Vec<_>>())
        };
        let all = [
            one(Stable, All, "s", 2, &|at_s| at_s as f64 * 100.0),
            one(Canary, All, "c", 11, &|at_s| at_s as f64 * 10.0),
            one(Stable, Bad, "s/5", 2, &|at_s| errors(at_s) * 20.0),
            one(Canary, Bad, "c/5", 11, &|at_s| errors(at_s) * 2.0),
        ];
        let Some([stable, canary]) = aligner.take(&all).unwrap() else { continue };
        sum_stable.add(stable);
        sum_canary.add(canary);
        let rate = |counts: ArmCounts| counts.events as f64 / counts.requests as f64;
        worst = worst.max((rate(canary) - rate(stable)).abs());
        // The canary's first counts are from before stable's.
        assert!(now_s < 60 || stable.requests.abs_diff(canary.requests * 10) <= 10, "{stable:?} {canary:?}");
    }
    assert_eq!((sum_stable.events, sum_canary.events), (1_800, 180));
    // A batch of 15 s at the edges of the outage; unaligned it is all of the 20 %.
    assert!(worst < 0.09, "{worst}");
}

#[test]
fn a_counter_that_fell_began_anew() {
    let mut aligner = Aligner::default();
    aligner.take(&[series(Stable, All, "s", &[(0, 90.0), (10, 100.0)])]).unwrap();
    let after = [series(Stable, All, "s", &[(10, 100.0), (20, 130.0), (30, 7.0), (40, 9.0)])];
    assert_eq!(aligner.take(&after).unwrap(), Some([counts(39, 0), counts(0, 0)]));
}

#[test]
fn the_first_failures_of_a_new_series_count() {
    let mut aligner = Aligner::default();
    let known = |to: u64| [series(Stable, All, "s", &[(to, to as f64 * 10.0)]), series(Canary, All, "c", &[(to, to as f64)])];
    aligner.take(&known(0)).unwrap();
    aligner.take(&known(10)).unwrap();
    let mut failing = known(20).to_vec();
    failing.push(series(Canary, Bad, "c/500", &[(20, 3.0)]));
    failing.push(series(Stable, Bad, "s/500", &[(20, 2.0)]));
    assert_eq!(aligner.take(&failing).unwrap(), Some([counts(100, 2), counts(10, 3)]));
}

#[test]
fn a_part_that_was_asked_for_too_early_is_counted_with_the_next_look() {
    let mut aligner = Aligner::default();
    let known = |to: u64| series(Canary, All, "c", &[(to, to as f64)]);
    aligner.take(&[known(0)]).unwrap();
    assert_eq!(aligner.take(&[known(10)]).unwrap(), Some([counts(0, 0), counts(10, 0)]));
    let late = [known(20), series(Canary, Bad, "c/500", &[(10, 3.0), (20, 5.0)])];
    assert_eq!(aligner.take(&late).unwrap(), Some([counts(0, 0), counts(10, 5)]));
}

#[test]
fn an_old_process_of_stable_that_is_found_late_brings_no_past() {
    let mut aligner = Aligner::default();
    let known = |to: u64| series(Stable, All, "s", &[(to, to as f64)]);
    aligner.take(&[known(0)]).unwrap();
    aligner.take(&[known(10)]).unwrap();
    let found = [known(20), series(Stable, All, "old", &[(20, 1e6)]), series(Stable, Bad, "old/500", &[(20, 1e5)])];
    assert_eq!(aligner.take(&found).unwrap(), Some([counts(10, 0), counts(0, 0)]));
    let later = [known(30), series(Stable, All, "old", &[(30, 1e6 + 5.0)]), series(Stable, Bad, "old/500", &[(30, 1e5 + 1.0)])];
    assert_eq!(aligner.take(&later).unwrap(), Some([counts(15, 1), counts(0, 0)]));
}

#[test]
fn a_process_that_is_gone_holds_nothing_up_for_long() {
    let mut aligner = Aligner::default();
    let look = |gone: &[(u64, f64)], to: u64| {
        [series(Stable, All, "a", gone), series(Stable, All, "b", &[(to - 10, (to - 10) as f64), (to, to as f64)])]
    };
    aligner.take(&look(&[(0, 0.0), (10, 10.0)], 10)).unwrap();
    let gone = [(0, 0.0), (10, 10.0), (20, 20.0)];
    assert_eq!(aligner.take(&look(&gone, 20)).unwrap(), Some([counts(20, 0), counts(0, 0)]));
    for to in [30, 40] {
        assert_eq!(aligner.take(&look(&gone, to)).unwrap(), None, "it may only be late, at {to}");
    }
    assert_eq!(aligner.take(&look(&gone, 50)).unwrap(), Some([counts(30, 0), counts(0, 0)]));
}

#[test]
fn a_canary_without_new_samples_is_silent() {
    let mut aligner = Aligner::default();
    for to in (10_u64..=100).step_by(10) {
        let canary = to.min(40);
        let all = [
            series(Stable, All, "s", &[(to - 10, to as f64 - 10.0), (to, to as f64)]),
            series(Canary, All, "c", &[(canary - 10, canary as f64 - 10.0), (canary, canary as f64)]),
        ];
        aligner.take(&all).unwrap();
        assert_eq!(aligner.is_silent(Canary), to >= 70, "at {to}");
        assert!(!aligner.is_silent(Stable));
    }
}

#[test]
fn what_is_not_good_is_bad() {
    let mut aligner = Aligner::default();
    let look = |to: u64, all: f64, good: f64| [series(Canary, All, "c", &[(to, all)]), series(Canary, Good, "c/fast", &[(to, good)])];
    aligner.take(&look(0, 10.0, 5.0)).unwrap();
    assert_eq!(aligner.take(&look(10, 30.0, 22.0)).unwrap(), Some([counts(0, 0), counts(20, 3)]));
}

#[test]
fn samples_that_are_no_counts_are_left_out() {
    let mut aligner = Aligner::default();
    aligner.take(&[series(Canary, All, "c", &[(0, f64::NAN), (10, 5.0)])]).unwrap();
    let odd = [series(Canary, All, "c", &[(20, f64::INFINITY), (30, -4.0), (40, 8.0)])];
    assert_eq!(aligner.take(&odd).unwrap(), Some([counts(0, 0), counts(3, 0)]));
}

#[test]
fn there_may_not_be_too_many_series() {
    let many: Vec<Series> = (0..=MAX_SERIES).map(|index| series(Stable, All, &format!("s{index}"), &[(1, 1.0)])).collect();
    assert_eq!(Aligner::default().take(&many), Err(TooManySeries));
}
