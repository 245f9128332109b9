//! What control and proxy say to each other: JSON, one message per line, over a unix socket.
//!
//! Control says [`ToProxy::Hello`] first and gets [`FromProxy::Hello`]; then [`FromProxy::Stats`] comes on its own: at once
//! when something changed after a quiet time, then every 50 ms while anything changes (the age of an open request does), and
//! otherwise once a second, to show that the proxy lives. All counters are cumulative since the proxy process started, so that a
//! lost message does no harm; a new `instance` means that they started anew. What is in flight and the ages of open requests are
//! states of that moment.
//!
//! **Versions.** Either side says the newest and the oldest version that it speaks, and both use the newest that they have in
//! common ([`Speaks::common`]). Without one, a connection stands all the same, but it can do no more than take the place of that
//! proxy: [`ToProxy::Listener`], [`ToProxy::Shutdown`] and both hellos keep their form in every version from 3 on.

use serde::{Deserialize, Serialize};
use serin_core::{
    WeightBps,
    traffic::{Arm, OpenCell, ReplicaCell, TrafficCell},
};

use crate::table::RouteTable;

/// The newest version of this protocol that is spoken here.
pub const PROTOCOL: u32 = 3;
/// The oldest version of this protocol that is spoken here.
pub const OLDEST_PROTOCOL: u32 = 3;

/// A range of versions of this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speaks {
    /// The newest version.
    pub newest: u32,
    /// The oldest version, at most the newest.
    pub oldest: u32,
}

impl Speaks {
    /// What this program speaks.
    pub const OURS: Self = Self { newest: PROTOCOL, oldest: OLDEST_PROTOCOL };

    /// What a hello says. Programs that name no oldest version speak one only.
    #[must_use]
    pub fn said(newest: u32, oldest: Option<u32>) -> Self {
        Self { newest, oldest: oldest.unwrap_or(newest).min(newest) }
    }

    /// The newest version that both speak.
    #[must_use]
    pub fn common(self, other: Self) -> Option<u32> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }
}

impl std::fmt::Display for Speaks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.oldest == self.newest { write!(f, "{}", self.newest) } else { write!(f, "{} to {}", self.oldest, self.newest) }
    }
}

/// From control to the proxy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToProxy {
    /// The first message of every connection.
    Hello {
        /// The newest version that the sender speaks.
        protocol: u32,
        /// The oldest one, if it is another.
        #[serde(default)]
        oldest: Option<u32>,
        /// Version of the sender's program, for people.
        version: String,
    },
    /// Serve this table. Answered by [`FromProxy::Applied`] or [`FromProxy::Rejected`].
    Table(Box<RouteTable>),
    /// Which table is served? Answered by [`FromProxy::Table`].
    Get,
    /// Hand out the listening socket, so that whoever holds it can start a successor that no client has to wait for, nor is refused.
    /// Answered by [`FromProxy::Listener`], or by an error once the proxy is stopping.
    Listener,
    /// A proxy that stood by accepts from now on. Answered by [`FromProxy::Serving`], by any proxy.
    Serve,
    /// Stop accepting, finish what is in flight, exit.
    Shutdown {
        /// Time for requests in flight, in milliseconds; what is left then is cut off.
        drain_ms: u64,
    },
}

/// From the proxy to control.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromProxy {
    /// The answer to the greeting.
    Hello {
        /// The newest version that the proxy speaks.
        protocol: u32,
        /// The oldest one, if it is another.
        #[serde(default)]
        oldest: Option<u32>,
        /// Version of the proxy's program, for people.
        version: String,
        /// Random per process: a new one means that all counters started anew.
        instance: String,
        /// Process id of the proxy.
        pid: u32,
        /// Epoch and version of the table it serves.
        table: Option<(u64, u64)>,
        /// Whether it stands by: it accepts nothing until it is told to serve, and ends with this connection until then.
        #[serde(default)]
        standby: bool,
    },
    /// Every request whose head arrives after this message was sent follows this table.
    Applied {
        /// Epoch of the table.
        epoch: u64,
        /// Version of the table.
        version: u64,
        /// The canary's share now in force.
        weight: WeightBps,
    },
    /// The table was refused; the one before is still served.
    Rejected {
        /// Epoch of the refused table.
        epoch: u64,
        /// Version of the refused table.
        version: u64,
        /// Why, for people.
        reason: String,
    },
    /// The table that is served.
    Table(Option<Box<RouteTable>>),
    /// The listening socket comes with this message's first byte, as a descriptor.
    Listener,
    /// It accepts connections.
    Serving,
    /// All counters.
    Stats(Box<Stats>),
    /// A message that could not be understood, or why the connection ends.
    Error {
        /// Why, for people.
        reason: String,
    },
}

