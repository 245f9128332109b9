//! Waiting for a change of either version's workload, whatever kinds they are.

use tokio::sync::watch;

/// Changes of the objects of one kind or of two.
#[derive(Debug, Clone)]
pub struct Changes {
    first: watch::Receiver<u64>,
    second: Option<watch::Receiver<u64>>,
}

/// Nobody watches any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended;

impl Changes {
    pub(super) fn new(first: watch::Receiver<u64>, second: Option<watch::Receiver<u64>>) -> Self {
        Self { first, second }
    }

    /// Returns after the next change that was not seen. May be dropped at any time.
    ///
    /// # Errors
    /// If there will be none any more.
    pub async fn changed(&mut self) -> Result<(), Ended> {
        let Some(second) = &mut self.second else { return self.first.changed().await.map_err(|_| Ended) };
        tokio::select! {
            changed = self.first.changed() => changed.map_err(|_| Ended),
            changed = second.changed() => changed.map_err(|_| Ended),
        }
    }

    /// Whatever has changed so far was seen.
    pub fn mark_unchanged(&mut self) {
        self.first.mark_unchanged();
        if let Some(second) = &mut self.second {
            second.mark_unchanged();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_change_of_either_kind_wakes_and_one_that_was_seen_does_not() {
        let [first, second] = [0; 2].map(|_| watch::channel(0_u64).0);
        let mut changes = Changes::new(first.subscribe(), Some(second.subscribe()));
        assert_eq!(changes.changed().now_or_never(), None);
        second.send_modify(|version| *version += 1);
        assert_eq!(changes.changed().now_or_never(), Some(Ok(())));
        first.send_modify(|version| *version += 1);
        second.send_modify(|version| *version += 1);
        changes.mark_unchanged();
        assert_eq!(changes.changed().now_or_never(), None);
        drop(first);
        assert_eq!(changes.changed().now_or_never(), Some(Err(Ended)));
    }
}
