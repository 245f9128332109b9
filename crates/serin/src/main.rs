//! The `serin` binary: one file per verb.

mod analyze;
mod document;
mod exit;
mod load;
mod output;
mod render;
mod sample_app;
mod server;
mod signals;
mod values;
mod verbs;

use std::{io::IsTerminal as _, process::ExitCode};

use clap::{Parser, Subcommand};
use serin_core::release::Action;
use tracing_subscriber::EnvFilter;

use output::Output;

/// Progressive delivery for any HTTP service, in one binary.
///
/// `serin run release.yaml` moves traffic from the stable version to the canary step by step, judges each step, and takes the
/// traffic back when the canary is worse.
#[derive(Debug, Parser)]
#[command(name = "serin", version)]
struct Cli {
    /// How results are written to stdout.
    #[arg(long, global = true, value_enum, default_value_t)]
    output: Output,
    #[command(subcommand)]
    verb: Verb,
}

/// Progressive delivery in a Kubernetes cluster: looks at releases and acts on them.
///
/// A plugin of kubectl: the binary `serin` under the name `kubectl-serin`. `serin kubectl` is the same.
#[derive(Debug, Parser)]
#[command(name = "kubectl-serin", bin_name = "kubectl serin", version)]
struct Plugin {
    /// How results are written to stdout.
    #[arg(short, long, global = true, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    args: verbs::kube::Args,
}

/// The name under which kubectl finds its plugin.
const PLUGIN: &str = "kubectl-serin";

impl Cli {
    /// What was asked for, under either name.
    fn read() -> Self {
        let name = std::env::args_os().next().map(std::path::PathBuf::from);
        if name.as_deref().and_then(std::path::Path::file_name).is_some_and(|name| name == PLUGIN) {
            let Plugin { output, args } = Plugin::parse();
            return Self { output, verb: Verb::Kubectl(args) };
        }
        Self::parse()
    }
}

#[derive(Debug, Subcommand)]
enum Verb {
    Run(verbs::run::Args),
    Plan(verbs::plan::Args),
    Check(verbs::check::Args),
    Analyze(verbs::analyze::Args),
    Init(verbs::init::Args),
    Serve(verbs::serve::Args),
    Controller(verbs::controller::Args),
    Kubectl(verbs::kube::Args),
    Apply(verbs::apply::Args),
    Get(verbs::get::Args),
    Watch(verbs::watch::Args),
    Explain(verbs::explain::Args),
    Status(verbs::status::Args),
    History(verbs::history::Args),
    Replay(verbs::replay::Args),
    Store(verbs::store::Args),
    Eject(verbs::eject::Args),
    /// Stands still at the current weight; judging goes on.
    Pause(verbs::act::Args),
    /// Goes on after a pause, at the plan's weight.
    Resume(verbs::act::Args),
    /// Lets a stage that waits for approval go on.
    Approve(verbs::act::Args),
    /// Refuses approval: rolls back.
    Reject(verbs::act::Args),
    /// Sets the canary's share by hand and pauses there.
    Weight(verbs::act::WeightArgs),
    /// Skips the remaining stages: all traffic to the canary. The bake still follows.
    Promote(verbs::act::Args),
    /// Takes all traffic back to stable and ends the release.
    Abort(verbs::act::Args),
    /// Releases the last document of a service once more, after it was rolled back.
    Retry(verbs::order::Args),
    /// Goes back to the version before: of a release under way, or of one that succeeded as long as its old version is kept.
    Rollback(verbs::order::Args),
    /// Stops a service for good. Its journals stay.
    Delete(verbs::order::Args),
    Token(verbs::token::Args),
    Load(verbs::load::Args),
    SampleApp(verbs::sample_app::Args),
    Schema(verbs::schema::Args),
    Completions(verbs::completions::Args),
    #[command(hide = true)]
    Proxy(verbs::proxy::Args),
}

fn main() -> ExitCode {
    let cli = Cli::read();
    let quiet = EnvFilter::try_from_env("SERIN_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(quiet).with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal()).init();
    let output = cli.output;
    let done = match cli.verb {
        Verb::Run(args) => verbs::run::run(args, output),
        Verb::Plan(args) => verbs::plan::run(&args, output),
        Verb::Check(args) => verbs::check::run(&args, output),
        Verb::Analyze(args) => verbs::analyze::run(&args, output),
        Verb::Init(args) => verbs::init::run(&args, output),
        Verb::Serve(args) => verbs::serve::run(args, output),
        Verb::Controller(args) => verbs::controller::run(&args, output),
        Verb::Kubectl(args) => verbs::kube::run(args, output),
        Verb::Apply(args) => verbs::apply::run(&args, output),
        Verb::Get(args) => verbs::get::run(&args, output),
        Verb::Watch(args) => verbs::watch::run(&args, output),
        Verb::Explain(args) => verbs::explain::run(&args, output),
        Verb::Retry(args) => verbs::order::run(&args, "retry", output),
        Verb::Rollback(args) => verbs::order::run(&args, "rollback", output),
        Verb::Delete(args) => verbs::order::delete(&args, output),
        Verb::Token(args) => verbs::token::run(&args, output),
        Verb::Status(args) => verbs::status::run(&args, output),
        Verb::History(args) => verbs::history::run(&args, output),
        Verb::Replay(args) => verbs::replay::run(&args, output),
        Verb::Store(args) => verbs::store::run(&args, output),
        Verb::Eject(args) => verbs::eject::run(&args, output),
        Verb::Pause(args) => verbs::act::run(args, Action::Pause, output),
        Verb::Resume(args) => verbs::act::run(args, Action::Resume, output),
        Verb::Approve(args) => verbs::act::run(args, Action::Approve, output),
        Verb::Reject(args) => verbs::act::run(args, Action::Reject, output),
        Verb::Weight(args) => verbs::act::set_weight(args, output),
        Verb::Promote(args) => verbs::act::run(args, Action::Promote, output),
        Verb::Abort(args) => verbs::act::run(args, Action::Abort, output),
        Verb::Load(args) => verbs::load::run(args, output),
        Verb::SampleApp(args) => verbs::sample_app::run(args, output),
        Verb::Schema(args) => verbs::schema::run(&args),
        Verb::Completions(args) => verbs::completions::run(&args),
        Verb::Proxy(args) => verbs::proxy::run(args),
    };
    done.unwrap_or_else(|error| {
        output::error(&format!("{error:#}"));
        exit::code(exit::of_failure(&error))
    })
}
