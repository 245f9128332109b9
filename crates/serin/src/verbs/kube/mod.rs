//! `kubectl serin`, or `serin kubectl`: the verbs against releases of a cluster.
//!
//! The words, options, output and exit codes are those of the verbs against a server, and so is the code that draws and decides: a cluster
//! is another [`Backend`](super::remote::Backend). Who asks is whom the kubeconfig says; Kubernetes decides who may.

mod act;
mod backend;
mod history;
mod plan;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Subcommand;
use serin_core::{WeightBps, release::Action};
use serin_kube::{outside::Access, release::Wish};

use super::{
    explain, get,
    remote::{self, Backend as _},
    status,
};
use crate::{
    exit,
    output::{self, Output},
    server::ClientError,
    values,
};
use backend::Cluster;

/// Looks at releases in a Kubernetes cluster and acts on them; also as `kubectl serin`.
///
/// The same binary under the name `kubectl-serin` in the search path is `kubectl serin`. Cluster, user and namespace are those of kubectl.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    at: At,
    #[command(subcommand)]
    verb: Verb,
}

/// Which cluster, and where in it.
#[derive(Debug, Clone, clap::Args)]
struct At {
    /// The releases of this namespace. Default: the namespace of the context.
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// A context of the kubeconfig. Default: the current one.
    #[arg(long, global = true, value_name = "CONTEXT")]
    context: Option<String>,
    /// The kubeconfig. Default: KUBECONFIG, ~/.kube/config, or the service account of the pod that this runs in.
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

const ACT_CODES: &str = "Exit codes: 0 accepted, 1 the API server or the controller does not answer, 2 no such release, no permission, or usage, \
                         3 the release's state forbids it; it is said why.";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Shows releases, or one of them.
    ///
    /// Exit codes: 0 shown, 1 the API server does not answer, 2 there is no such release, or no permission.
    #[command(visible_alias = "list")]
    Get {
        /// One release; all of the namespace without it.
        release: Option<String>,
        /// Of all namespaces.
        #[arg(short = 'A', long, conflicts_with = "release")]
        all_namespaces: bool,
        /// Go on with whatever happens, until Ctrl-C.
        #[arg(short, long)]
        watch: bool,
    },
    /// Shows how a release is, or how its last run ended.
    ///
    /// Exit codes: 0 running or succeeded, 1 no answer or an invalid release, 2 there is none, 3 refused by preflight, 4 rolled back,
    /// 5 needs an operator.
    Status {
        /// The release.
        release: String,
        /// Wait for the end of the run, showing what happens, and exit with the code of `serin run`. A change that the controller has not looked
        /// at yet counts as a run that begins.
        #[arg(long)]
        wait: bool,
    },
    /// Shows what happens to releases until Ctrl-C, a line each.
    ///
    /// Exit codes: 0 ended by Ctrl-C, 1 the API server does not answer, 2 there is no such release, or no permission.
    Watch {
        /// One release; all of the namespace without it.
        release: Option<String>,
        /// Of all namespaces.
        #[arg(short = 'A', long, conflicts_with = "release")]
        all_namespaces: bool,
    },
    /// Shows the last run of a release with what happened in it, at most the 50 last lines, and how those before it ended, at most ten.
    ///
    /// Exit codes: 0 shown, 1 the API server does not answer, 2 there is no such release, or no permission.
    History {
        /// The release.
        release: String,
        /// How many runs to list.
        #[arg(long, value_name = "N", default_value_t = 10)]
        limit: usize,
        /// Only the list, without what happened.
        #[arg(long)]
        list: bool,
    },
    /// Shows every step of a release and each field that it would change, tried by the API server. Changes nothing.
    ///
    /// Every write says `dryRun=All`, and is made with the permissions of whoever asks: get on what the release names, and patch for what is
    /// to be tried.
    ///
    /// Exit codes: 0 shown and nothing stands against it, 1 the API server does not answer, 2 the document is wrong or there is no such release,
    /// 3 a check failed, or the API server would refuse a change.
    Plan {
        /// A release that is in the cluster.
        #[arg(required_unless_present = "file", conflicts_with = "file")]
        release: Option<String>,
        /// A release document, `-` for standard input.
        #[arg(short, long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Says why a release is as it is: what it waits for, what each criterion says, and what to run next.
    ///
    /// Exit codes: 0 said, 1 the API server does not answer, 2 there is no such release, or no permission.
    Explain {
        /// The release.
        release: String,
    },
    /// Stands still at the current weight; judging goes on.
    Pause(ActArgs),
    /// Goes on after a pause, at the plan's weight.
    Resume(ActArgs),
    /// Lets a stage that waits for approval go on.
    Approve(ActArgs),
    /// Refuses approval: rolls back.
    Reject(ActArgs),
    /// Sets the canary's share by hand and pauses there.
    Weight {
        #[command(flatten)]
        act: ActArgs,
        /// The canary's share in percent: 10, 12.5 or 0.5%.
        #[arg(value_parser = super::act::weight)]
        percent: WeightBps,
    },
    /// Skips the remaining stages: all traffic to the canary. The bake still follows.
    Promote(ActArgs),
    /// Takes all traffic back to stable and ends the release.
    Abort(ActArgs),
    /// Releases the same version once more, after it was rolled back.
    Retry(ActArgs),
    /// Goes back to the version before: of a release under way, or of one that succeeded as long as its old version is kept.
    Rollback(ActArgs),
}

/// Which release, and why it is acted on.
#[derive(Debug, clap::Args)]
#[command(after_help = ACT_CODES)]
struct ActArgs {
    /// The release.
    release: String,
    /// Why, for the journal.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// How long to wait for the controller's answer.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = values::duration)]
    timeout: Duration,
}

/// Does it.
///
/// # Errors
/// If stdout cannot be written.
pub(crate) fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let Args { at, verb } = args;
    let of_all = matches!(&verb, Verb::Get { all_namespaces: true, .. } | Verb::Watch { all_namespaces: true, .. });
    let access = Access { kubeconfig: at.kubeconfig, context: at.context, namespace: at.namespace };
    let has_namespace = access.namespace.is_some();
    remote::asked(output, async || {
        let cluster = Cluster::open(&access, of_all).await?;
        carry_out(&cluster, verb, has_namespace, output).await
    })
}

