//! The metrics of the process, by the names that Prometheus uses for every program.

use std::sync::OnceLock;

use procfs::process::{LimitValue, Process};

use super::Exposition;
use super::family;

impl Exposition {
    /// Adds the metrics of this process; those that the system does not tell are left out.
    pub(crate) fn process(&mut self) {
        let Ok(process) = Process::myself() else { return };
        if let Ok(stat) = process.stat() {
            let ticks = procfs::ticks_per_second() as f64;
            self.family(&family::PROCESS_CPU).real(&[], (stat.utime + stat.stime) as f64 / ticks);
            self.family(&family::PROCESS_RESIDENT).whole(&[], stat.rss.saturating_mul(procfs::page_size()));
            self.family(&family::PROCESS_VIRTUAL).whole(&[], stat.vsize);
            self.family(&family::PROCESS_THREADS).whole(&[], stat.num_threads);
            if let Some(booted) = boot_time() {
                self.family(&family::PROCESS_START).real(&[], booted + stat.starttime as f64 / ticks);
            }
        }
        if let Ok(count) = process.fd_count() {
            self.family(&family::PROCESS_FDS).whole(&[], count);
        }
        if let Ok(limits) = process.limits()
            && let LimitValue::Value(most) = limits.max_open_files.soft_limit
        {
            self.family(&family::PROCESS_FDS_MAX).whole(&[], most);
        }
    }
}

/// When the system began, in seconds since 1970.
fn boot_time() -> Option<f64> {
    static AT: OnceLock<Option<f64>> = OnceLock::new();
    *AT.get_or_init(|| procfs::boot_time_secs().ok().map(|seconds| seconds as f64))
}
