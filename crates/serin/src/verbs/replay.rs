//! `serin replay`: goes through the journal of a release as a debugger goes through a program.

use std::{
    io::{self, BufRead, IsTerminal as _},
    process::ExitCode,
};

use serin_core::{plan::Plan, release::State};
use serin_engine::store::{Journal, Reader, ReleaseId, ReleaseRow, StateFolder, StoreError, archive};

use super::StateArg;
use crate::{
    exit,
    output::{self, Output},
    render::{
        plain,
        replay::{Moment, header},
    },
};

/// Runs that an error lists.
const MOST_LISTED: u32 = 10;

/// Shows what happened in a release, entry by entry: the event, the state after it, what it changed and what the release then waited for.
///
/// Everything comes from the journal, so a release may be running. What the judge had counted is not in the journal.
///
/// Exit codes: 0 shown, 2 there is no such release or entry, 3 the store cannot be read.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    state: StateArg,
    /// Which release: its number in the store, as `serin store export` says. The newest if not given.
    #[arg(long, value_name = "N")]
    run: Option<i64>,
    /// Only the entry with this number, with the whole state after it.
    #[arg(long, value_name = "SEQ", conflicts_with = "step")]
    at: Option<u64>,
    /// Waits after every entry: Enter or `n` goes on, `p` back, a number to that entry, `q` ends. A plain list where stdin is no terminal.
    #[arg(long)]
    step: bool,
}

/// Shows a release.
///
/// # Errors
/// If the store cannot be read or stdout not be written.
pub(crate) fn run(args: &Args, output: Output) -> anyhow::Result<ExitCode> {
    let usage = |text: String| {
        output::error(&text);
        Ok(exit::code(exit::USAGE))
    };
    let Some(folder) = StateFolder::existing(&args.state.state) else { return usage(no_store(args)) };
    let reader = Reader::open(&folder)?;
    let row = match args.run {
        Some(run) => reader.release(ReleaseId(run))?,
        None => reader.releases(1)?.into_iter().next(),
    };
    let Some(row) = row else { return usage(no_run(&reader, args.run)?) };
    let (journal, cut) = archive::complete(&folder, row.id, reader.journal(row.id)?);
    if journal.entries.is_empty() {
        let why = if row.journal_deleted_at.is_some() { "was deleted because of its age" } else { "has no entries yet" };
        return usage(format!("the journal of release {} {why}; its outcome: {}", row.id.0, row.outcome.as_deref().unwrap_or("none yet")));
    }
    if let Some(cut) = cut {
        output::note(&plain(&cut));
    }
    let replay = Replay { plan: plan(&row), row, journal, output };
    if let Some(seq) = args.at {
        let Some(position) = replay.position(seq) else { return usage(replay.no_entry(seq)) };
        output::data(&replay.moment(position).state_there(output))?;
    } else if args.step && io::stdin().is_terminal() {
        replay.head()?;
        replay.step(io::stdin().lock())?;
    } else {
        replay.head()?;
        replay.list()?;
    }
    Ok(exit::code(exit::SUCCEEDED))
}

/// What the waiting and the weights of stages are read from. A document that this version does not understand leaves them out.
fn plan(row: &ReleaseRow) -> Option<Plan> {
    match serin_spec::load(&row.document_name, &row.document) {
        Ok(loaded) => Some(loaded.release.plan),
        Err(_) => {
            output::note("the document of this release is not one of this version: what the release waited for is left out");
            None
        }
    }
}

struct Replay {
    row: ReleaseRow,
    plan: Option<Plan>,
    journal: Journal,
    output: Output,
}

impl Replay {
    fn head(&self) -> io::Result<()> {
        if self.output == Output::Text { output::data(&header(&self.row)) } else { Ok(()) }
    }

    fn list(&self) -> io::Result<()> {
        let mut state = self.journal.base.clone();
        for position in 0..self.journal.entries.len() {
            let moment = self.moment_after(state, position);
            output::data(&moment.show(self.output))?;
            state = moment.after;
        }
        Ok(())
    }

