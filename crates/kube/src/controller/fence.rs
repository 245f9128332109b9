//! Whether we still lead, asked after a conflict.

use serin_engine::Pending;

use crate::{lease::LeaseKeeper, route::Fence};

pub(super) struct LeaseFence(pub(super) LeaseKeeper);

impl Fence for LeaseFence {
    fn holds(&self) -> Pending<'_, bool> {
        Box::pin(async move {
            // What cannot be asked is not known to be lost: the keeper itself gives up in time.
            self.0.is_ours().await.unwrap_or_else(|_| self.0.leadership().borrow().is_some())
        })
    }
}
