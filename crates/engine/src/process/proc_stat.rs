//! What `/proc` says about processes. Elsewhere than on Linux it says nothing: callers treat that as "not found".

use std::{
    collections::HashMap,
    fs,
    io::Read,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, TryLockError},
    time::{Duration, Instant},
};

/// The largest environment searched for a marker, in bytes.
const MAX_ENVIRON_BYTES: u64 = 1024 * 1024;

/// One process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProcStat {
    pub(super) pid: u32,
    /// Its process group, named by the pid of its leader.
    pub(super) group: u32,
    /// Neither a zombie nor dead.
    pub(super) running: bool,
    /// Clock ticks from boot to its start. Together with the pid this names a process once and for all.
    pub(super) start_time: u64,
    /// Processor time used in user and kernel mode, in clock ticks.
    pub(super) cpu_ticks: u64,
    /// Memory in pages, pages shared with others included.
    pub(super) resident_pages: u64,
}

/// The process with this pid, if there is one.
pub(super) fn read(pid: u32) -> Option<ProcStat> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// All processes.
pub(super) fn all() -> Vec<ProcStat> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).filter_map(read).collect()
}

/// All running processes at one moment.
#[derive(Debug)]
pub(super) struct Look {
    /// When.
    pub(super) at: Instant,
    /// By process group: hundreds of replica sets each want a few of hundreds of processes.
    groups: HashMap<u32, Vec<ProcStat>>,
}

/// The newest look.
#[derive(Debug, Default)]
struct Looks(Mutex<Option<Arc<Look>>>);

static LOOKS: Looks = Looks(Mutex::new(None));

/// All processes, as anyone in this process saw them at most `age` ago. However many ask: the machine is looked at once in that time.
/// Waits for the machine to be looked at.
pub(super) fn recent(age: Duration) -> Arc<Look> {
    LOOKS.recent(age)
}

/// The same if somebody has looked already. Does not wait.
pub(super) fn seen(age: Duration) -> Option<Arc<Look>> {
    LOOKS.seen(age)
}

impl Look {
    /// What these processes are.
    pub(super) fn new(at: Instant, processes: Vec<ProcStat>) -> Self {
        let mut groups: HashMap<u32, Vec<ProcStat>> = HashMap::new();
        for process in processes.into_iter().filter(|process| process.running) {
            groups.entry(process.group).or_default().push(process);
        }
        Self { at, groups }
    }

    /// The running processes of a group.
    pub(super) fn group(&self, group: u32) -> &[ProcStat] {
        self.groups.get(&group).map_or(&[], Vec::as_slice)
    }
}

impl Looks {
    fn seen(&self, age: Duration) -> Option<Arc<Look>> {
        let last = match self.0.try_lock() {
            Ok(last) => last,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        last.as_ref().filter(|look| look.at.elapsed() <= age).map(Arc::clone)
    }

    fn recent(&self, age: Duration) -> Arc<Look> {
        // Held while looking, so that those who ask at the same time wait for the one look.
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(look) = last.as_ref().filter(|look| look.at.elapsed() <= age) {
            return Arc::clone(look);
        }
        let look = Arc::new(Look::new(Instant::now(), all()));
        *last = Some(Arc::clone(&look));
        look
    }
}

/// How long ago a process was started, in milliseconds, by the clock that nobody sets. `start_time`: as in [`ProcStat`], of this boot.
pub(super) fn age_ms(start_time: u64) -> u64 {
    let since_boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let part = |number: i64| u64::try_from(number).unwrap_or_default();
    let now_ms = part(since_boot.tv_sec).saturating_mul(1_000).saturating_add(part(since_boot.tv_nsec) / 1_000_000);
    let started_ms = start_time.saturating_mul(1_000) / rustix::param::clock_ticks_per_second().max(1);
    now_ms.saturating_sub(started_ms)
}

/// What tells this boot of the machine from others; empty where that is unknown.
pub(super) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// Whether the process was started with this `NAME=value` in its environment.
pub(super) fn has_env(pid: u32, entry: &str) -> bool {
    let mut environ = Vec::new();
    let Ok(file) = fs::File::open(PathBuf::from(format!("/proc/{pid}/environ"))) else { return false };
    file.take(MAX_ENVIRON_BYTES).read_to_end(&mut environ).is_ok() && environ.split(|byte| *byte == 0).any(|one| one == entry.as_bytes())
}

/// A line of `/proc/PID/stat`. The second field, the name in parentheses, may itself contain spaces and parentheses.
fn parse(line: &str) -> Option<ProcStat> {
    let pid = line.split_once(' ')?.0.parse().ok()?;
    let fields: Vec<&str> = line.rsplit_once(')')?.1.split_whitespace().collect();
    // Fields are numbered from 1 in proc(5), and the first one after the name is number 3.
    let field = |number: usize| fields.get(number - 3).copied();
    let ticks = |number| field(number)?.parse::<u64>().ok();
    Some(ProcStat {
        pid,
        group: field(5)?.parse().ok()?,
        // The first thread may have ended before the others: then the process looks like a zombie and is none.
        running: !matches!(field(3)?, "Z" | "X" | "x") || ticks(20)? > 1,
        start_time: ticks(22)?,
        cpu_ticks: ticks(14)?.saturating_add(ticks(15)?),
        resident_pages: ticks(24)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_as_old_as_it_is() {
        let own = read(std::process::id()).unwrap().start_time;
        let (age, later) = (age_ms(own), Instant::now());
        assert!(age < 24 * 3_600_000, "{age} ms");
        while later.elapsed() < Duration::from_millis(30) {
            std::thread::yield_now();
        }
        assert!(age_ms(own) >= age + 30);
    }

    #[test]
    fn a_hostile_name_does_not_shift_the_fields() {
        let line = "71 (a) Z 1 (b c) S 1 70 70 0 -1 4194560 1 2 3 4 150 50 5 6 20 0 1 0 98765 1000 321 18446744073709551615 1 1\n";
        let expected = ProcStat { pid: 71, group: 70, running: true, start_time: 98_765, cpu_ticks: 200, resident_pages: 321 };
        assert_eq!(parse(line), Some(expected));
        let state = |state: &str, threads: &str| parse(&line.replace(") S", state).replace(" 1 0 98765", threads)).unwrap().running;
        assert!(!state(") Z", " 1 0 98765"), "a zombie");
        assert!(state(") Z", " 3 0 98765"), "its other threads run");
        for broken in ["", "71", "71 (a", "71 (a) S 1", "x (a) S 1 70 70 0 -1 4194560 1 2 3 4 150 50 5 6 20 0 1 0 98765 1000 321"] {
            assert_eq!(parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn a_look_is_shared_until_it_is_too_old() {
        let looks = Looks::default();
        assert!(looks.seen(Duration::from_secs(3_600)).is_none());
        let first = looks.recent(Duration::ZERO);
        assert!(Arc::ptr_eq(&first, &looks.seen(Duration::from_secs(3_600)).unwrap()));
        assert!(Arc::ptr_eq(&first, &looks.recent(Duration::from_secs(3_600))));
        while first.at.elapsed().is_zero() {}
        assert!(looks.recent(Duration::ZERO).at > first.at);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_found() {
        let own = read(std::process::id()).unwrap();
        assert!(own.running && own.resident_pages > 0);
        assert!(all().iter().any(|one| one.pid == own.pid && one.start_time == own.start_time));
        assert!(!boot_id().is_empty());
        let path = std::env::var("PATH").unwrap();
        assert!(has_env(own.pid, &format!("PATH={path}")));
        assert!(!has_env(own.pid, "PATH=/elsewhere"));
    }
}
