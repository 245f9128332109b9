//! What control and proxy say to each other: JSON, one message per line, over a unix socket.
//!
//! Control says [`ToProxy::Hello`] first and gets [`FromProxy::Hello`]; then [`FromProxy::Stats`] comes every 50 ms on
//! its own. All counters are cumulative since the proxy process started, so that a lost message does no harm; a new
//! `instance` means that they started anew. What is in flight and the ages of open requests are states of that moment.

use serde::{Deserialize, Serialize};
use serin_core::{
    WeightBps,
    traffic::{Arm, OpenCell, ReplicaCell, TrafficCell},
};

use crate::table::RouteTable;

/// Version of this protocol. Both sides refuse another one.
pub const PROTOCOL: u32 = 2;

/// From control to the proxy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToProxy {
    /// The first message of every connection.
    Hello {
        /// [`PROTOCOL`] of the sender.
        protocol: u32,
        /// Version of the sender's program, for people.
        version: String,
    },
    /// Serve this table. Answered by [`FromProxy::Applied`] or [`FromProxy::Rejected`].
    Table(Box<RouteTable>),
    /// Which table is served? Answered by [`FromProxy::Table`].
    Get,
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
        /// [`PROTOCOL`] of the proxy.
        protocol: u32,
        /// Version of the proxy's program, for people.
        version: String,
        /// Random per process: a new one means that all counters started anew.
        instance: String,
        /// Process id of the proxy.
        pid: u32,
        /// Epoch and version of the table it serves.
        table: Option<(u64, u64)>,
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
    /// least one. Taken together with `cells`: no request is in both or in neither.
    pub open: Vec<OpenCell>,
    /// The first 64 of stable's endpoints, those with at least one compared request. A request belongs to the endpoint that it
    /// ended at, to none if no connection stood. An endpoint that leaves the table takes its counts along.
    pub replicas: Vec<ReplicaCell>,
    /// Requests in flight by `Arm::index`, by the arm that serves them now: a rescued request counts for stable.
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
