//! Time as data. `core` never asks what time it is: callers pass a [`Timestamp`] with every input.

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch. The shell guarantees that it never runs backwards within a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Milliseconds from `earlier` to `self`; 0 if `earlier` is in fact later.
    #[must_use]
    pub fn ms_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This moment plus `ms` milliseconds.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

/// A duration as people say it: `350 ms`, `8.2 s`, `2m 05s`, `1h 04m`, `3d 2h`.
#[must_use]
pub fn human_duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms} ms"),
        1..10 if !ms.is_multiple_of(1000) => format!("{}.{} s", seconds, ms % 1000 / 100),
        1..60 => format!("{seconds} s"),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_say_them() {
        for (ms, expected) in [
            (0, "0 ms"),
            (350, "350 ms"),
            (8_240, "8.2 s"),
            (8_000, "8 s"),
            (59_999, "59 s"),
            (125_000, "2m 05s"),
            (3_840_000, "1h 04m"),
            (266_400_000, "3d 2h"),
        ] {
            assert_eq!(human_duration(ms), expected);
        }
    }

    #[test]
    fn time_differences_never_go_negative() {
        assert_eq!(Timestamp(5).ms_since(Timestamp(9)), 0);
        assert_eq!(Timestamp(u64::MAX).plus_ms(1), Timestamp(u64::MAX));
    }
}
