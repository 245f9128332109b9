//! What people want of a release: an annotation, so that `kubectl annotate` is enough and Kubernetes decides who may.
//!
//! `serin.dev/command: {"id": "…", "action": "abort", "by": "…", "reason": "…"}`. Whoever may change the release may command it. A command is
//! looked at once: its id stands in the status with what became of it. `by` is what its author says; who it was in truth is in the audit log.

use serde::Deserialize;
use serin_core::release::{Action, Command};

/// The longest annotation that is read.
const MAX_BYTES: usize = 2_048;

/// A command with the id that makes it one of its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) id: String,
    pub(super) command: Result<Command, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    id: String,
    action: serde_json::Value,
    #[serde(default)]
    by: Option<String>,
    #[serde(default)]
    reason: Option<String>,
}

/// Reads the annotation; what cannot be read has an id all the same, so that its author gets an answer.
pub(super) fn read(text: &str) -> Asked {
    if text.len() > MAX_BYTES {
        return Asked { id: "too-long".to_owned(), command: Err(format!("the annotation is longer than {MAX_BYTES} bytes")) };
    }
    let written: Written = match serde_json::from_str(text) {
        Ok(written) => written,
        Err(error) => {
            let expected = r#"{"id": "any-text", "action": "abort", "by": "who", "reason": "why"}"#;
            return Asked { id: short_hash(text), command: Err(format!("cannot be read: {error}; expected such as {expected}")) };
        }
    };
    let action = serde_json::from_value::<Action>(written.action.clone());
    let action = action.map_err(|_| {
        format!(
            "{} is not an action: `pause`, `resume`, `approve`, `reject`, `promote`, `abort`, `retire`, or `{{\"weight\": 500}}` in basis points",
            written.action
        )
    });
    let by = written.by.filter(|by| !by.is_empty()).unwrap_or_else(|| "an annotation".to_owned());
    Asked { id: written.id, command: action.map(|action| Command { action, by, reason: written.reason }) }
}

fn short_hash(text: &str) -> String {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(text.as_bytes()).iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use serin_core::WeightBps;

    use super::*;

    #[test]
    fn commands_are_read_with_their_author() {
        let asked = read(r#"{"id": "1", "action": "abort", "by": "ann", "reason": "too slow"}"#);
        let command = Command { action: Action::Abort, by: "ann".to_owned(), reason: Some("too slow".to_owned()) };
        assert_eq!(asked, Asked { id: "1".to_owned(), command: Ok(command) });
        let weight = read(r#"{"id": "2", "action": {"weight": 500}}"#).command.unwrap();
        assert_eq!((weight.action, weight.by.as_str()), (Action::Weight(WeightBps::new(500).unwrap()), "an annotation"));
    }

    #[test]
    fn what_cannot_be_read_gets_an_answer_and_an_id_of_its_own() {
        let (first, second) = (read("abort"), read("stop"));
        assert!(first.command.unwrap_err().contains("expected such as"));
        assert_ne!(first.id, second.id);
        assert!(read(r#"{"id": "3", "action": "explode"}"#).command.unwrap_err().contains("`abort`"));
        assert!(read(&"x".repeat(5_000)).command.is_err());
    }
}
