//! Listeners and connections: from the kernel to a request with a known peer.
//!
//! Everything that a client can hold is bounded: connections (over TCP and over the socket apart, so that neither shuts out the other, and
//! per address), the TLS handshake, the head, the body, the answer that nobody reads.

mod connection;
mod listen;
mod patient;
mod places;
mod tls;

pub(crate) use connection::accept;
pub(crate) use listen::Listeners;
pub(crate) use patient::Patient;
pub(crate) use places::Places;
pub(crate) use tls::Certificate;
