//! What runs in a cluster: a pair of workloads, or one Deployment that is released in place.
//!
//! `template` says which version a template is, `versions` which ones there are, `arm` how one is, `pods` what is wrong with a pod. `pair` changes workloads (`changes`: waits for them, `revisions`: what
//! they were); `managed` is what
//! it does with one that people go on editing, `reversal` how that is given back, `adoption` what is left on that one and made of it, as data.
//! `autoscaler` knows who else scales, `config` what pods read from `ConfigMaps`, `kept` how a Deployment is remembered; `once` keeps what is costly
//! to find out.

mod adoption;
mod arm;
mod autoscaler;
mod changes;
mod config;
mod kept;
mod managed;
mod memory;
mod names;
mod once;
mod pair;
mod pods;
mod reversal;
mod revisions;
mod template;
mod versions;

pub use adoption::{Made, Note};
pub use arm::{ArmSeen, deployments, workloads};
pub use autoscaler::Autoscaler;
pub use changes::Changes;
pub use config::ConfigDigest;
pub(crate) use config::references;
pub use kept::Kept;
pub use managed::Standing;
pub use memory::Memory;
pub use names::{Arm, Names};
pub use pair::{Pair, PairError};
pub use pods::{PodTrouble, trouble};
pub use reversal::Reverted;
pub use template::{promoted, version_of};
