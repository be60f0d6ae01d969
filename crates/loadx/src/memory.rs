//! Gives free memory back to the system after a burst.
//!
//! The allocator of glibc keeps freed memory that lies between memory in use. After a burst of requests nearly all of the memory
//! of the burst would stay with LoadX for good: 690 KiB for each connection that once had 100 requests in flight, 20 KiB
//! with this module.

use std::time::{Duration, Instant};

use crate::memory_use::resident_bytes;

/// The interval in which LoadX looks at its unused memory.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// LoadX gives memory back that was unused in this number of looks. Giving back takes about 0.15 ms for each MiB, in which no
/// worker can allocate; LoadX would soon need memory again that was unused for a moment only.
const LOOKS: u32 = 6;

/// Less unused memory than this, beside the memory that was unused before, is not worth the work.
const BURST_BYTES: usize = 32 * 1024 * 1024;

/// Gives memory back that LoadX does not use for [`LOOKS`] looks.
pub(crate) struct UnusedMemory {
    look_at: Instant,
    marks: Marks,
}

impl UnusedMemory {
    pub(crate) fn new() -> Self {
        UnusedMemory { look_at: Instant::now() + LOOK_INTERVAL, marks: Marks::new(unused_bytes()) }
    }

    /// Looks at the unused memory if the last look was [`LOOK_INTERVAL`] ago.
    pub(crate) fn look(&mut self) {
        let now = Instant::now();
        if now < self.look_at {
            return;
        }
        self.look_at = now + LOOK_INTERVAL;
        let unused = unused_bytes();
        if self.marks.look(unused) {
            allocator::give_back();
            let left = unused_bytes();
            self.marks = Marks::new(left);
            let (bytes, took) = (unused.saturating_sub(left), now.elapsed().as_secs_f64() * 1e3);
            tracing::debug!("gave {bytes} bytes of unused memory back to the system in {took:.1} ms");
        }
    }
}

/// The lowest amounts of unused memory, in bytes.
struct Marks {
    /// Of all looks: the program itself, and what lies beside memory in use.
    always: usize,
    /// Of the present looks.
    lately: usize,
    looks: u32,
}

impl Marks {
    fn new(unused: usize) -> Self {
        Marks { always: unused, lately: usize::MAX, looks: 0 }
    }

    /// Takes in a look. Returns whether the memory of a burst has been unused in all of [`LOOKS`] looks.
    fn look(&mut self, unused: usize) -> bool {
        self.always = self.always.min(unused);
        self.lately = self.lately.min(unused);
        self.looks += 1;
        if self.looks < LOOKS {
            return false;
        }
        self.looks = 0;
        std::mem::replace(&mut self.lately, usize::MAX) - self.always > BURST_BYTES
    }
}

/// The resident memory without the memory that the allocator has lent to LoadX.
fn unused_bytes() -> usize {
    resident_bytes().saturating_sub(allocator::lent_bytes())
}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "no library offers these calls; each use says why it is sound")]
pub(crate) mod allocator {
    /// The bytes that the allocator has lent.
    pub(crate) fn lent_bytes() -> usize {
        // SAFETY: has no requirements (mallinfo(3)); the allocator locks what the call reads.
        let allocated = unsafe { libc::mallinfo2() };
        allocated.uordblks + allocated.hblkhd
    }

    /// Gives the system each page of which LoadX uses no byte.
    pub(super) fn give_back() {
        // SAFETY: has no requirements (malloc_trim(3)), and leaves memory in use as it is.
        let _ = unsafe { libc::malloc_trim(0) };
    }
}

/// Other allocators give memory back themselves.
#[cfg(not(target_env = "gnu"))]
pub(crate) mod allocator {
    pub(crate) fn lent_bytes() -> usize {
        usize::MAX
    }

    pub(super) fn give_back() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    fn looks(marks: &mut Marks, unused: impl IntoIterator<Item = usize>) -> bool {
        unused.into_iter().map(|unused| marks.look(unused)).fold(false, |any, gives| any | gives)
    }

    #[test]
    fn memory_that_stays_unused_is_given_back() {
        let mut marks = Marks::new(10 * MIB);
        assert!(!looks(&mut marks, [300 * MIB; LOOKS as usize - 1]), "too soon");
        assert!(marks.look(300 * MIB));
    }

    #[test]
    fn memory_that_is_used_from_time_to_time_stays() {
        let mut marks = Marks::new(10 * MIB);
        let bursts = [300 * MIB, 300 * MIB, 20 * MIB, 300 * MIB];
        assert!(!looks(&mut marks, bursts.into_iter().cycle().take(10 * LOOKS as usize)));
    }

    #[test]
    fn memory_that_cannot_be_given_back_is_not_tried_again() {
        let mut marks = Marks::new(200 * MIB);
        assert!(!looks(&mut marks, [210 * MIB; 2 * LOOKS as usize]));
        assert!(!looks(&mut marks, [150 * MIB]));
        assert!(looks(&mut marks, [200 * MIB; 2 * LOOKS as usize]), "less was unused for a moment");
    }

    #[test]
    #[cfg(target_env = "gnu")]
    fn lent_memory_counts_as_used() {
        let (before, lent) = (allocator::lent_bytes(), vec![1_u8; 64 * MIB]);
        assert!(allocator::lent_bytes() >= before + 60 * MIB, "{} before, {} lent", before, lent.len());
        allocator::give_back();
        assert!(lent.iter().all(|byte| *byte == 1));
    }
}
