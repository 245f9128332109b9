//! What runs in a cluster: a pair of Deployments.
//!
//! `template` says which version a Deployment is, `pods` what is wrong with one, `pair` changes Deployments.

mod memory;
mod pair;
mod pods;
mod template;

pub use memory::Memory;
pub use pair::{ArmSeen, Pair, PairError, deployments};
pub use pods::{PodTrouble, trouble};
pub use template::{Labels, promoted, version_of};