    /// Shows entry by entry as somebody asks for them.
    fn step(&self, input: impl BufRead) -> io::Result<()> {
        let last = self.journal.entries.len() - 1;
        let mut position = 0;
        output::data(&self.moment(position).show(self.output))?;
        let mut lines = input.lines();
        loop {
            output::prompt(&format!(
                "{} of {} (Enter, p, number, q) ",
                self.journal.base.seq + position as u64 + 1,
                self.journal.last_seq()
            ));
            let Some(line) = lines.next().transpose()? else { return Ok(()) };
            match asked(&line, position, last, |seq| self.position(seq)) {
                Asked::Show(next) => {
                    position = next;
                    output::data(&self.moment(position).show(self.output))?;
                }
                Asked::Say(text) => output::note(text),
                Asked::End => return Ok(()),
            }
        }
    }

    fn position(&self, seq: u64) -> Option<usize> {
        let position = usize::try_from(seq.checked_sub(self.journal.base.seq + 1)?).ok()?;
        (position < self.journal.entries.len()).then_some(position)
    }

    fn moment(&self, position: usize) -> Moment<'_> {
        let before = State::fold_from(self.journal.base.clone(), &self.journal.entries[..position]);
        self.moment_after(before, position)
    }

    fn moment_after(&self, before: State, position: usize) -> Moment<'_> {
        let entry = &self.journal.entries[position];
        let after = State::fold_from(before.clone(), [entry]);
        Moment { release: self.row.id, plan: self.plan.as_ref(), entry, before, after }
    }

    fn no_entry(&self, seq: u64) -> String {
        format!(
            "there is no entry {seq} in the journal of release {}; it has {} to {}",
            self.row.id.0,
            self.journal.base.seq + 1,
            self.journal.last_seq()
        )
    }
}

#[derive(Debug, PartialEq)]
enum Asked {
    Show(usize),
    Say(&'static str),
    End,
}

fn asked(line: &str, position: usize, last: usize, find: impl Fn(u64) -> Option<usize>) -> Asked {
    match line.trim() {
        "" | "n" if position < last => Asked::Show(position + 1),
        "" | "n" => Asked::Say("this is the last entry"),
        "p" if position > 0 => Asked::Show(position - 1),
        "p" => Asked::Say("this is the first entry"),
        "q" => Asked::End,
        other => match other.parse().map(find) {
            Ok(Some(position)) => Asked::Show(position),
            Ok(None) => Asked::Say("there is no entry with this number"),
            Err(_) => Asked::Say("Enter or n: next; p: previous; a number: that entry; q: end"),
        },
    }
}

fn no_store(args: &Args) -> String {
    let state = &args.state.state;
    let services: Vec<String> = StateFolder::all(state).iter().take(10).map(|folder| folder.path().display().to_string()).collect();
    match services.is_empty() {
        true => format!("{} holds no releases; is it the right folder? (--state)", state.display()),
        false => format!("{} holds services; choose one with --state: {}", state.display(), services.join(", ")),
    }
}

fn no_run(reader: &Reader, run: Option<i64>) -> Result<String, StoreError> {
    let rows = reader.releases(MOST_LISTED)?;
    let listed: Vec<String> = rows.iter().map(|row| format!("{} ({} run {})", row.id.0, row.name, row.run)).collect();
    Ok(match run {
        Some(run) if !listed.is_empty() => format!("there is no release {run}; the newest are {}", listed.join(", ")),
        _ => "no release was run here yet".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stepping_goes_where_it_is_asked_to() {
        let find = |seq: u64| (1..=5).contains(&seq).then(|| usize::try_from(seq - 1).unwrap());
        let asked = |line, position| asked(line, position, 4, find);
        assert_eq!(asked("", 0), Asked::Show(1));
        assert_eq!(asked("n\r", 3), Asked::Show(4));
        assert_eq!(asked("p", 3), Asked::Show(2));
        assert_eq!(asked(" 5 ", 0), Asked::Show(4));
        assert_eq!(asked("q", 2), Asked::End);
        for (line, position, said) in [("", 4, "last"), ("p", 0, "first"), ("6", 0, "no entry"), ("0", 0, "no entry"), ("what", 1, "Enter")]
        {
            assert!(matches!(asked(line, position), Asked::Say(text) if text.contains(said)), "{line}");
        }
    }
}
