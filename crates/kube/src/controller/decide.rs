//! What a release needs, from what is known: a pure function, so that an idle release costs a comparison.

use crate::{
    api::{Engine, ReleaseStatus},
    release::cut,
};

/// What is known about a release.
#[derive(Debug, Clone, PartialEq)]
pub struct Known<'a> {
    /// The generation of the spec.
    pub generation: i64,
    /// It is being deleted.
    pub is_deleted: bool,
    /// Its object waits for us before it goes.
    pub has_finalizer: bool,
    /// The status.
    pub status: Option<&'a ReleaseStatus>,
    /// The document by hash, or what is wrong with it.
    pub document: Result<&'a str, String>,
    /// The versions that serves and that is to be tried, or why they cannot be told.
    pub versions: Result<(&'a str, &'a str), Unknown>,
    /// Where a new version is edited, in words.
    pub edited: &'a str,
    /// The id of a `retry` that was not looked at yet.
    pub retry: Option<&'a str>,
}

/// Why versions cannot be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unknown {
    /// Somebody has to change something.
    Wrong(String),
    /// It will be known in time.
    NotYet(String),
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Rest,
    /// Go on with the run that is under way.
    Resume,
    /// Begin a run.
    Begin,
    /// Nothing is under way and the object is being deleted.
    LetGo,
    /// Say in the status that there is nothing to do, and why.
    Idle(String),
    /// Say in the status why nothing can begin.
    Refuse(String),
    /// Say in the status what is waited for before anything can begin.
    Wait(String),
}

/// What a release needs.
#[must_use]
pub fn decide(known: &Known<'_>) -> Verdict {
    let last = known.status.and_then(|status| status.engine.as_ref());
    // What was begun is brought to its end first, whatever the document says by now.
    if last.is_some_and(|engine| !engine.is_over()) {
        return Verdict::Resume;
    }
    if known.is_deleted {
        return if known.has_finalizer { Verdict::LetGo } else { Verdict::Rest };
    }
    let document = match &known.document {
        Ok(document) => *document,
        Err(why) => return said(known, "Invalid", why, Verdict::Refuse),
    };
    let (stable, canary) = match &known.versions {
        Ok(versions) => *versions,
        Err(Unknown::Wrong(why)) => return said(known, "Invalid", why, Verdict::Refuse),
        Err(Unknown::NotYet(why)) => return said(known, "Waiting", why, Verdict::Wait),
    };
    let is_same_run = |engine: &Engine| engine.template_hash == canary && engine.document_hash == document;
    // Something else was said since the run ended: it was changed to something else meanwhile, and back.
    let is_said_last = !known.status.is_some_and(|status| matches!(status.phase.as_str(), "Idle" | "Invalid" | "Waiting"));
    match last {
        Some(engine) if is_same_run(engine) && known.retry.is_none() && is_said_last => return Verdict::Rest,
        // What was promoted is what both are now: the end of the last run says it best.
        Some(engine) if engine.template_hash == canary && stable == canary && observed(known) && is_said_last => return Verdict::Rest,
        Some(engine) if is_same_run(engine) && known.retry.is_none() && stable != canary && !was_idle(known) => {
            let why = format!("this version was tried and did not succeed; change {}, or command `retry`", known.edited);
            return said(known, "Invalid", &why, Verdict::Refuse);
        }
        _ => {}
    }
    if stable == canary {
        let why = format!("what serves is the newest version; a change of {} begins a release", known.edited);
        return said(known, "Idle", &why, Verdict::Idle);
    }
    Verdict::Begin
}

/// Says something, unless the status does already.
fn said(known: &Known<'_>, phase: &str, why: &str, verdict: impl FnOnce(String) -> Verdict) -> Verdict {
    let is_said = known.status.is_some_and(|status| status.phase == phase && status.reason == cut(why)) && observed(known);
    if is_said { Verdict::Rest } else { verdict(why.to_owned()) }
}

/// Whether there was nothing to try for a while: what is there now was edited since.
fn was_idle(known: &Known<'_>) -> bool {
    known.status.is_some_and(|status| status.phase == "Idle")
}

fn observed(known: &Known<'_>) -> bool {
    known.status.is_some_and(|status| status.observed_generation == known.generation)
}

#[cfg(test)]
mod tests {
    use serin_core::release::{Phase, State};

    use super::*;

    fn ran(phase: Phase, document: &str, template: &str) -> ReleaseStatus {
        let state = serde_json::to_string(&State { phase, ..State::default() }).unwrap();
        let engine = Engine { state, document_hash: document.to_owned(), template_hash: template.to_owned(), ..Engine::default() };
        ReleaseStatus { observed_generation: 1, engine: Some(engine), ..ReleaseStatus::default() }
    }

