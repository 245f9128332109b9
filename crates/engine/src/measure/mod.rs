//! What the daemon's and the controller's pages of metrics have in common: how a page is written, times, and the one time that counts most.

mod histogram;
mod text;
mod ways_back;

pub use histogram::Histogram;
pub use text::{CONTENT_TYPE, Family, Kind, Page, count, truth};
pub use ways_back::WaysBack;

/// What the process that writes the page uses. The names are those that Prometheus' own libraries have.
pub fn write_process(page: &mut Page, what: &str) {
    let (cpu, memory) = crate::process::own_use().map_or((None, None), |(cpu, memory)| (Some(cpu), Some(count(memory))));
    page.family("process_cpu_seconds_total", Kind::Counter, &format!("Processor time of the {what}.")).series(&[], cpu);
    page.family("process_resident_memory_bytes", Kind::Gauge, &format!("Memory of the {what}.")).series(&[], memory);
    let files = std::fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64);
    page.family("process_open_fds", Kind::Gauge, &format!("Open files of the {what}.")).series(&[], files);
}
