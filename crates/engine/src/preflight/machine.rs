//! Checks of the machine that change nothing.

use std::{
    collections::BTreeMap,
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use rustix::process::{Resource, getrlimit};
use serin_core::release::Check;
use serin_proxy::table::RouteTable;
use serin_spec::validated::{EnvValue, ProcessArm, Prometheus, Release, Secret, Workload};

use super::{fail, outcome, pass, program, warn};
use crate::{router::bind_check, store::ROUTE_TABLE};

/// Below this many open files a busy proxy runs dry: each request in flight takes two.
const FEW_FILES: u64 = 1024;
/// Below this much free space logs and journal may not fit.
const LITTLE_SPACE_BYTES: u64 = 64 << 20;

/// Every static check. `document_dir`: what relative paths of the document start from. `state`: the state folder, which
/// need not exist. `own_listener`: the address is held by a proxy of our own, or
/// by systemd for us, so that it is right for it to be taken.
#[must_use]
pub fn static_checks(release: &Release, document_dir: &Path, state: &Path, own_listener: bool) -> Vec<Check> {
    let mut checks = vec![listen(release, own_listener), open_files(), space(state)];
    checks.extend(release.traffic.preview.map(|address| preview(address, own_listener && is_our_preview(release, state, address))));
    match &release.workload {
        Workload::Processes(processes) => {
            for (name, arm) in [("stable", &processes.stable), ("canary", &processes.canary)] {
                checks.push(command(name, arm, document_dir));
                checks.extend(environment(name, &arm.env, document_dir));
            }
            if let Some(load) = &processes.load {
                let found = load.command.first().map_or(Err("the command is empty".to_owned()), |program| runnable(program, document_dir));
                checks.push(outcome("load command", "found", found, "correct workload.processes.load.command"));
                checks.extend(environment("load", &load.env, document_dir));
            }
        }
        Workload::External(external) => {
            let count = external.stable.endpoints.len() + external.canary.endpoints.len();
            checks.push(pass("servers", format!("{count} servers to check when the release starts")));
        }
    }
    let sources = release.measures.sources.iter();
    checks.extend(sources.filter_map(|(name, source)| {
        let hint = format!("set what is missing or correct analysis.sources.{name}");
        references(&format!("secrets of source {name}"), &secrets(source), document_dir, &hint)
    }));
    checks
}

fn listen(release: &Release, own_listener: bool) -> Check {
    let address = release.traffic.listen;
    if own_listener {
        return pass("listen address", format!("{address} is open already, for this very use"));
    }
    let free = bind_check(address).map_err(|error| error.to_string());
    outcome(
        "listen address",
        format!("{address} is free"),
        free,
        "stop what uses the address (`ss -ltnp` shows it) or change traffic.embedded.listen",
    )
}

fn preview(address: SocketAddr, is_ours: bool) -> Check {
    if is_ours {
        return pass("preview address", format!("{address} is held by the release under way"));
    }
    let free = bind_check(address).map_err(|error| error.to_string());
    outcome(
        "preview address",
        format!("{address} is free"),
        free,
        "stop what uses the address (`ss -ltnp` shows it) or change traffic.embedded.preview",
    )
}

/// Whether the route table that is served opens this very preview: a release that takes its place finds it closed. `state`: the folder of the service,
/// or that of its server.
fn is_our_preview(release: &Release, state: &Path, address: SocketAddr) -> bool {
    let of_server = state.join("services").join(&release.name);
    let tables = [state, &of_server].map(|folder| fs::read(folder.join(ROUTE_TABLE)));
    let tables = tables.into_iter().flatten().filter_map(|text| serde_json::from_slice::<RouteTable>(&text).ok());
    tables.filter_map(|table| table.preview).any(|open| open == address)
}

fn open_files() -> Check {
    let limit = getrlimit(Resource::Nofile).current;
    match limit {
        Some(limit) if limit < FEW_FILES => warn(
            "open files",
            format!("this process may open {limit} files"),
            format!("raise the limit (`ulimit -n 65536`): each request in flight takes two, {FEW_FILES} is little"),
        ),
        Some(limit) => pass("open files", format!("up to {limit}")),
        None => pass("open files", "no limit"),
    }
}

fn space(state: &Path) -> Check {
    // The folder may not be there yet; its nearest existing parent is on the same disk.
    let there = state.ancestors().find(|path| path.exists()).filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match rustix::fs::statvfs(there) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let text = format!("{} free for journal and logs", serin_core::format_value(free as f64, serin_core::Unit::Bytes));
            if free < LITTLE_SPACE_BYTES {
                fail("disk space", text, "free some space, or choose another folder with --state")
            } else {
                pass("disk space", text)
            }
        }
        Err(error) => warn("disk space", format!("unknown: {error}"), "see that the state folder's disk is not full"),
    }
}

fn command(name: &str, arm: &ProcessArm, document_dir: &Path) -> Check {
    let check = format!("{name} command");
    let directory = arm.working_dir.as_ref().map_or_else(|| document_dir.to_owned(), |folder| document_dir.join(folder));
    if !directory.is_dir() {
        let detail = format!("the working directory {} does not exist", directory.display());
        return fail(&check, detail, format!("create it or correct workload.processes.{name}.workingDir"));
    }
    let program = arm.command.first().map_or("", String::as_str);
    outcome(
        &check,
        format!("{program} found"),
        runnable(program, &directory),
        &format!("install it or correct workload.processes.{name}.command"),
    )
}

fn runnable(program: &str, directory: &Path) -> Result<(), String> {
    // `{{serin}}` is this very binary.
    if program.contains("{{serin}}") { Ok(()) } else { program::find(program, directory).map(|_| ()) }
}

fn environment(name: &str, variables: &BTreeMap<String, EnvValue>, document_dir: &Path) -> Option<Check> {
    let hint = format!("set what is missing or correct workload.processes.{name}.env");
    references(&format!("{name} environment"), variables, document_dir, &hint)
}

/// Everything that a source's questions refer to, by what it is for.
fn secrets(source: &Prometheus) -> BTreeMap<String, EnvValue> {
    let of = |secret: &Secret| match secret {
        Secret::Env(variable) => Some(EnvValue::Env(variable.clone())),
        Secret::File(path) => Some(EnvValue::File(path.clone())),
        // A cluster's, which this machine's documents cannot have.
        Secret::Key { .. } => None,
    };
    let headers = source.headers.iter().map(|(name, value)| (format!("header {name}"), value.clone()));
    source.secrets().into_iter().filter_map(|(name, secret)| Some((name.to_owned(), of(secret)?))).chain(headers).collect()
}

fn references(check: &str, values: &BTreeMap<String, EnvValue>, document_dir: &Path, hint: &str) -> Option<Check> {
    let missing: Vec<String> = values.iter().filter_map(|(name, value)| unresolved(name, value, document_dir)).collect();
    let references = values.values().filter(|value| !matches!(value, EnvValue::Literal(_))).count();
    match (references, missing.as_slice()) {
        (0, _) => None,
        (_, []) => Some(pass(check, format!("{references} references found"))),
        (_, missing) => Some(fail(check, missing.join("; "), hint)),
    }
}

fn unresolved(variable: &str, value: &EnvValue, document_dir: &Path) -> Option<String> {
    match value {
        EnvValue::Literal(_) => None,
        EnvValue::Env(reference) => env::var_os(reference).is_none().then(|| format!("{variable} refers to {reference}, which is not set")),
        EnvValue::File(path) => {
            let path: PathBuf = document_dir.join(path);
            fs::File::open(&path).err().map(|error| format!("{variable} refers to {}: {error}", path.display()))
        }
    }
}
