//! What people want of a release: an annotation, so that `kubectl annotate` is enough and Kubernetes decides who may.
//!
//! `serin.dev/command: {"id": "…", "action": "abort", "by": "…", "reason": "…"}`. Whoever may change the release may command it. A command is
//! looked at once: its id stands in the status with what became of it. `by` is what its author says; who it was in truth is in the audit log.

use serde::{Deserialize, Serialize};
use serin_core::release::{Action, Command};

use crate::api::{COMMAND, Release};

const RETRY: &str = "retry";

/// The longest annotation that is read.
const MAX_BYTES: usize = 2_048;
/// Characters of a reason and of a name that are written.
const MAX_TEXT: usize = 200;

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Something that the release under way does.
    Action(Action),
    /// The same release once more, after one that has ended.
    Retry,
}

/// A command with the id that makes it one of its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) id: String,
    pub(crate) wish: Result<Wish, String>,
    by: String,
    reason: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    id: String,
    action: serde_json::Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// The annotation's value. Control characters become spaces, and 200 characters of author and reason are kept.
#[must_use]
pub fn annotation(id: &str, wish: Wish, by: &str, reason: Option<&str>) -> String {
    let action = match wish {
        Wish::Action(action) => serde_json::to_value(action).unwrap_or_default(),
        Wish::Retry => RETRY.into(),
    };
    let written = Written { id: id.to_owned(), action, by: Some(tidy(by)), reason: reason.map(tidy) };
    serde_json::to_string(&written).unwrap_or_default()
}

/// The command on a release that was not looked at yet.
#[must_use]
pub(crate) fn pending(release: &Release) -> Option<Asked> {
    let asked = read(release.metadata.annotations.as_ref()?.get(COMMAND)?);
    let last = release.status.as_ref().and_then(|status| status.last_command.as_ref());
    last.is_none_or(|last| last.id != asked.id).then_some(asked)
}

impl Asked {
    /// The command for a release that is under way, or why there is none.
    pub(crate) fn command(self) -> Result<Command, String> {
        let Self { wish, by, reason, .. } = self;
        match wish? {
            Wish::Action(action) => Ok(Command { action, by, reason }),
            Wish::Retry => Err("a release is under way; one can be released once more when it has ended".to_owned()),
        }
    }

    /// Why nothing comes of it where no release is under way and none begins. `how`: how the release is.
    pub(crate) fn in_vain(self, how: &str) -> String {
        match self.wish {
            Ok(Wish::Action(_)) => format!("no release is under way: {how}"),
            Ok(Wish::Retry) => format!("there is nothing to release: {how}"),
            Err(why) => why,
        }
    }
}

/// Reads the annotation; what cannot be read has an id all the same, so that its author gets an answer.
fn read(text: &str) -> Asked {
    let unreadable = |id: String, why: String| Asked { id, wish: Err(why), by: String::new(), reason: None };
    if text.len() > MAX_BYTES {
        return unreadable("too-long".to_owned(), format!("the annotation is longer than {MAX_BYTES} bytes"));
    }
    let written: Written = match serde_json::from_str(text) {
        Ok(written) => written,
        Err(error) => {
            let expected = r#"{"id": "any-text", "action": "abort", "by": "who", "reason": "why"}"#;
            return unreadable(short_hash(text), format!("cannot be read: {error}; expected such as {expected}"));
        }
    };
    let wish = if written.action == RETRY {
        Ok(Wish::Retry)
    } else {
        serde_json::from_value::<Action>(written.action.clone()).map(Wish::Action).map_err(|_| {
            format!(
                "{} is not an action: `pause`, `resume`, `approve`, `reject`, `promote`, `abort`, `retire`, `retry`, or `{{\"weight\": 500}}` in basis points",
                written.action
            )
        })
    };
    let by = written.by.filter(|by| !by.is_empty()).unwrap_or_else(|| "an annotation".to_owned());
    Asked { id: written.id, wish, by, reason: written.reason }
}

fn tidy(text: &str) -> String {
    text.chars().take(MAX_TEXT).map(|character| if character.is_control() { ' ' } else { character }).collect()
}

fn short_hash(text: &str) -> String {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(text.as_bytes()).iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use serin_core::WeightBps;

    use super::*;
    use crate::api::CommandStatus;

    #[test]
    fn commands_are_read_with_their_author() {
        let asked = read(r#"{"id": "1", "action": "abort", "by": "ann", "reason": "too slow"}"#);
        let command = Command { action: Action::Abort, by: "ann".to_owned(), reason: Some("too slow".to_owned()) };
        assert_eq!((asked.id.as_str(), asked.clone().command()), ("1", Ok(command)));
        let weight = read(r#"{"id": "2", "action": {"weight": 500}}"#).command().unwrap();
        assert_eq!((weight.action, weight.by.as_str()), (Action::Weight(WeightBps::new(500).unwrap()), "an annotation"));
        assert!(read(r#"{"id": "3", "action": "retry"}"#).command().unwrap_err().contains("under way"));
    }

    #[test]
    fn what_is_written_is_read() {
        let weight = Wish::Action(Action::Weight(WeightBps::new(1_250).unwrap()));
        for wish in [Wish::Action(Action::Abort), weight, Wish::Retry] {
            let asked = read(&annotation("7", wish, "ann\n", Some("it is \"odd\"\tand long")));
            assert_eq!((asked.id.as_str(), asked.wish, asked.by.as_str()), ("7", Ok(wish), "ann "));
            assert_eq!(asked.reason.as_deref(), Some("it is \"odd\" and long"));
        }
        let long = "\u{1f426}".repeat(5_000);
        assert!(annotation("0123456789abcdef", weight, &long, Some(&long)).len() <= MAX_BYTES);
    }

    #[test]
    fn a_command_is_pending_until_its_id_is_answered() {
        let mut release: Release = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "a", "annotations": {COMMAND: r#"{"id": "4", "action": "retry"}"#}},
        }))
        .unwrap();
        assert_eq!(pending(&release).unwrap().wish, Ok(Wish::Retry));
        release.status.get_or_insert_default().last_command =
            Some(CommandStatus { id: "4".to_owned(), accepted: false, answer: "no".to_owned() });
        assert!(pending(&release).is_none());
    }

    #[test]
    fn what_cannot_be_read_gets_an_answer_and_an_id_of_its_own() {
        let (first, second) = (read("abort"), read("stop"));
        assert!(first.wish.unwrap_err().contains("expected such as"));
        assert_ne!(first.id, second.id);
        assert!(read(r#"{"id": "3", "action": "explode"}"#).wish.unwrap_err().contains("`abort`"));
        assert!(read(&"x".repeat(5_000)).wish.is_err());
    }
}
