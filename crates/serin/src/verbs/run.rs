//! `serin run`: one release in the foreground.

use std::{io::IsTerminal as _, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use serin_engine::{
    run::{Document, Feed, Happening, RunConfig, RunError, RunReport, StatusReport, run as run_release},
    store::{Reader, ReleaseRow, StateFolder, StoreError},
    systemd::Sockets,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::StateArg;
use crate::{
    document, exit,
    output::{self, Output},
    render::{self, Screen},
    signals, values,
};

/// How long a release in a pipe waits for a person: nobody may be there.
const PIPE_PATIENCE: Duration = Duration::from_secs(600);
const HAPPENINGS: usize = 1024;

/// Carries out a release: starts both versions, moves the traffic stage by stage, judges, and rolls back by itself.
///
/// If an earlier run of the same document was interrupted (a crash, a kill), it goes on where that one was.
///
/// Exit codes: 0 succeeded, 1 internal error, 2 document or usage, 3 preflight, 4 rolled back, 5 needs an operator, 130 interrupted.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The release document, `-` for standard input. Without it, the interrupted release of the state folder goes on.
    file: Option<PathBuf>,
    #[command(flatten)]
    state: StateArg,
    /// Go on serving after the release ended, until Ctrl-C.
    #[arg(long)]
    keep_serving: bool,
    /// How long to wait for a person (approval, a paused release) before giving up with exit code 5: traffic goes back to stable,
    /// everything keeps running, and `serin run` takes over again.
    /// On a terminal for ever, in a pipe 10 minutes.
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    wait_for_operator: Option<Duration>,
}

/// Runs a release to its end.
///
/// # Errors
/// If the process cannot even begin: no runtime, no signals, its own path unknown.
pub(crate) fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let document = match args.file {
        Some(file) => document::read(&file, output),
        None => interrupted(&args.state, output)?,
    };
    let Ok(document) = document else { return Ok(exit::code(exit::USAGE)) };
    let serin_exe = std::env::current_exe().context("cannot find the running binary")?;
    let operator_patience = args.wait_for_operator.or_else(|| (!std::io::stderr().is_terminal()).then_some(PIPE_PATIENCE));
    let config = RunConfig {
        document,
        state: args.state.state,
        serin_exe,
        keep_serving: args.keep_serving,
        operator_patience,
        sockets: Sockets::default(),
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("cannot start the async runtime")?;
    let ended = runtime.block_on(async {
        let interrupts = signals::end_requests().context("cannot watch for signals")?;
        let (happenings, happened) = mpsc::channel(HAPPENINGS);
        let (status, statuses) = watch::channel(None);
        let view = View::new(output).follow(happened, statuses);
        let ended = run_release(config, Feed::new(happenings, status), interrupts).await;
        // The view ends when the feed does.
        let _ = view.await;
        anyhow::Ok(ended)
    })?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    conclude(ended, output)
}

/// The document of the release that was interrupted in this state folder.
fn interrupted(state: &StateArg, output: Output) -> anyhow::Result<Result<Document, document::Rejected>> {
    let row = match StateFolder::existing(&state.state) {
        Some(folder) => latest_interrupted(&Reader::open(&folder)?)?,
        None => None,
    };
    match row {
        Some(row) => Ok(document::reread(&row.document_name, row.document, output)),
        None => {
            output::error(&format!(
                "nothing was interrupted in {}; name a release document: serin run release.yaml",
                state.state.display()
            ));
            Ok(Err(document::Rejected))
        }
    }
}

fn latest_interrupted(reader: &Reader) -> Result<Option<ReleaseRow>, StoreError> {
    let Some(row) = reader.releases(1)?.into_iter().next().filter(|row| row.ended_at.is_none()) else { return Ok(None) };
    // It may have died just before its end was recorded.
    let over = reader.journal(row.id)?.state().is_final();
    Ok((!over).then_some(row))
}

fn conclude(ended: Result<RunReport, RunError>, output: Output) -> anyhow::Result<ExitCode> {
    match ended {
        Ok(report) => {
            let code = exit::of_end(&report.end);
            match output {
                Output::Json => output::data(&render::json::end(&report, code).to_string())?,
                Output::Text => output::data(&render::end::report(&report).join("\n"))?,
            }
            Ok(exit::code(code))
        }
        Err(error) => {
            let code = exit::of_error(&error);
            let checks = if let RunError::Preflight(checks) = &error { checks.as_slice() } else { &[] };
            match output {
                Output::Json => output::data(&render::json::error(&error.to_string(), checks, code).to_string())?,
                Output::Text if checks.is_empty() => output::error(&error.to_string()),
                Output::Text => {
                    output::error("preflight failed, nothing was changed");
                    render::end::checks(checks, false).iter().for_each(|line| output::note(line));
                }
            }
            Ok(exit::code(code))
        }
    }
}

/// What is shown while the release runs.
struct View {
    output: Output,
    screen: Screen,
    /// Lines go to stdout in a pipe, above the panel on a terminal.
    lines_on_stdout: bool,
}

impl View {
    fn new(output: Output) -> Self {
        let screen = Screen::new();
        Self { output, lines_on_stdout: !(screen.is_terminal() && std::io::stdout().is_terminal()), screen }
    }

    fn follow(mut self, mut happened: mpsc::Receiver<Happening>, mut statuses: watch::Receiver<Option<StatusReport>>) -> JoinHandle<()> {
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    happening = happened.recv() => match happening {
                        Some(happening) => self.happening(&happening),
                        None => break,
                    },
                    changed = statuses.changed() => {
                        if changed.is_err() {
                            // Only what has happened already is still to be shown.
                            while let Some(happening) = happened.recv().await {
                                self.happening(&happening);
                            }
                            break;
                        }
                        let latest = statuses.borrow_and_update().clone();
                        if let Some(latest) = latest {
                            self.status(&latest);
                        }
                    }
                }
            }
            self.screen.clear();
        })
    }

    fn happening(&mut self, happening: &Happening) {
        match (self.output, happening) {
            (Output::Json, Happening::Entry { entry, words }) => self.data(&render::json::entry(entry, words.as_ref()).to_string()),
            (Output::Json, Happening::Note(text)) => self.data(&render::json::note(text).to_string()),
            (Output::Text, Happening::Entry { entry, words }) => {
                if let Some(line) = render::lines::entry(entry, words.as_ref()) {
                    self.line(&line);
                }
            }
            (Output::Text, Happening::Note(text)) => self.line(&render::lines::note(text)),
        }
    }

    fn status(&mut self, status: &StatusReport) {
        if self.output == Output::Text && self.screen.is_terminal() {
            let lines = render::panel::lines(status, self.screen.colour());
            self.screen.draw(&lines);
        }
    }

    fn line(&mut self, line: &str) {
        if self.lines_on_stdout {
            self.screen.clear();
            self.data(line);
        } else {
            self.screen.scroll(line);
        }
    }

    fn data(&self, line: &str) {
        if let Err(error) = output::data(line) {
            output::note(&format!("warning: cannot write to stdout: {error}"));
        }
    }
}
