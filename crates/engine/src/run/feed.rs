//! What the caller sees while a release runs. Nothing of it may hold the release up.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use tokio::sync::{mpsc, watch};

use super::{Happening, StatusReport};

/// Where a release's happenings and its status go.
#[derive(Debug)]
pub struct Feed {
    to: To,
    /// How the release is, a few times a second.
    pub(crate) status: watch::Sender<Option<StatusReport>>,
}

enum To {
    Reader {
        queue: mpsc::Sender<Happening>,
        /// What found no room since the reader was last told that something is missing.
        missed: AtomicU64,
    },
    Call(Box<dyn Fn(Happening) + Send + Sync>),
}

impl Feed {
    /// A feed to a reader with a queue. One that falls so far behind that the queue is full misses some, and is told how many as soon as there
    /// is room. The journal has them all.
    #[must_use]
    pub fn new(queue: mpsc::Sender<Happening>, status: watch::Sender<Option<StatusReport>>) -> Self {
        Self { to: To::Reader { queue, missed: AtomicU64::new(0) }, status }
    }

    /// A feed that misses nothing: `tell` is called with everything that happens, in order, and must not wait.
    pub(crate) fn calling(tell: impl Fn(Happening) + Send + Sync + 'static) -> Self {
        Self { to: To::Call(Box::new(tell)), status: watch::channel(None).0 }
    }

    pub(crate) fn tell(&self, happening: Happening) {
        let (queue, missed) = match &self.to {
            To::Call(tell) => return tell(happening),
            To::Reader { queue, missed } => (queue, missed),
        };
        let before = missed.swap(0, Relaxed);
        if before > 0 {
            let text = format!("{before} messages are missing here: they came faster than they were read; the journal has all entries");
            if queue.try_send(Happening::Note(text)).is_err() {
                missed.fetch_add(before, Relaxed);
            }
        }
        if let Err(mpsc::error::TrySendError::Full(_)) = queue.try_send(happening)
            && missed.fetch_add(1, Relaxed) == 0
        {
            tracing::warn!("messages of the release are not read fast enough; some are left out, the journal has all entries");
        }
    }

    pub(crate) fn note(&self, text: String) {
        self.tell(Happening::Note(text));
    }
}

impl fmt::Debug for To {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reader { .. } => "Reader",
            Self::Call(_) => "Call",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_falls_behind_hears_how_much_it_missed() {
        let (queue, mut reader) = mpsc::channel(2);
        let feed = Feed::new(queue, watch::channel(None).0);
        let text = |happening| match happening {
            Ok(Happening::Note(text)) => text,
            other => panic!("{other:?}"),
        };
        for number in 0..5 {
            feed.note(number.to_string());
        }
        assert_eq!((text(reader.try_recv()), text(reader.try_recv())), ("0".to_owned(), "1".to_owned()));
        feed.note("5".to_owned());
        assert!(text(reader.try_recv()).starts_with("3 messages are missing here"));
        assert_eq!(text(reader.try_recv()), "5");
        feed.note("6".to_owned());
        assert_eq!(text(reader.try_recv()), "6", "said once");
        // Nobody reads any more: there is nobody to tell.
        drop(reader);
        feed.note("7".to_owned());
    }

    #[test]
    fn a_call_misses_nothing() {
        let heard = std::sync::Arc::new(AtomicU64::new(0));
        let to = heard.clone();
        let feed = Feed::calling(move |_| _ = to.fetch_add(1, Relaxed));
        (0..10_000).for_each(|number| feed.note(number.to_string()));
        assert_eq!(heard.load(Relaxed), 10_000);
    }
}
