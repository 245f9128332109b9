//! What is ours in the API: the resource, and the names on objects of others.

mod call;
pub(crate) mod calls;
mod memory;
mod merge;
mod resource;
mod status;

pub use call::{ApiError, within};
pub use memory::ReleaseMemory;
pub(crate) use merge::list;
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
/// On a Deployment that is released in place: whose it is, and how it was, as JSON.
pub const ADOPTED: &str = "serin.dev/adopted";
/// On such a Deployment: an edit of its template that came while the judged one was rolled out, as JSON.
pub const NEXT: &str = "serin.dev/next-template";
/// On a template: the hash of what its pods read from `ConfigMaps`. On stable's Deployment of a pair: the same before its first release.
pub const CONFIG: &str = "serin.dev/config";
/// On a `ConfigMap` or a template: `disabled` says that a new content is no new version.
pub const TRACK: &str = "serin.dev/track";
/// On an autoscaler: whose release holds its minimum, and what that was, as JSON.
pub const HELD: &str = "serin.dev/held-minimum";
/// On an object that Serin made: by which release and of what, as JSON.
pub const MADE: &str = "serin.dev/made-for";
/// On a release: what a person wants, as JSON.
pub const COMMAND: &str = "serin.dev/command";
/// Keeps a release object until its canary has no traffic.
pub const FINALIZER: &str = "serin.dev/traffic";
