//! `serin eject`: how to take Serin out of the way. Only says so, and changes nothing.

use std::{fs, path::Path, process::ExitCode};

use serin_engine::{
    process::leftover,
    store::{Reader, StateFolder, holder},
};
use serin_proxy::table::RouteTable;

use super::StateArg;
use crate::{
    exit,
    output::{self, Output},
    render::eject::{Found, Process, words},
};

/// Says how to take Serin out of the way: what serves now, where clients can be pointed instead, and how to stop what is left.
///
/// Changes nothing, and works while a release runs, after everything has died, and with a damaged store.
///
/// Exit codes: 0 said, 2 the folder holds nothing of Serin.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    state: StateArg,
}

/// Says it.
///
/// # Errors
/// If stdout cannot be written.
pub(crate) fn run(args: &Args, output: Output) -> anyhow::Result<ExitCode> {
    let state = &args.state.state;
    let places = places(state);
    if places.is_empty() {
        output::error(&format!("{} holds nothing of serin; is it the right folder? (--state)", state.display()));
        return Ok(exit::code(exit::USAGE));
    }
    let server = StateFolder::at(state).ok().and_then(|folder| holder(&folder));
    for folder in &places {
        let found = found(folder, server);
        match output {
            Output::Json => output::data(&found.json().to_string())?,
            Output::Text => output::data(&words(&found).join("\n"))?,
        }
    }
    Ok(exit::code(exit::SUCCEEDED))
}

/// The folder itself, or those of a server's services: whichever holds a store or a route table.
fn places(state: &Path) -> Vec<StateFolder> {
    let mut below: Vec<_> = fs::read_dir(state.join("services")).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    below.sort();
    let all = std::iter::once(state.to_owned()).chain(below).filter_map(|path| StateFolder::at(&path).ok());
    all.filter(|folder| folder.database().exists() || folder.route_table().exists()).collect()
}

fn found(folder: &StateFolder, server: Option<u32>) -> Found {
    let mut found = Found {
        folder: folder.path().display().to_string(),
        service: None,
        listen: None,
        control: holder(folder).or(server),
        proxy: listener_of(&folder.proxy_socket()),
        table: None,
        processes: Vec::new(),
        trouble: Vec::new(),
    };
    match table(folder) {
        Ok(table) => found.table = table,
        Err(text) => found.trouble.push(text),
    }
    if let Err(error) = read_store(folder, &mut found) {
        found.trouble.push(error.to_string());
    }
    if let Some(table) = &found.table {
        found.service.get_or_insert_with(|| table.release.clone());
    }
    found
}

fn table(folder: &StateFolder) -> Result<Option<RouteTable>, String> {
    let path = folder.route_table();
    let wrong = |what: String| format!("{}: {what}; what the proxy serves is unknown", path.display());
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(error.to_string())),
    };
    let table: RouteTable = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
    table.validate().map_err(|error| wrong(error.to_string()))?;
    Ok(Some(table))
}

fn read_store(folder: &StateFolder, found: &mut Found) -> Result<(), serin_engine::store::StoreError> {
    let reader = Reader::open(folder)?;
    for record in reader.processes()? {
        let runs = leftover(&record);
        found.processes.push(Process { id: record.id, pid: record.pid, port: record.port, runs });
    }
    let newest = reader.releases(1)?.into_iter().next().map(|row| (row.document_name, row.document));
    let document = match newest {
        Some(document) => Some(document),
        None => reader.serving()?.map(|serving| (serving.document_name, serving.document)),
    };
    if let Some(loaded) = document.and_then(|(name, text)| serin_spec::load(&name, &text).ok()) {
        found.listen = Some(loaded.release.traffic.listen);
        found.service = Some(loaded.release.name);
    }
    Ok(())
}

/// The process that listens on a unix socket. Connects and says nothing, which the other side takes for a caller who thought better of it;
/// does not wait for one that hangs.
#[cfg(target_os = "linux")]
fn listener_of(socket: &Path) -> Option<u32> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt::socket_peercred};
    let address = SocketAddrUnix::new(socket).ok()?;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let caller = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).ok()?;
    connect(&caller, &address).ok()?;
    u32::try_from(socket_peercred(&caller).ok()?.pid.as_raw_nonzero().get()).ok()
}

#[cfg(not(target_os = "linux"))]
fn listener_of(_socket: &Path) -> Option<u32> {
    None
}
