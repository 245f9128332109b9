//! A test cluster to play with: `cargo xtask cluster up`. It stays until Ctrl-C, and everything of it goes then.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool for terminals")]

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use serin_testkit::cluster::{Cluster, Door, Options, Tools, access};

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
    let args = Args::parse();
    let tools = match Tools::find() {
        Ok(tools) => tools,
        Err(missing) => {
            eprintln!("error: {missing}");
            return ExitCode::FAILURE;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap_or_else(|error| panic!("{error}"));
    let options = Options { scrape_interval: (args.scrape > 0).then(|| Duration::from_secs(args.scrape)), ..Options::default() };
    let cluster = Cluster::start(&tools, options.sample_app(&args.serin.to_string_lossy()));
    let admin = cluster.kubeconfig(access::ADMIN);
    if let Some(file) = &args.kubeconfig
        && let Err(error) = std::fs::copy(&admin, file)
    {
        eprintln!("error: cannot write {}: {error}", file.display());
        return ExitCode::FAILURE;
    }
    println!("export KUBECONFIG={}", admin.display());
    if tools.envoy.is_some() {
        for (door, what) in [
            (Door::Gateway, "Gateway API; send the host of an HTTPRoute"),
            (Door::Mesh, "VirtualServices and plain Services; send a host like web.default"),
            (Door::Nginx, "ingress-nginx; send the host of an Ingress"),
            (Door::Traefik, "Traefik; send the host of an IngressRoute"),
        ] {
            println!("# http://{}  {what}", cluster.door(door));
        }
        println!("# http://{}  Envoy's own pages", cluster.mesh().admin());
    }
    if args.scrape > 0 && tools.prometheus.is_some() {
        println!("# {}  Prometheus (pods annotated with prometheus.io/scrape)", cluster.prometheus().url());
    }
    println!("# other users: {}, {}", cluster.kubeconfig(access::ALICE).display(), cluster.kubeconfig(access::BOB).display());
    println!("# image sample-app:VERSION runs `serin sample-app` with --version=VERSION; logs are in {}", cluster.path().join("pods").display());
    eprintln!("the cluster runs until Ctrl-C");
    runtime.block_on(async {
        let terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
        match terminate {
            Ok(mut terminate) => tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            },
            Err(_) => drop(tokio::signal::ctrl_c().await),
        }
    });
    drop(cluster);
    ExitCode::SUCCESS
}
