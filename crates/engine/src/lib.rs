//! The async shell around the pure core: it carries out what a release decides.
//!
//! Ports are traits, adapters implement them: [`router`] splits traffic, [`workload`] runs the versions, [`source`] measures what Serin
//! does not see, [`store`] remembers.
//! [`run`] wires them for one release in the foreground.

pub mod measure;
pub mod preflight;
pub mod process;
pub mod recording;
pub mod router;
pub mod run;
pub mod serve;
pub mod source;
pub mod store;
pub mod systemd;
pub mod workload;

/// A boxed future: what ports return, so that adapters can be chosen at run time.
pub type Pending<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;
