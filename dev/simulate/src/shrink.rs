//! What a failure needs: fewer kinds of faults and a shorter bad time, as long as the same rule is broken.

use crate::{
    rules::Broken,
    scenario::{Cut, Scenario},
    world,
};

/// The smallest variant that breaks the same rule, with what it then says.
pub(crate) fn shrink(seed: u64, broken: &Broken) -> (Cut, Broken) {
    let mut best = (Cut::NONE, broken.clone());
    let mut keep_if_same = |cut: Cut| {
        let found = world::live(Scenario::new(seed, cut), false).end.err().filter(|found| found.rule == broken.rule);
        if let Some(found) = found {
            best = (cut, found);
        }
        best.0
    };
    let mut cut = Cut::NONE;
    for kind in Scenario::new(seed, cut).kinds() {
        cut = keep_if_same(Cut { allowed: cut.allowed.without(kind), ..cut });
    }
    for percent in [75, 50, 35, 25, 15, 10, 5] {
        cut = keep_if_same(Cut { horizon_percent: percent, ..cut });
    }
    best
}