/// All counters of a proxy process, cumulative since it started, and what is going on in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Random per process.
    pub instance: String,
    /// Epoch of the table that is served, 0 if none.
    pub epoch: u64,
    /// Version of the table that is served, 0 if none.
    pub version: u64,
    /// The canary's share in force, 0 if there is no table.
    pub weight: WeightBps,
    /// Every cell with at least one finished request, for the 64 weights that were in force last. Cells of older weights
    /// are dropped; when such a weight returns, its cells begin at 0.
    pub cells: Vec<TrafficCell>,
    /// Ages of the requests in flight, save for rescues and for sticky requests that are not their client's first: cells with at
    /// least one. Taken together with `cells`: no request is in both or in neither, save for those that were open when a canary left
    /// the table: they are in none of them from then on, because they have nothing to do with the next canary.
    pub open: Vec<OpenCell>,
    /// The first 64 of stable's endpoints, those with at least one compared request. A request belongs to the endpoint that it
    /// ended at, to none if no connection stood. An endpoint that leaves the table takes its counts along.
    pub replicas: Vec<ReplicaCell>,
    /// Requests in flight by `Arm::index`, by the arm that serves them now: a rescued request counts for stable. Those from before a
    /// canary left the table are told by `endpoints` alone.
    pub in_flight: [u64; 2],
    /// Every endpoint of the table that is served.
    pub endpoints: Vec<EndpointStats>,
    /// Requests that failed on the canary and that stable then answered.
    pub rescued: u64,
    /// Answers 502, 503 and 504 that the proxy itself made and a client saw.
    pub own_errors: u64,
    /// Requests for what is not built yet (upgrades, `CONNECT`, HTTP/2, gRPC). They are in no cell.
    pub unsupported: u64,
}

/// State of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointStats {
    /// The arm it serves.
    pub arm: Arm,
    /// Its id in the table.
    pub id: String,
    /// Whether new requests go to it.
    pub healthy: bool,
    /// Requests it is working on.
    pub in_flight: u64,
    /// The newest failure of a check or a connection; `None` once a check succeeded again.
    pub last_error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_common_version_is_spoken() {
        let speaks = |oldest, newest| Speaks { newest, oldest };
        for (one, other, common) in [
            (speaks(3, 3), speaks(3, 3), Some(3)),
            (speaks(3, 5), speaks(3, 4), Some(4)),
            (speaks(3, 5), speaks(5, 9), Some(5)),
            (speaks(3, 5), speaks(6, 9), None),
            (speaks(3, 3), speaks(2, 2), None),
        ] {
            assert_eq!(one.common(other), common, "{one} and {other}");
            assert_eq!(other.common(one), common, "{other} and {one}");
        }
    }

    #[test]
    fn hellos_of_programs_before_ranges_are_understood() {
        let hello: ToProxy = serde_json::from_str(r#"{"hello":{"protocol":2,"version":"0.0.9"}}"#).unwrap();
        let ToProxy::Hello { protocol, oldest, .. } = hello else { panic!("{hello:?}") };
        assert_eq!(Speaks::said(protocol, oldest), Speaks { newest: 2, oldest: 2 });
        let hello: FromProxy =
            serde_json::from_str(r#"{"hello":{"protocol":2,"version":"0.0.9","instance":"a","pid":7,"table":null}}"#).unwrap();
        assert!(matches!(hello, FromProxy::Hello { protocol: 2, oldest: None, standby: false, .. }), "{hello:?}");
        assert_eq!(Speaks::said(4, Some(9)), Speaks { newest: 4, oldest: 4 }, "nonsense harms nobody");
    }
}
