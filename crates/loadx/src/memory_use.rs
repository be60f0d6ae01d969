//! The memory that LoadX uses, and the most that the system lets it use.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use loadx_proxy::Handle;

use crate::memory::allocator::lent_bytes;

/// The interval in which LoadX looks at its memory.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Tells the proxy how much memory is used.
pub(crate) struct MemoryUse {
    look_at: Instant,
    /// The resident memory beside what the allocator has lent, at the start: the program itself.
    program: usize,
    /// The control group with the lowest limit among those of the process, and the limit in bytes.
    group: Option<(PathBuf, u64)>,
}

impl MemoryUse {
    pub(crate) fn new() -> Self {
        let program = resident_bytes().saturating_sub(lent_bytes());
        MemoryUse { look_at: Instant::now(), program, group: group() }
    }

    /// Tells `proxy` the used memory if the last look was [`LOOK_INTERVAL`] ago.
    pub(crate) fn look(&mut self, proxy: &Handle) {
        let now = Instant::now();
        if now < self.look_at {
            return;
        }
        self.look_at = now + LOOK_INTERVAL;
        let resident = resident_bytes();
        // Freed memory that the allocator keeps is there for new work.
        let used = resident.min(lent_bytes().saturating_add(self.program));
        let (used, kept) = (used as u64, (resident - used) as u64);
        let of_group = self.group.as_ref().and_then(|(group, limit)| Some((used_by(group, used, kept)?, *limit)));
        proxy.note_memory(used, of_group);
    }
}

/// The resident memory of the process, in bytes.
pub(crate) fn resident_bytes() -> usize {
    // The second figure is the number of resident pages (proc_pid_statm(5)).
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size()
}

/// The control group (version 2) with the lowest limit of memory, of the group of the process and those above.
fn group() -> Option<(PathBuf, u64)> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let root = Path::new("/sys/fs/cgroup");
    let groups = Path::new(path).ancestors().map(|group| root.join(group));
    let limited = groups.filter_map(|group| {
        // The text "max" stands for no limit.
        let limit = fs::read_to_string(group.join("memory.max")).ok()?.trim().parse().ok()?;
        Some((group, limit))
    });
    limited.min_by_key(|(_, limit)| *limit)
}

/// The memory that a group uses, with what the kernel holds for its sockets, and without files, which the kernel drops when
/// memory is lacking, and what the allocator keeps. `None` if other processes use most of it: fewer requests would help nobody
/// then.
fn used_by(group: &Path, own: u64, kept: u64) -> Option<u64> {
    let current: u64 = fs::read_to_string(group.join("memory.current")).ok()?.trim().parse().ok()?;
    let stat = fs::read_to_string(group.join("memory.stat")).ok()?;
    let figure = |name: &str| -> Option<u64> {
        stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?.parse().ok()
    };
    let used = current.saturating_sub(figure("file")? + kept);
    (own + figure("sock")? > used / 2).then_some(used)
}
