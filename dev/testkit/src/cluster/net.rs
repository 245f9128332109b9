//! Addresses of pods.
//!
//! The API server refuses pod addresses in 127/8, and nothing else is local on every machine. So a pod has two addresses that differ in
//! their first number only: the API says `10.N.x.y`, and its process listens at `127.N.x.y`, all of which Linux accepts without any setup:
//! no root, no namespace, no capability, also in a container that forbids all three. Everything of the testbed that sends requests to
//! pods (the data plane, probes, Prometheus) translates; what asks the API sees an ordinary cluster. A program that dials `10.N.x.y`
//! itself reaches nothing, unless these addresses are local (as in `unshare -Urn` after `ip addr add 10.0.0.0/8 dev lo`): this is
//! noticed, and then pods listen at the address that the API shows.
//!
//! N belongs to one cluster of the machine: a listening socket reserves it, which ends with its process whatever happens.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::atomic::{AtomicU16, Ordering},
};

const FIRST: u8 = 100;
const COUNT: u8 = 120;

/// Where the socket listens that reserves a number.
const RESERVED_PORT: u16 = 65_000;

/// The first pod's number; those below are for the testbed.
const FIRST_POD: u16 = 10;

/// The addresses of one cluster.
#[derive(Debug)]
pub struct PodNetwork {
    number: u8,
    is_direct: bool,
    next: AtomicU16,
    _reservation: TcpListener,
}

impl PodNetwork {
    /// Takes a number that nobody has.
    ///
    /// # Panics
    /// If all are taken.
    #[must_use]
    pub fn reserve() -> Self {
        let begin = u8::try_from(std::process::id() % u32::from(COUNT)).unwrap();
        let numbers = (0..COUNT).map(|offset| FIRST + (begin + offset) % COUNT);
        let mut free =
            numbers.filter_map(|number| Some((number, TcpListener::bind((Ipv4Addr::new(127, number, 255, 254), RESERVED_PORT)).ok()?)));
        let (number, reservation) = free.next().unwrap();
        // Two unlike addresses: a machine may have one of them.
        let is_local = |address| TcpListener::bind((address, 0)).is_ok();
        let is_direct = is_local(Ipv4Addr::new(10, number, 77, 7)) && is_local(Ipv4Addr::new(10, number, 177, 17));
        Self { number, is_direct, next: AtomicU16::new(FIRST_POD), _reservation: reservation }
    }

    /// A new pod's address, as the API shows it.
    pub fn next_pod(&self) -> Ipv4Addr {
        let pod = self.next.fetch_add(1, Ordering::Relaxed) % (u16::MAX - FIRST_POD - 256);
        let [high, low] = (FIRST_POD + pod).to_be_bytes();
        Ipv4Addr::new(10, self.number, high, low)
    }

    /// Where a pod's process listens that has this address in the API. Other addresses stay as they are.
    #[must_use]
    pub fn dial(&self, pod: Ipv4Addr) -> Ipv4Addr {
        match pod.octets() {
            [10, number, high, low] if number == self.number && !self.is_direct => Ipv4Addr::new(127, number, high, low),
            _ => pod,
        }
    }

    /// The same for text with a port.
    #[must_use]
    pub fn dial_text(&self, pod: &str, port: u16) -> Option<SocketAddr> {
        Some((self.dial(pod.parse().ok()?), port).into())
    }

    /// The address that stands for the node and the API server in the API.
    #[must_use]
    pub fn node(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.number, 0, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_listens_where_its_address_is_dialled() {
        let network = PodNetwork::reserve();
        let (one, two) = (network.next_pod(), network.next_pod());
        assert_ne!(one, two);
        for pod in [one, two] {
            assert!(!pod.is_loopback());
            let listener = TcpListener::bind((network.dial(pod), 0)).unwrap();
            std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        }
        assert_eq!(network.dial(Ipv4Addr::new(192, 0, 2, 1)), Ipv4Addr::new(192, 0, 2, 1));
    }

    #[test]
    fn two_clusters_have_no_address_in_common() {
        let (one, two) = (PodNetwork::reserve(), PodNetwork::reserve());
        assert_ne!(one.number, two.number);
    }
}
