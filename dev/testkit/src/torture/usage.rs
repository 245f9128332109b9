//! What processes use, and how busy the machine is, as `/proc` tells.

use std::fs;

/// Memory and processor time of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Memory that is mapped and present, pages shared with others in full, in KiB.
    pub rss_kib: u64,
    /// The same with shared pages divided among those that share them, in KiB.
    pub pss_kib: u64,
    /// Processor time in user and kernel mode since the start, in milliseconds.
    pub cpu_ms: u64,
    /// Threads.
    pub threads: u64,
    /// Descriptors that are open.
    pub descriptors: u64,
}

/// What a process uses; `None` if it is gone.
#[must_use]
pub fn of(pid: u32) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    // Fields are numbered from 1 in proc(5), and the first one after the name is number 3.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let ticks = field(14)? + field(15)?;
    let memory = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let kib = |name: &str| memory.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
    Some(Usage {
        rss_kib: kib("Rss:")?,
        pss_kib: kib("Pss:")?,
        cpu_ms: ticks * 1_000 / rustix::param::clock_ticks_per_second().max(1),
        threads: field(20)?,
        descriptors: fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |entries| entries.count() as u64),
    })
}

/// Whether anything of a process still runs. Its first thread may be a zombie while others have not noticed yet that they were killed:
/// until the last of them is gone, connections are accepted, and the descriptors are open.
#[must_use]
pub fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let Some((_, rest)) = stat.rsplit_once(')') else { return false };
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // Fields 3 and 20 of proc(5).
    let threads: u64 = fields.get(17).and_then(|threads| threads.parse().ok()).unwrap_or(0);
    fields.first().is_some_and(|state| !matches!(*state, "Z" | "X") || threads > 1)
}

/// How busy the machine is: processes that wanted to run in the last minute, and how late short sleeps end, in milliseconds (the median
/// and the longest of 100 sleeps of 1 ms, beyond the 1 ms).
#[must_use]
pub fn machine() -> (f64, f64, f64) {
    let load = fs::read_to_string("/proc/loadavg").ok().and_then(|text| text.split(' ').next()?.parse().ok()).unwrap_or(f64::NAN);
    let sleep = std::time::Duration::from_millis(1);
    let mut late: Vec<f64> = (0..100)
        .map(|_| {
            let start = std::time::Instant::now();
            std::thread::sleep(sleep);
            start.elapsed().saturating_sub(sleep).as_secs_f64() * 1_000.0
        })
        .collect();
    late.sort_unstable_by(f64::total_cmp);
    (load, late[late.len() / 2], late[late.len() - 1])
}
