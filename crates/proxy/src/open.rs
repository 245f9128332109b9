//! The requests of one worker that have no complete answer yet: who has them and since when.
//!
//! Places are used again, so that a worker that has seen its busiest moment allocates nothing more; there are never more
//! places than it had requests at one time, and the bound on connections bounds those.

use std::time::Instant;

use crate::counters::CellKey;

/// The place of an open request. Neither copied nor cloned: whoever gives it back has it no more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OpenId(usize);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct OpenRequests {
    places: Vec<Place>,
    /// The first of the chain of free places.
    free: Option<usize>,
    taken: usize,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Taken { era: u64, key: CellKey, started: Instant },
    Free { next: Option<usize> },
}

impl OpenRequests {
    pub(crate) fn insert(&mut self, era: u64, key: CellKey, started: Instant) -> OpenId {
        self.taken += 1;
        let taken = Place::Taken { era, key, started };
        let Some(index) = self.free else {
            self.places.push(taken);
            return OpenId(self.places.len() - 1);
        };
        let place = &mut self.places[index];
        self.free = match place {
            Place::Free { next } => *next,
            // The chain holds free places only; losing it would cost memory, not counts.
            Place::Taken { .. } => None,
        };
        *place = taken;
        OpenId(index)
    }

    #[allow(clippy::needless_pass_by_value, reason = "the place is given back")]
    pub(crate) fn remove(&mut self, id: OpenId) {
        self.taken = self.taken.saturating_sub(1);
        self.places[id.0] = Place::Free { next: self.free };
        self.free = Some(id.0);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.taken == 0
    }

    /// Every open request that began in this era, with the instant it did, in no particular order.
    pub(crate) fn iter(&self, era: u64) -> impl Iterator<Item = (CellKey, Instant)> + '_ {
        self.places.iter().filter_map(move |place| match place {
            Place::Taken { era: began, key, started } if *began == era => Some((*key, *started)),
            Place::Taken { .. } | Place::Free { .. } => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serin_core::{
        WeightBps,
        traffic::{Arm, Assignment},
    };

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_was_put_in_and_never_more_places_than_were_needed(steps in proptest::collection::vec(any::<(bool, u8)>(), 0..200)) {
            let key = |bps| CellKey { weight: WeightBps::new(bps).unwrap(), arm: Arm::Stable, assignment: Assignment::Random };
            let (mut open, mut model, mut most) = (OpenRequests::default(), BTreeMap::new(), 0);
            for (number, (insert, chosen)) in (0_u16..).zip(steps) {
                if insert {
                    model.insert(number, open.insert(u64::from(number % 2), key(number), Instant::now()));
                } else if let Some(number) = model.keys().nth(usize::from(chosen) % model.len().max(1)).copied() {
                    open.remove(model.remove(&number).unwrap());
                }
                most = most.max(model.len());
                let mut held: Vec<u16> = (0..2).flat_map(|era| open.iter(era).map(|(key, _)| key.weight.canary_bps())).collect();
                prop_assert!(open.iter(1).all(|(key, _)| key.weight.canary_bps() % 2 == 1));
                held.sort_unstable();
                prop_assert_eq!(held, model.keys().copied().collect::<Vec<_>>());
                prop_assert_eq!(open.places.len(), most);
                prop_assert_eq!(open.is_empty(), model.is_empty());
            }
        }
    }
}
