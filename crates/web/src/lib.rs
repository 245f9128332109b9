//! The HTTP API of the daemon.
//!
//! It answers on a unix socket, where the kernel says who asks, and on TCP, where a token does. [`routes`] is the one table of what there
//! is; `pipeline` is what every request goes through. What is asked for is done by [`serin_engine::serve::Server`], which also writes the
//! journal; nothing is decided here.
//!
//! **A flood must not delay a release.** The API therefore has one thread of its own, with a runtime of its own: however many requests come,
//! they compete for that thread with each other, and the tasks of releases only see the few orders that got through (each identity may
//! send so many per second, and the queues to services are bounded). Work that reads files or parses documents goes to at most four helper
//! threads, save for the name of a local user, which is looked up once per connection. Orders are carried out in the engine's runtime,
//! because whatever they start must outlive the API.
//!
//! There is no web framework: every answer, also those to broken requests, must have one shape, and every route must have rights, limits
//! and documentation. A table of routes and hyper are shorter than what would hold a framework to that.

mod answer;
mod api;
pub mod config;
mod error;
mod identity;
mod intake;
mod limit;
mod metrics;
pub mod model;
mod net;
pub mod openapi;
mod ops;
mod pages;
mod pipeline;
mod problem;
mod routes;
mod shared;
pub mod token;
mod tokens;

pub use api::Api;
pub use config::{ApiConfig, Limits, Socket, Tcp, TlsFiles};
pub use error::{ApiError, TlsError};
pub use identity::Role;
pub use ops::explanation;
pub use pages::{Asked, Pages, PagesConfig, PagesError, Teller};
pub use routes::{Access, Route, routes};
pub use token::{NewToken, Token, TokenHash};
pub use tokens::{Reread, TokenSource};
