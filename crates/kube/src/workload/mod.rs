//! What runs in a cluster: a pair of Deployments, or one that is released in place.
//!
//! `template` says which version a Deployment is, `arm` how one is, `pods` what is wrong with a pod. `pair` changes Deployments; `managed` is what
//! it does with one that people go on editing, `adoption` what is left on that one and made of it, as data.

mod adoption;
mod arm;
mod managed;
mod pair;
mod pods;
mod template;

pub use adoption::{Made, Note};
pub use arm::{ArmSeen, deployments};
pub use managed::{Reverted, Standing};
pub use pair::{Memory, Names, Pair, PairError};
pub use pods::{PodTrouble, trouble};
pub use template::{Labels, promoted, version_of};
