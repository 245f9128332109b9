//! Routers of a cluster.
//!
//! `lens` reads and changes the rules of an HTTPRoute as data; `decision` is the note that every write leaves on the route;
//! `http_route` is the adapter behind the engine's [`Router`](serin_engine::router::Router).

mod decision;
mod http_route;
mod lens;

pub use decision::{Decision, Owner, Standing};
pub use http_route::{Fence, GatewayApiRoute, api_resource};
pub(crate) use lens::shifted_from;
pub use lens::{LensError, Seen, Services, check, seen, shifted};
