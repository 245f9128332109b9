//! That it is over, for threads that go on until then.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Says so when it is dropped, by a panic too: a scope waits for its threads, and they would go on for ever.
pub(super) struct Over<'a>(pub(super) &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}
