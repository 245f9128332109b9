//! What people do from outside of the controller, through the API server alone: `kubectl serin`.
//!
//! `session` is the way there and who asks; `view` shows a release as a service of the daemon is shown, so that both have one rendering;
//! `order` gives a command and waits for its answer; `news` is what happens. `look` reads what a release names, and says whether the controller
//! has looked at it. `plan` says what a release would change, and lets the server try it. Nothing here needs other rights than those to the
//! objects themselves.

mod look;
mod news;
mod order;
mod plan;
mod session;
mod view;

pub use look::{Look, look};
pub use news::{Lines, News};
pub use order::{OrderError, Ordered, order};
pub use plan::{Change, ClusterPlan, Field, Kind, Step, Tried, fields, plan};
pub use session::{Access, Session, SessionError};
pub use view::{run_row, service, time};

/// Whose writes they are, in `managedFields`.
const MANAGER: &str = "kubectl-serin";
