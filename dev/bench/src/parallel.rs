//! Independent runs on several threads. Results come back in the order of the runs, whichever thread did them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Result, anyhow};

/// Runs that a thread takes at once: small, because runs of one cell differ by factors of a hundred in length.
const CHUNK: usize = 4;

/// `work(0)`, `work(1)`, … `work(count - 1)` on at most `threads` threads.
///
/// # Errors
/// The error of one of the runs.
pub(crate) fn map<T: Send>(threads: usize, count: usize, work: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(count));
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                let mut mine = Vec::new();
                loop {
                    let first = next.fetch_add(CHUNK, Ordering::Relaxed);
                    if first >= count {
                        break;
                    }
                    mine.extend((first..count.min(first + CHUNK)).map(|index| (index, work(index))));
                }
                if let Ok(mut done) = done.lock() {
                    done.extend(mine);
                }
            });
        }
    });
    let mut done = done.into_inner().map_err(|_| anyhow!("a thread of the benchmark panicked"))?;
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_completeness_do_not_depend_on_threads() {
        for threads in [1, 2, 7] {
            for count in [0, 1, 4, 103] {
                let expected: Vec<usize> = (0..count).map(|index| index * index).collect();
                assert_eq!(map(threads, count, |index| Ok(index * index)).unwrap(), expected);
            }
        }
    }

    #[test]
    fn an_error_is_not_lost() {
        let failed = map(2, 50, |index| if index == 31 { Err(anyhow!("run 31")) } else { Ok(index) });
        assert_eq!(failed.unwrap_err().to_string(), "run 31");
    }
}
