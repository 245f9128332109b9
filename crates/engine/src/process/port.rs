//! Free loopback ports.
//!
//! A replica keeps its port over restarts, so the port must stay free while the process is down. Ports that the system hands
//! out to outgoing connections do not: any connection of the machine may take one, and a probe to an unused one can even
//! connect to itself. So ports come from outside of that range. No port is handed out twice by one process until all were.

use std::{
    collections::{BTreeSet, hash_map::RandomState},
    hash::BuildHasher,
    net::{Ipv4Addr, TcpListener},
    ops::RangeInclusive,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use super::ProcessError;

/// Ports looked at before giving up.
const MAX_TRIES: u32 = 2_000;

/// The ports that proxies of this process listen at, or will.
static RESERVED: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// Keeps a port for a proxy: no replica gets it while the proxy does not listen yet, or not at the moment.
pub(crate) fn reserve(port: u16) {
    RESERVED.lock().unwrap_or_else(PoisonError::into_inner).insert(port);
}

/// A port of 127.0.0.1 that nothing listens on, and none of `taken`.
pub(super) fn free_port(taken: &[u16]) -> Result<u16, ProcessError> {
    static RANGE: OnceLock<RangeInclusive<u16>> = OnceLock::new();
    static CURSOR: OnceLock<AtomicU32> = OnceLock::new();
    let range = RANGE.get_or_init(|| range_beside(ephemeral_range()));
    let (low, high) = (*range.start(), *range.end());
    let count = u32::from(high - low) + 1;
    // A start of its own for each process: two that look at the same time would otherwise find the same ports.
    let cursor = CURSOR.get_or_init(|| AtomicU32::new(u32::try_from(RandomState::new().hash_one(0u8) % u64::from(count)).unwrap_or(0)));
    for _ in 0..MAX_TRIES {
        let offset = cursor.fetch_add(1, Ordering::Relaxed) % count;
        let port = low + u16::try_from(offset).unwrap_or(0);
        if !taken.contains(&port) && may_be_given(port) {
            return Ok(port);
        }
    }
    Err(ProcessError::NoFreePort { tried: MAX_TRIES, low, high })
}

fn may_be_given(port: u16) -> bool {
    !RESERVED.lock().unwrap_or_else(PoisonError::into_inner).contains(&port) && is_free(port)
}

/// Whether a server could listen on the port now.
pub(super) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// A range of at least 1,000 ports beside the ephemeral ones, if there is one.
fn range_beside(ephemeral: RangeInclusive<u16>) -> RangeInclusive<u16> {
    const LOWEST: u16 = 20_000;
    const ENOUGH: u16 = 1_000;
    let (low, high) = (*ephemeral.start(), *ephemeral.end());
    if low >= LOWEST + ENOUGH {
        LOWEST..=low - 1
    } else if high <= u16::MAX - ENOUGH {
        high.max(LOWEST) + 1..=u16::MAX
    } else {
        LOWEST..=u16::MAX
    }
}

/// The ports that the system hands out; Linux' default where it cannot be read.
fn ephemeral_range() -> RangeInclusive<u16> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(low)), Some(Ok(high))) => low..=high,
        _ => 32_768..=60_999,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_of_proxies_are_not_given_away() {
        let port = free_port(&[]).unwrap();
        assert!(may_be_given(port));
        reserve(port);
        assert!(!may_be_given(port));
    }

    #[test]
    fn ports_are_distinct_free_and_not_those_of_outgoing_connections() {
        let ephemeral = ephemeral_range();
        let mut ports: Vec<u16> = (0..64).map(|_| free_port(&[]).unwrap()).collect();
        assert!(ports.iter().all(|port| !ephemeral.contains(port)), "{ports:?}");
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 64);
    }

    #[test]
    fn a_port_in_use_is_not_free() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(!is_free(port));
    }

    #[test]
    fn the_range_avoids_the_ephemeral_one_where_it_can() {
        for (ephemeral, expected) in [
            (32_768..=60_999, 20_000..=32_767),
            (1_024..=60_000, 60_001..=65_535),
            (1_024..=10_000, 20_001..=65_535),
            (1_024..=65_535, 20_000..=65_535),
        ] {
            assert_eq!(range_beside(ephemeral), expected);
        }
    }
}
