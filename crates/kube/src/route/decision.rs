//! The note on a route: which decision of which release its weights are.
//!
//! It is written in the same patch as the weights, and is what makes writes safe without anybody's promise to be the only one:
//!
//! - *Order.* A move that is older than the one on the route, by run, epoch and order, does nothing. A write that was under way when its
//!   author lost the leadership finds the new leader's note, or a conflict and then that note.
//! - *Latch.* `retreated` says that traffic was taken back for good or for a while. A leader that finds it and whose journal does not know why
//!   takes it for a rollback.
//! - *Hand-over.* `handed_over` says that stable's pods are the judged version now: everything on stable is everything on what was judged.
//! - *Ownership.* Until `done`, the weights belong to the release that is named here.
//! - *Trace.* `added` names what this release has put into the object for the canary. It is taken out with the write that says `done`; what was
//!   there before stays. Where somebody took the note away meanwhile, nobody knows any more, and it stays.

use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Identity of the release object.
    pub release: String,
    /// Its namespace and name, for people.
    pub name: String,
    /// Which run of it.
    pub run: u64,
    /// Which ownership of the run.
    pub epoch: u64,
    /// Which effect of the run.
    pub order: u64,
    /// The canary's share in basis points.
    pub weight: u16,
    /// Whether the rules for declared matches are there.
    #[serde(default)]
    pub matches: bool,
    /// Traffic was taken back.
    #[serde(default)]
    pub retreated: bool,
    /// Stable's pods are the version that was judged.
    #[serde(default)]
    pub handed_over: bool,
    /// The run is over: the weights are nobody's.
    #[serde(default)]
    pub done: bool,
    /// What was put into the object for the canary, as its lens calls it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<String>,
}

/// Who writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Identity of the release object.
    pub release: String,
    /// Its namespace and name.
    pub name: String,
    /// Which run of it.
    pub run: u64,
    /// Which ownership of the run.
    pub epoch: u64,
}

/// What a note on the route means for a move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The move may be made.
    Free,
    /// A newer one was made already.
    Obsolete,
    /// The weights are another release's, whose name this is.
    Foreign(String),
}

impl Decision {
    /// The note in an annotation; `None` if there is none that can be read.
    #[must_use]
    pub fn read(text: Option<&str>) -> Option<Self> {
        serde_json::from_str(text?).ok()
    }

    /// As an annotation.
    #[must_use]
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Owner {
    /// What the note on the route means for a move of ours with this order.
    #[must_use]
    pub fn standing(&self, found: Option<&Decision>, order: u64) -> Standing {
        match found {
            None => Standing::Free,
            Some(found) if found.release != self.release => {
                if found.done {
                    Standing::Free
                } else {
                    Standing::Foreign(found.name.clone())
                }
            }
            Some(found) if (found.run, found.epoch, found.order) > (self.run, self.epoch, order) => Standing::Obsolete,
            Some(_) => Standing::Free,
        }
    }

    /// Whether the note is of this very run.
    #[must_use]
    pub fn wrote(&self, found: &Decision) -> bool {
        found.release == self.release && found.run == self.run
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(release: &str, run: u64, epoch: u64, order: u64, done: bool) -> Decision {
        let (release, name) = (release.to_owned(), format!("shop/{release}"));
        let (weight, added) = (500, Vec::new());
        Decision { release, name, run, epoch, order, weight, matches: false, retreated: false, handed_over: false, done, added }
    }

    #[test]
    fn later_wins_by_run_then_epoch_then_order() {
        let us = Owner { release: "a".to_owned(), name: "shop/a".to_owned(), run: 2, epoch: 5 };
        for (found, expected) in [
            (None, Standing::Free),
            (Some(note("a", 2, 5, 9, false)), Standing::Free),
            (Some(note("a", 2, 5, 10, false)), Standing::Free),
            (Some(note("a", 2, 5, 11, false)), Standing::Obsolete),
            (Some(note("a", 2, 6, 1, false)), Standing::Obsolete),
            (Some(note("a", 1, 9, 99, true)), Standing::Free),
            (Some(note("a", 3, 1, 1, false)), Standing::Obsolete),
            (Some(note("b", 1, 1, 1, false)), Standing::Foreign("shop/b".to_owned())),
            (Some(note("b", 9, 9, 9, true)), Standing::Free),
        ] {
            assert_eq!(us.standing(found.as_ref(), 10), expected, "{found:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_no_note() {
        let one = note("a", 1, 2, 3, false);
        assert_eq!(Decision::read(Some(&one.text())), Some(one));
        assert_eq!(Decision::read(Some("{}")), None);
        assert_eq!(Decision::read(None), None);
    }
}
