//! Requests without an answer: when they keep a stage from passing, and whose do not.

use serin_stats::Histogram;

use super::{bps, trial};
use crate::{
    Timestamp,
    traffic::{Arm, Assignment, Observation, OpenCell},
};

/// What is open on each arm, stable's first, by weight and assignment.
fn waiting(open: &[(u16, Assignment, [u64; 2])]) -> Observation {
    let open_cell = |weight, assignment, arm, requests| {
        let mut ages = Histogram::new();
        (0..requests).for_each(|_| ages.record_us(1_000_000));
        OpenCell { weight: bps(weight), arm, assignment, ages }
    };
    let arms = |&(weight, assignment, requests): &(u16, Assignment, [u64; 2])| {
        Arm::BOTH.map(|arm| open_cell(weight, assignment, arm, requests[arm.index()])).into_iter().filter(|cell| cell.ages.total() > 0)
    };
    Observation { at: Timestamp(1_000), open: open.iter().flat_map(arms).collect(), ..Observation::default() }
}

#[test]
fn requests_that_pile_up_on_the_canary_are_noticed() {
    use Assignment::{Random, Sticky};
    for (weight, stable, canary, noticed) in [
        (2_000, 40, 10, false),
        (2_000, 40, 44, false),
        (2_000, 40, 45, true),
        (2_000, 2, 10, true),
        (500, 0, 4, false),
        (500, 0, 5, true),
        (10_000, 0, 90, false),
    ] {
        for assignment in [Random, Sticky] {
            let mut trial = trial(vec![], vec![], weight);
            trial.observe(&waiting(&[(weight, assignment, [stable, canary])]));
            assert_eq!(trial.piled_up(), noticed.then_some((canary, stable)), "{canary} against {stable} at {weight}");
        }
    }
    let mut trial = trial(vec![], vec![], 2_000);
    trial.observe(&waiting(&[(2_000, Random, [1, 5]), (2_000, Sticky, [1, 5])]));
    assert_eq!(trial.piled_up(), Some((10, 2)), "both kinds together");
    trial.observe(&waiting(&[(2_000, Random, [2, 5])]));
    assert_eq!(trial.piled_up(), None, "they were answered");
}

#[test]
fn what_nobody_compared_does_not_pile_up() {
    use Assignment::{Forced, Matched, Random, Rescue};
    let mut trial = trial(vec![], vec![], 100);
    // One in ten by rule, one in a hundred by weight; and what went to one arm only before the stage.
    let others = [(100, Matched, [0, 100]), (0, Forced, [300, 0]), (10_000, Forced, [0, 300]), (100, Rescue, [0, 50])];
    trial.observe(&waiting(&others));
    assert_eq!(trial.piled_up(), None);
    trial.observe(&waiting(&[&others[..], &[(100, Random, [900, 9])]].concat()));
    assert_eq!(trial.piled_up(), None);
    // Nor do they hide what hangs.
    trial.observe(&waiting(&[&others[..], &[(100, Random, [0, 5])]].concat()));
    assert_eq!(trial.piled_up(), Some((5, 0)));
    // A source without ages.
    trial.observe(&Observation { at: Timestamp(2_000), ..Observation::default() });
    assert_eq!(trial.piled_up(), None);
}

#[test]
fn streams_from_before_a_change_of_the_weight_weigh_as_they_did() {
    let mut trial = trial(vec![], vec![], 100);
    let old = (5_000, Assignment::Random, [30, 30]);
    trial.observe(&waiting(&[old, (100, Assignment::Random, [99, 1])]));
    assert_eq!(trial.piled_up(), None, "half of everything, as they were assigned");
    // Ones that hang since then are noticed all the same.
    trial.observe(&waiting(&[(1_000, Assignment::Random, [9, 20]), (100, Assignment::Random, [99, 1])]));
    assert_eq!(trial.piled_up(), Some((21, 108)));
}
