//! Verbs that tell a server to do something with a service.

use std::process::ExitCode;

use http::Method;
use serin_web::model::{Deleted, Reason};

use super::remote;
use crate::{
    exit,
    output::{self, Output},
    server::{Client, ServerArg},
};

/// Which service, and why it is acted on.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 accepted, 1 the server does not answer, 2 no such service or usage, 3 its state forbids it; it is said why."
)]
pub(crate) struct Args {
    /// The service.
    service: String,
    #[command(flatten)]
    server: ServerArg,
    /// Why, for the journal.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Asks for something that needs no more than a service and a reason: `retry`, `rollback`.
///
/// # Errors
/// If stdout cannot be written.
pub(crate) fn run(args: &Args, verb: &str, output: Output) -> anyhow::Result<ExitCode> {
    remote::with(&args.server, output, async |client| {
        accepted(&client, &args.service, verb, &Reason { reason: args.reason.clone() }, output).await
    })
}

/// Stops a service for good.
///
/// # Errors
/// If stdout cannot be written.
pub(crate) fn delete(args: &Args, output: Output) -> anyhow::Result<ExitCode> {
    remote::with(&args.server, output, async |client| {
        let path = format!("/v1/services/{}", args.service);
        let answer = client.order(Method::DELETE, &path, &Reason { reason: args.reason.clone() }).await?;
        let deleted: Deleted = answer.read()?;
        match output {
            Output::Json => output::data(&String::from_utf8_lossy(&answer.body))?,
            Output::Text => output::note(&format!("{} is being stopped; its journals will be in {}", deleted.service, deleted.journals)),
        }
        Ok(exit::SUCCEEDED)
    })
}

/// Sends an order and says that it was accepted.
pub(super) async fn accepted<T: serde::Serialize>(
    client: &Client,
    service: &str,
    verb: &str,
    body: &T,
    output: Output,
) -> anyhow::Result<u8> {
    let answer = client.order(Method::POST, &format!("/v1/services/{service}/{verb}"), body).await?;
    say_accepted(&String::from_utf8_lossy(&answer.body), output)
}

/// Says that an order was accepted. `json`: an [`Accepted`](serin_web::model::Accepted).
pub(super) fn say_accepted(json: &str, output: Output) -> anyhow::Result<u8> {
    match output {
        Output::Json => output::data(json)?,
        Output::Text => output::note("accepted"),
    }
    Ok(exit::SUCCEEDED)
}
