//! Addresses that nobody uses.

use std::{
    net::{SocketAddr, TcpListener},
    sync::atomic::{AtomicU16, Ordering},
};

/// Below the range from which the system takes ports for outgoing connections, and below the ports that Serin gives to replicas
/// (20,000 on), so that nothing takes one meanwhile.
const FIRST: u16 = 12_000;
const COUNT: u16 = 8_000;

/// A free address on loopback. Not given twice by one process, and unlikely by two.
///
/// # Panics
/// If none is free.
#[must_use]
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = u16::try_from(std::process::id().wrapping_mul(97) % u32::from(COUNT)).unwrap();
    (0..COUNT)
        .map(|_| FIRST + begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT)
        .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
        .find(|address| TcpListener::bind(address).is_ok())
        .unwrap()
}
