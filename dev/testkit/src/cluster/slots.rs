//! How many clusters run at once on the machine: two per core, as far as memory allows, and at least two. A cluster needs a core to start, and
//! then mostly waits.
//!
//! A slot is a listening socket: it ends with its process whatever happens, and needs no file.

use std::{
    fs,
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
const FOR_EACH_CORE: usize = 2;
/// Memory that is reckoned for one: half as much again as the largest that was measured (662 MiB, with a Prometheus and some pods).
const NEEDS_MIB: u64 = 1_024;
/// As many as there are addresses for.
const MOST: u64 = 100;

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
        let count = most(cores, memory_mib());
        wait::paced(LOOK, PATIENCE, || (1..=count).find_map(Self::take)).unwrap_or_else(|| panic!("{count} clusters run for {PATIENCE:?}"))
    }

    fn take(number: u8) -> Option<Self> {
        Some(Self { _reservation: TcpListener::bind((Ipv4Addr::new(127, 99, 0, number), PORT)).ok()? })
    }
}

/// Half of the memory is for whatever else there is.
fn most(cores: usize, memory_mib: u64) -> u8 {
    let by_cores = u64::try_from(cores.saturating_mul(FOR_EACH_CORE)).unwrap_or(MOST);
    let by_memory = memory_mib / 2 / NEEDS_MIB;
    u8::try_from(by_cores.min(by_memory).clamp(2, MOST)).unwrap()
}

/// What the machine has, or what our group of processes may use of it.
fn memory_mib() -> u64 {
    let whole = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = whole.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let allowed = fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse::<u64>().ok());
    let machine = kib.map_or(0, |kib| kib / 1024);
    allowed.map_or(machine, |bytes| machine.min(bytes / 1024 / 1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_for_each_core_if_there_is_memory_for_them() {
        assert_eq!((most(2, 64 * 1024), most(8, 64 * 1024)), (4, 16));
        assert_eq!(most(2, 2 * 3 * NEEDS_MIB), 3, "half of the memory is enough for three");
        assert_eq!((most(1, 0), most(1_000, u64::MAX)), (2, 100));
        assert!(memory_mib() > 0);
    }

    #[test]
    fn a_slot_is_held_by_one() {
        // Beyond those that clusters take.
        let slot = Slot::take(201).unwrap();
        assert!(Slot::take(201).is_none());
        drop(slot);
        assert!(Slot::take(201).is_some());
    }
}
