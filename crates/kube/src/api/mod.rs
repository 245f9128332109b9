//! What is ours in the API: the resource, and the names on objects of others.

mod call;
pub(crate) mod calls;
mod memory;
mod merge;
mod resource;
mod status;

pub use call::{ApiError, within};
pub use memory::ReleaseMemory;
pub use merge::{merge_patch, merged};
pub use resource::Release;
pub use status::{CommandStatus, Condition, CriterionStatus, Elsewhere, Engine, PastRun, ReleaseStatus, TimelineLine};

/// API group of our resources.
pub const GROUP: &str = "serin.dev";
/// Version of the resource.
pub const VERSION: &str = "v1alpha1";
/// Plural name of the resource.
pub const PLURAL: &str = "releases";
/// Plural name of what holds the memory of a judge that has no room in a status.
pub const MEMORIES: &str = "releasememories";
/// Whose writes are whose, in `managedFields`.
pub const FIELD_MANAGER: &str = "serin-controller";
/// On a route: which decision of which release its weights are, as JSON.
pub const DECISION: &str = "serin.dev/decision";
/// On a release: what a person wants, as JSON.
pub const COMMAND: &str = "serin.dev/command";
/// Keeps a release object until its canary has no traffic.
pub const FINALIZER: &str = "serin.dev/traffic";
