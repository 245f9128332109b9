//! How long it takes from the decision to take a release back until it is proven that its canary has no traffic.

use std::collections::BTreeMap;

use serin_core::{
    Timestamp,
    release::{Entry, Event},
};

/// Decisions that are waited for.
const MOST_DECIDED: usize = 4_096;

/// Releases on their way back, by a name.
#[derive(Debug, Default)]
pub struct WaysBack {
    /// When it was decided.
    decided: BTreeMap<String, Timestamp>,
}

impl WaysBack {
    /// Takes in an entry of a journal. For the one that proves that traffic is back: the seconds since that was decided.
    pub fn took_s(&mut self, name: &str, entry: &Entry) -> Option<f64> {
        match entry.event {
            Event::RollbackDecided { .. } => {
                // All may go back at the same time; those that were deleted meanwhile never finish.
                if self.decided.len() >= MOST_DECIDED {
                    self.decided.clear();
                }
                self.decided.insert(name.to_owned(), entry.at);
                None
            }
            Event::TrafficReturned => {
                let ms = self.decided.remove(name).map(|decided| entry.at.ms_since(decided))?;
                Some(f64::from(u32::try_from(ms).unwrap_or(u32::MAX)) / 1_000.0)
            }
            // A release that is over leaves nothing to wait for.
            Event::Began { .. } | Event::RolledBack | Event::Succeeded => {
                self.decided.remove(name);
                None
            }
            _ => None,
        }
    }
}
