//! `serin get`: services and what they are doing.

use std::process::ExitCode;

use serin_engine::serve::{ServiceState, ServiceStatus};

use super::remote::{self, Backend, Happenings as _};
use crate::{
    exit,
    output::{self, Output},
    render,
    server::ServerArg,
};

/// Shows the services of a server, or one of them with its release.
///
/// Exit codes: 0 shown, 1 the server does not answer, 2 there is no such service.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// One service; all without it.
    service: Option<String>,
    #[command(flatten)]
    server: ServerArg,
    /// Go on with whatever happens, until Ctrl-C.
    #[arg(short, long)]
    watch: bool,
}

/// Shows services.
///
/// # Errors
/// If stdout cannot be written.
pub(crate) fn run(args: &Args, output: Output) -> anyhow::Result<ExitCode> {
    remote::with(&args.server, output, async |client| {
        show(&client, args.service.as_deref(), "no services yet; `serin apply release.yaml` creates one", output).await?;
        if args.watch {
            return watch(&client, args.service.as_deref(), output).await;
        }
        Ok(exit::SUCCEEDED)
    })
}

/// Whatever happens, a line each.
pub(super) async fn watch(backend: &impl Backend, service: Option<&str>, output: Output) -> anyhow::Result<u8> {
    let mut events = backend.happenings(service).await?;
    loop {
        tokio::select! {
            happened = events.next() => remote::show(&happened, output)?,
            _ = tokio::signal::ctrl_c() => return Ok(exit::SUCCEEDED),
        }
    }
}

/// One service, or all. `none`: what to say where there is none.
pub(super) async fn show(backend: &impl Backend, service: Option<&str>, none: &str, output: Output) -> anyhow::Result<()> {
    match service {
        Some(name) => {
            let status = backend.service(name).await?;
            match output {
                Output::Json => output::data(&serde_json::to_string(&status)?)?,
                Output::Text => output::data(&one(&status).join("\n"))?,
            }
        }
        None => {
            let services = backend.services().await?;
            match output {
                Output::Json => output::data(&serde_json::to_string(&services)?)?,
                Output::Text if services.services.is_empty() => output::note(none),
                Output::Text => output::data(&table(&services.services).join("\n"))?,
            }
        }
    }
    Ok(())
}

fn table(services: &[ServiceStatus]) -> Vec<String> {
    let rows: Vec<[String; 4]> = services.iter().map(row).collect();
    let head = ["SERVICE", "STATE", "LISTEN", "WHAT"].map(str::to_owned);
    let mut widths = [0; 3];
    for row in std::iter::once(&head).chain(&rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(unicode_width::UnicodeWidthStr::width(cell.as_str()));
        }
    }
    let line = |row: &[String; 4]| {
        let [name, state, listen, what] = row;
        let [a, b, c] = widths;
        format!("{name:<a$}  {state:<b$}  {listen:<c$}  {what}").trim_end().to_owned()
    };
    std::iter::once(&head).chain(&rows).map(line).collect()
}

fn row(status: &ServiceStatus) -> [String; 4] {
    let what = match (&status.fault, &status.release) {
        (Some(fault), _) => fault.clone(),
        (None, Some(release)) => format!("{} · canary {} · {}", release.phase, release.weight, release.wait.why),
        (None, None) => status.serving.clone(),
    };
    [status.service.clone(), word(status.state).to_owned(), status.listen.clone(), render::plain(&what)]
}

fn one(status: &ServiceStatus) -> Vec<String> {
    let mut lines = vec![format!("{} · {} · {}", status.service, word(status.state), status.listen)];
    let mut say = |name: &str, text: &str| lines.push(format!("  {name:<9} {}", render::plain(text)));
    say("serving", &status.serving);
    if status.replicas > 0 {
        let ready = status.ready.map_or_else(|| "?".to_owned(), |ready| ready.to_string());
        say("replicas", &format!("{ready} of {} ready", status.replicas));
    }
    if let Some(fault) = &status.fault {
        say("fault", fault);
    }
    if let Some(queued) = &status.queued {
        say("next", queued);
    }
    if let Some(last) = &status.last {
        say("last", &format!("run {} of {} · {}", last.run, last.document_hash, remote::end_words(&last.end)));
    }
    if let Some(release) = &status.release {
        lines.extend(render::panel::lines(release, false));
    }
    lines
}

fn word(state: ServiceState) -> &'static str {
    match state {
        ServiceState::Starting => "starting",
        ServiceState::Serving => "serving",
        ServiceState::Releasing => "releasing",
        ServiceState::Failed => "failed",
        ServiceState::Deleting => "deleting",
    }
}
