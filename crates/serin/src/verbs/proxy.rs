//! `serin proxy`: the data plane as a process of its own. Started by the other verbs, not by people.

use std::{
    net::TcpListener,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use serin_proxy::{ProxyConfig, protocol::Speaks, table::RouteTable};

use crate::exit;

/// Serves the route tables of a control process. The listening socket comes as standard input.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to take route tables: a unix socket to create.
    #[arg(long, value_name = "SOCKET")]
    control: PathBuf,
    /// The route table to begin with, if the file is there.
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    /// Threads that serve; one for each processor if not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: Option<u16>,
    /// Accept nothing before control says so: the socket is served by another proxy, which this one shall replace.
    #[arg(long)]
    standby: bool,
    /// Pretend to speak this version of the protocol only: for tests of what happens between versions.
    #[arg(long, value_name = "VERSION", hide = true)]
    speak: Option<u32>,
}

/// Serves until told to stop.
///
/// # Errors
/// If standard input is no listening socket, or the control socket cannot be created.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let input = std::io::stdin().as_fd().try_clone_to_owned().context("cannot take the listening socket from standard input")?;
    let listener = TcpListener::from(input);
    // The socket must close when the proxy stops accepting: standard input would keep it open.
    let nothing = std::fs::File::open("/dev/null").context("cannot open /dev/null")?;
    rustix::stdio::dup2_stdin(&nothing).context("cannot let go of standard input")?;
    listener.local_addr().context("standard input is not a listening socket; `serin run` starts the proxy by itself")?;
    let workers = args.workers.map_or_else(|| std::thread::available_parallelism().map_or(2, usize::from), usize::from);
    let table = args.table.as_deref().and_then(kept_table);
    let speaks = args.speak.map_or(Speaks::OURS, |version| Speaks::said(version, None));
    let config = ProxyConfig { listener, control_socket: args.control, table, workers, standby: args.standby, speaks };
    serin_proxy::run(config).context("the proxy failed")?;
    Ok(exit::code(exit::SUCCEEDED))
}

/// A table that cannot be read is worse than none: control sends one in a moment.
fn kept_table(path: &Path) -> Option<RouteTable> {
    let table: RouteTable = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    match table.validate() {
        Ok(()) => Some(table),
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "the kept route table is not valid; waiting for control");
            None
        }
    }
}
