//! What a release needs, from what is known: a pure function, so that an idle release costs a comparison.

use crate::api::{Engine, ReleaseStatus};

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
    /// The versions of stable and canary, or why they cannot be told.
    pub versions: Result<(&'a str, &'a str), String>,
    /// The id of a `retry` that was not looked at yet.
    pub retry: Option<&'a str>,
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
        Err(why) => return said(known, "Invalid", why, Verdict::Refuse),
    };
    let is_same_run = |engine: &Engine| engine.template_hash == canary && engine.document_hash == document;
    match last {
        Some(engine) if is_same_run(engine) && known.retry.is_none() => return Verdict::Rest,
        // What was promoted is what both are now: the end of the last run says it best.
        Some(engine) if engine.template_hash == canary && stable == canary && observed(known) => return Verdict::Rest,
        _ => {}
    }
    if stable == canary {
        let why = "stable and canary are the same version; a new template of the canary's Deployment begins a release";
        return said(known, "Idle", why, Verdict::Idle);
    }
    Verdict::Begin
}

/// Says something, unless the status does already.
fn said(known: &Known<'_>, phase: &str, why: &str, verdict: impl FnOnce(String) -> Verdict) -> Verdict {
    let is_said = known.status.is_some_and(|status| status.phase == phase && status.reason == why) && observed(known);
    if is_said { Verdict::Rest } else { verdict(why.to_owned()) }
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
        Known { generation: 1, is_deleted: false, has_finalizer: true, status, document: Ok("d1"), versions: Ok(("v1", "v2")), retry: None }
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
            Known { versions: Err("gone".to_owned()), ..known(Some(&under_way)) },
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
}
