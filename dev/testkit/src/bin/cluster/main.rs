//! A test cluster to play with: `cargo xtask cluster up`. It stays until Ctrl-C, and everything of it goes then.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool for terminals")]

use std::{fs, path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use serin_testkit::cluster::{Cluster, Door, Options, Tools, access};
use tokio::signal::unix::{SignalKind, signal};

/// A test cluster to play with, until Ctrl-C.
#[derive(Parser)]
struct Args {
    /// The binary that pods with the image `sample-app:VERSION` run
    #[arg(long, value_name = "FILE")]
    serin: PathBuf,
    /// How often Prometheus scrapes, in seconds; 0 starts none
    #[arg(long, default_value_t = 2, value_name = "SECONDS")]
    scrape: u64,
    /// Write the admin's kubeconfig to this file too
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    let tools = Tools::find()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let options = Options { scrape_interval: (args.scrape > 0).then(|| Duration::from_secs(args.scrape)), ..Options::default() };
    let cluster = Cluster::start(&tools, &options.sample_app(&args.serin.to_string_lossy()));
    if let Some(file) = &args.kubeconfig {
        fs::copy(cluster.kubeconfig(access::ADMIN), file).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    }
    print!("{}", how_to_reach(&cluster, &tools, args));
    eprintln!("the cluster runs until Ctrl-C");
    runtime.block_on(until_told());
    Ok(())
}

/// Lines for a shell: what to set, and comments.
fn how_to_reach(cluster: &Cluster, tools: &Tools, args: &Args) -> String {
    let mut lines = vec![format!("export KUBECONFIG={}", cluster.kubeconfig(access::ADMIN).display())];
    if tools.envoy.is_some() {
        for (door, what) in [
            (Door::Gateway, "Gateway API: send the host of an HTTPRoute"),
            (Door::Mesh, "VirtualServices and plain Services: send a host like web.default"),
            (Door::Nginx, "ingress-nginx: send the host of an Ingress"),
            (Door::Traefik, "Traefik: send the host of an IngressRoute"),
        ] {
            lines.push(format!("# http://{}  {what}", cluster.door(door)));
        }
        lines.push(format!("# http://{}  Envoy's own pages", cluster.mesh().admin()));
    }
    if args.scrape > 0 && tools.prometheus.is_some() {
        lines.push(format!("# {}  Prometheus, for pods annotated with prometheus.io/scrape", cluster.prometheus().url()));
    }
    lines.push(format!("# other users: {} {}", cluster.kubeconfig(access::ALICE).display(), cluster.kubeconfig(access::BOB).display()));
    lines.push("# the image sample-app:VERSION runs `serin sample-app --version=VERSION` at the first port of its container".to_owned());
    lines.push(format!("# logs of pods: {}", cluster.path().join("pods").display()));
    lines.join("\n") + "\n"
}

async fn until_told() {
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        },
        Err(_) => drop(tokio::signal::ctrl_c().await),
    }
}
