//! How many clusters run at once on the machine: one per core, at least two. Each needs half a gigabyte and a good part of a core to start.
//!
//! A slot is a listening socket: it ends with its process whatever happens, and needs no file.

use std::{
    net::{Ipv4Addr, TcpListener},
    num::NonZero,
    thread,
    time::Duration,
};

use crate::wait;

const PORT: u16 = 65_001;
/// Other tests hold slots for as long as they take.
const PATIENCE: Duration = Duration::from_mins(20);
const LOOK: Duration = Duration::from_millis(50);

/// One slot, until dropped.
#[derive(Debug)]
pub(super) struct Slot {
    _reservation: TcpListener,
}

impl Slot {
    /// Waits for one.
    ///
    /// # Panics
    /// If none becomes free in time.
    pub(super) fn wait() -> Self {
        let cores = thread::available_parallelism().map_or(2, NonZero::get);
        let count = u8::try_from(cores.clamp(2, 100)).unwrap();
        wait::paced(LOOK, PATIENCE, || (1..=count).find_map(Self::take)).unwrap_or_else(|| panic!("{count} clusters run for {PATIENCE:?}"))
    }

    fn take(number: u8) -> Option<Self> {
        Some(Self { _reservation: TcpListener::bind((Ipv4Addr::new(127, 99, 0, number), PORT)).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_held_by_one() {
        // Beyond those that clusters take.
        let slot = Slot::take(201).unwrap();
        assert!(Slot::take(201).is_none());
        drop(slot);
        assert!(Slot::take(201).is_some());
    }
}