async fn carry_out(cluster: &Cluster, verb: Verb, has_namespace: bool, output: Output) -> anyhow::Result<u8> {
    let (act, wish, name) = match verb {
        Verb::Get { release, watch, .. } => {
            get::show(cluster, release.as_deref(), "no releases here; `kubectl apply -f release.yaml` creates one", output).await?;
            return if watch { get::watch(cluster, release.as_deref(), output).await } else { Ok(exit::SUCCEEDED) };
        }
        Verb::Watch { release, .. } => {
            // A name that is wrong would be waited for in vain, and so would permissions.
            match &release {
                Some(name) => drop(cluster.service(name).await?),
                None => drop(cluster.services().await?),
            }
            return get::watch(cluster, release.as_deref(), output).await;
        }
        Verb::Status { release, wait } => return status::of_service(cluster, &release, wait, output).await,
        Verb::History { release, limit, list } => return history::show(cluster, &release, limit, list, output).await,
        Verb::Explain { release } => {
            let told = cluster.explanation(&release).await?;
            match output {
                Output::Json => output::data(&serde_json::to_string(&told)?)?,
                Output::Text => output::data(&explain::lines(&told).join("\n"))?,
            }
            return Ok(exit::SUCCEEDED);
        }
        Verb::Plan { release, file } => return plan::show(cluster, release.as_deref(), file.as_deref(), has_namespace, output).await,
        Verb::Weight { act, percent } => (act, Wish::Action(Action::Weight(percent)), "weight"),
        Verb::Pause(act) => (act, Wish::Action(Action::Pause), "pause"),
        Verb::Resume(act) => (act, Wish::Action(Action::Resume), "resume"),
        Verb::Approve(act) => (act, Wish::Action(Action::Approve), "approve"),
        Verb::Reject(act) => (act, Wish::Action(Action::Reject), "reject"),
        Verb::Promote(act) => (act, Wish::Action(Action::Promote), "promote"),
        Verb::Abort(act) => (act, Wish::Action(Action::Abort), "abort"),
        Verb::Rollback(act) => (act, Wish::Action(Action::Abort), "rollback"),
        Verb::Retry(act) => (act, Wish::Retry, "retry"),
    };
    act::order_and_say(cluster, &act, wish, name, output).await
}

impl From<serin_kube::outside::SessionError> for ClientError {
    fn from(error: serin_kube::outside::SessionError) -> Self {
        Self::Usage(error.to_string())
    }
}
