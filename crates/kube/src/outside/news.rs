//! What happens to releases: lines that are new in their timelines.
//!
//! A timeline is bounded and begins anew with each run, so that lines may be gone before anybody saw them: then it is said that some were missed.

use std::collections::HashMap;

use serin_engine::serve::ServerEvent;

use super::view::time;
use crate::{
    api::{Release, TimelineLine},
    watch::Key,
};

/// What a look at a release's timeline has brought.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct News {
    /// Lines were gone before they were seen.
    pub missed: bool,
    /// What is new, oldest first.
    pub events: Vec<ServerEvent>,
}

/// The lines that were seen last, by release.
#[derive(Debug, Default)]
pub struct Lines(HashMap<Key, Seen>);

#[derive(Debug, Default)]
struct Seen {
    uid: String,
    run: u64,
    lines: Vec<TimelineLine>,
}

impl Lines {
    /// Remembers what is there already, so that it is no news.
    pub fn know(&mut self, release: &Release) {
        let _ = self.look(release);
    }

    /// What is new.
    pub fn look(&mut self, release: &Release) -> News {
        let (run, lines) = release.status.as_ref().map(|status| (status.run, status.timeline.clone())).unwrap_or_default();
        let seen = self.0.entry((release.namespace().to_owned(), release.name().to_owned())).or_default();
        let is_same = seen.uid == release.uid() && seen.run == run;
        let kept = if is_same { overlap(&seen.lines, &lines) } else { 0 };
        let missed = is_same && kept == 0 && !seen.lines.is_empty() && !lines.is_empty();
        let events = lines.iter().enumerate().skip(kept).map(|(place, line)| event(release, run, place, line)).collect();
        *seen = Seen { uid: release.uid().to_owned(), run, lines };
        News { missed, events }
    }
}

/// A line of a release's timeline as an event.
pub(super) fn event(release: &Release, run: u64, place: usize, line: &TimelineLine) -> ServerEvent {
    ServerEvent {
        id: format!("{}-{place}", release.metadata.resource_version.as_deref().unwrap_or("0")),
        at: time(&line.at),
        service: release.name().to_owned(),
        run: i64::try_from(run).ok(),
        head: line.head.clone(),
        text: line.detail.clone(),
        entry: None,
    }
}

/// How many of the first lines of `now` are the last ones of `before`.
fn overlap(before: &[TimelineLine], now: &[TimelineLine]) -> usize {
    (0..before.len()).find(|from| now.starts_with(&before[*from..])).map_or(0, |from| before.len() - from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(run: u64, heads: &[&str]) -> Release {
        let line = |head: &&str| TimelineLine { at: "2026-01-02T03:04:05Z".to_owned(), head: (*head).to_owned(), detail: String::new() };
        let mut release: Release = serde_json::from_value(serde_json::json!({"metadata": {"name": "a", "uid": "u"}})).unwrap();
        let status = release.status.get_or_insert_default();
        (status.run, status.timeline) = (run, heads.iter().map(line).collect());
        release
    }

    #[test]
    fn only_what_is_new_is_told() {
        let mut lines = Lines::default();
        let mut heads = |run: u64, all: &[&str]| {
            let news = lines.look(&release(run, all));
            (news.events.into_iter().map(|event| event.head).collect::<Vec<_>>(), news.missed)
        };
        assert_eq!(heads(1, &["a", "b"]), (vec!["a".to_owned(), "b".to_owned()], false));
        assert_eq!(heads(1, &["a", "b"]), (vec![], false));
        // The oldest goes where there is no more room.
        assert_eq!(heads(1, &["b", "c", "d"]), (vec!["c".to_owned(), "d".to_owned()], false));
        assert_eq!(heads(1, &["x", "y"]), (vec!["x".to_owned(), "y".to_owned()], true));
        assert_eq!(heads(2, &["x"]), (vec!["x".to_owned()], false), "the same words of another run");
    }

    #[test]
    fn times_are_those_of_the_timeline() {
        let news = Lines::default().look(&release(3, &["a"]));
        assert_eq!((news.events[0].at.0, news.events[0].run), (1_767_323_045_000, Some(3)));
    }
}
