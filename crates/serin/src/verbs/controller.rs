//! `serin controller`: releases of a cluster, for good.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use serin_kube::{
    Client,
    controller::{self, Config, Scope, Vitals},
    lease::LeaseName,
};
use serin_web::{Asked, Pages, PagesConfig};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    exit,
    output::{self, Output},
    values,
};

/// Runs the releases of a cluster: every `Release` object whose canary is another version than stable.
///
/// Several replicas may run; one leads and the others stand by. It finds the API server as `kubectl` does: KUBECONFIG, or the service account
/// of its pod. SIGTERM and Ctrl-C let the lease go and end the process; releases under way stay as they are until the next leader goes on.
///
/// Exit codes: 0 ended as asked, 1 internal error, 2 an option cannot be used, 3 the API server cannot be used.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Look for releases in this namespace. Default: the namespace that the controller is in.
    #[arg(long, value_name = "NAMESPACE", conflicts_with = "all_namespaces")]
    namespace: Option<String>,
    /// Look for releases in all namespaces.
    #[arg(long)]
    all_namespaces: bool,
    /// Namespace of the lease among replicas. Default: the namespace that the controller is in.
    #[arg(long, value_name = "NAMESPACE")]
    lease_namespace: Option<String>,
    /// Name of the lease among replicas.
    #[arg(long, value_name = "NAME", default_value = "serin-controller")]
    lease_name: String,
    /// How long after its last sign of life a leader is replaced, in whole seconds of at least 3.
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = values::duration)]
    lease_duration: Duration,
    /// Listen here for Prometheus (/metrics) and for the probes of a pod (/healthz, /readyz). Default: nowhere.
    #[arg(long, value_name = "ADDRESS")]
    metrics_listen: Option<SocketAddr>,
    /// A file with the bearer token that /metrics needs. Without it only a loopback address is listened on.
    #[arg(long, value_name = "FILE", requires = "metrics_listen")]
    metrics_token_file: Option<PathBuf>,
}

/// Runs until a signal comes.
///
/// # Errors
/// If the process cannot begin: no runtime, no signals.
pub(crate) fn run(args: &Args, _output: Output) -> anyhow::Result<ExitCode> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("cannot start the async runtime")?;
    let code = runtime.block_on(control(args))?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(code)
}

async fn control(args: &Args) -> anyhow::Result<ExitCode> {
    if args.lease_duration < Duration::from_secs(3) {
        output::error("--lease-duration is too short: at least 3s");
        return Ok(exit::code(exit::USAGE));
    }
    let vitals = Arc::new(Vitals::default());
    // Kept until the end.
    let _pages = match pages(args, &vitals) {
        Ok(pages) => pages,
        Err(error) => {
            output::error(&error.to_string());
            return Ok(exit::code(exit::USAGE));
        }
    };
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for signals")?;
    let client = match Client::try_default().await {
        Ok(client) => client,
        Err(error) => {
            output::error(&format!("cannot find the API server: {error}; set KUBECONFIG, or run in a pod with a service account"));
            return Ok(exit::code(exit::PREFLIGHT));
        }
    };
    let own = client.default_namespace().to_owned();
    let scope = match (&args.namespace, args.all_namespaces) {
        (Some(namespace), _) => Scope::Namespace(namespace.clone()),
        (None, true) => Scope::Cluster,
        (None, false) => Scope::Namespace(own.clone()),
    };
    let lease = LeaseName {
        namespace: args.lease_namespace.clone().unwrap_or(own),
        name: args.lease_name.clone(),
        identity: identity(),
        duration: args.lease_duration,
    };
    output::note(&match &scope {
        Scope::Cluster => "watching the releases of all namespaces".to_owned(),
        Scope::Namespace(namespace) => format!("watching the releases of the namespace {namespace}"),
    });
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(controller::run(client, Config { scope, lease, vitals }, stopped));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop.send_replace(true);
    running.await.context("the controller broke")?;
    output::note("the lease is let go; releases under way wait for the next controller");
    Ok(exit::code(exit::SUCCEEDED))
}

/// Begins to tell how the controller is, if somebody wants to know.
fn pages(args: &Args, vitals: &Arc<Vitals>) -> Result<Option<Pages>, serin_web::PagesError> {
    let Some(listen) = args.metrics_listen else { return Ok(None) };
    let vitals = Arc::clone(vitals);
    let teller = move |asked| match asked {
        Asked::Metrics => Ok(vitals.page()),
        Asked::Health => vitals.health().map(|()| "ok".to_owned()),
        Asked::Readiness => vitals.readiness().map(|()| "ready".to_owned()),
    };
    let pages = Pages::start(PagesConfig { listen, token_file: args.metrics_token_file.clone() }, Arc::new(teller))?;
    output::note(&format!("metrics at http://{}/metrics", pages.address()));
    Ok(Some(pages))
}

/// Who this process is, and no other that ever was: host, and a random number.
fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}_{:016x}", host.trim(), rand::random::<u64>())
}
