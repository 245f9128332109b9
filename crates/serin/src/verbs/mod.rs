//! One file per verb: its options, and how it is wired to the rest.

pub(crate) mod act;
pub(crate) mod analyze;
pub(crate) mod apply;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod controller;
pub(crate) mod eject;
pub(crate) mod explain;
pub(crate) mod get;
pub(crate) mod history;
pub(crate) mod init;
pub(crate) mod kube;
pub(crate) mod load;
pub(crate) mod order;
pub(crate) mod plan;
pub(crate) mod proxy;
mod remote;
pub(crate) mod replay;
pub(crate) mod run;
pub(crate) mod sample_app;
pub(crate) mod schema;
pub(crate) mod serve;
pub(crate) mod status;
pub(crate) mod store;
pub(crate) mod token;
pub(crate) mod watch;

use std::path::PathBuf;

/// Where the state of a project's releases is.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct StateArg {
    /// Folder with journal, sockets and logs.
    #[arg(long, value_name = "DIR", env = "SERIN_STATE", default_value = ".serin")]
    pub(crate) state: PathBuf,
}

impl StateArg {
    /// The folder unless something else is said.
    pub(crate) fn standard() -> PathBuf {
        PathBuf::from(".serin")
    }
}