    fn known(status: Option<&ReleaseStatus>) -> Known<'_> {
        Known {
            generation: 1,
            is_deleted: false,
            has_finalizer: true,
            status,
            document: Ok("d1"),
            versions: Ok(("v1", "v2")),
            edited: "it",
            retry: None,
        }
    }

    #[test]
    fn another_version_begins_a_release_and_the_same_one_does_not() {
        assert_eq!(decide(&known(None)), Verdict::Begin);
        let same = Known { versions: Ok(("v1", "v1")), ..known(None) };
        let Verdict::Idle(why) = decide(&same) else { panic!("not idle") };
        let status = ReleaseStatus { observed_generation: 1, phase: "Idle".to_owned(), reason: why, ..ReleaseStatus::default() };
        assert_eq!(decide(&Known { status: Some(&status), ..same }), Verdict::Rest);
    }

    #[test]
    fn what_was_begun_goes_on_whatever_else_there_is() {
        let under_way = ran(Phase::Promoting, "d1", "v2");
        for known in [
            known(Some(&under_way)),
            Known { document: Err("broken".to_owned()), ..known(Some(&under_way)) },
            Known { is_deleted: true, ..known(Some(&under_way)) },
            Known { versions: Err(Unknown::Wrong("gone".to_owned())), ..known(Some(&under_way)) },
        ] {
            assert_eq!(decide(&known), Verdict::Resume);
        }
    }

    #[test]
    fn a_run_that_is_over_is_not_repeated_until_something_changes() {
        let failed = ran(Phase::RolledBack, "d1", "v2");
        assert_eq!(decide(&known(Some(&failed))), Verdict::Rest);
        assert_eq!(decide(&Known { versions: Ok(("v1", "v3")), ..known(Some(&failed)) }), Verdict::Begin);
        assert_eq!(decide(&Known { document: Ok("d2"), ..known(Some(&failed)) }), Verdict::Begin);
        assert_eq!(decide(&Known { retry: Some("1"), ..known(Some(&failed)) }), Verdict::Begin);
        let done = ran(Phase::Succeeded, "d1", "v2");
        assert_eq!(decide(&Known { versions: Ok(("v2", "v2")), ..known(Some(&done)) }), Verdict::Rest);
        assert_eq!(decide(&Known { versions: Ok(("v2", "v3")), ..known(Some(&done)) }), Verdict::Begin);
    }

    #[test]
    fn what_was_said_since_the_last_run_is_taken_back_when_it_is_so_no_more() {
        let said = |phase: &str, ran: ReleaseStatus| ReleaseStatus { phase: phase.to_owned(), ..ran };
        // Edited to something else and back: somebody wants it tried.
        let idle = said("Idle", ran(Phase::RolledBack, "d1", "v2"));
        assert_eq!(decide(&known(Some(&idle))), Verdict::Begin);
        // The document was broken for a while: that is no new edit.
        let broken = said("Invalid", ran(Phase::RolledBack, "d1", "v2"));
        let Verdict::Refuse(why) = decide(&known(Some(&broken))) else { panic!("not refused") };
        assert!(why.contains("did not succeed"), "{why}");
        assert_eq!(decide(&known(Some(&ReleaseStatus { reason: why, ..broken.clone() }))), Verdict::Rest);
        assert_eq!(decide(&Known { retry: Some("1"), ..known(Some(&broken)) }), Verdict::Begin);
        let done = said("Invalid", ran(Phase::Succeeded, "d1", "v2"));
        assert!(matches!(decide(&Known { versions: Ok(("v2", "v2")), ..known(Some(&done)) }), Verdict::Idle(_)));
        // What is not known yet is waited for.
        let waits = Known { versions: Err(Unknown::NotYet("a rollout".to_owned())), ..known(None) };
        assert_eq!(decide(&waits), Verdict::Wait("a rollout".to_owned()));
        let waiting = ReleaseStatus {
            reason: "a rollout".to_owned(),
            ..said("Waiting", ReleaseStatus { observed_generation: 1, ..Default::default() })
        };
        assert_eq!(decide(&Known { status: Some(&waiting), ..waits }), Verdict::Rest);
    }

    #[test]
    fn a_deleted_release_is_let_go_once_nothing_is_under_way() {
        let over = ran(Phase::RolledBack, "d1", "v2");
        assert_eq!(decide(&Known { is_deleted: true, ..known(Some(&over)) }), Verdict::LetGo);
        assert_eq!(decide(&Known { is_deleted: true, has_finalizer: false, ..known(None) }), Verdict::Rest);
    }

    #[test]
    fn what_is_wrong_is_said_once() {
        let broken = Known { document: Err("no stages".to_owned()), ..known(None) };
        assert_eq!(decide(&broken), Verdict::Refuse("no stages".to_owned()));
        let status = ReleaseStatus {
            observed_generation: 1,
            phase: "Invalid".to_owned(),
            reason: "no stages".to_owned(),
            ..ReleaseStatus::default()
        };
        assert_eq!(decide(&Known { status: Some(&status), ..broken.clone() }), Verdict::Rest);
        assert_eq!(decide(&Known { status: Some(&status), generation: 2, ..broken }), Verdict::Refuse("no stages".to_owned()));
    }

    #[test]
    fn what_is_too_long_for_a_status_is_said_once_as_well() {
        let long = "no stages ".repeat(100);
        let broken = Known { document: Err(long.clone()), ..known(None) };
        let Verdict::Refuse(why) = decide(&broken) else { panic!("not refused") };
        let status = crate::release::invalid(1, None, &why, "2026-01-01T00:00:00Z");
        assert!(status.reason.len() < long.len());
        assert_eq!(decide(&Known { status: Some(&status), ..broken }), Verdict::Rest);
    }
}
