//! What a cache line costs that more than one core writes: measured on two processors, and computed for many workers.

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::Trouble;
use crate::processes::pin;

/// A number alone on its cache lines, as the counts that workers share.
#[derive(Default)]
#[repr(align(128))]
struct Line(AtomicU64);

const TIMES: u64 = 4_000_000;
const ROUNDS: usize = 7;

/// The workers and their requests per second in the computed table.
const WORKERS: u64 = 64;
const REQUESTS: u64 = 100_000;

/// The times to move a line between cores for which the table is computed, in ns: within a group of cores that share a cache, within
/// a socket, and between sockets.
const MOVES: [f64; 3] = [30.0, 80.0, 200.0];

/// Prints both tables.
pub(crate) fn run() -> Result<(), Trouble> {
    println!("| writes of a line | ns per write of one core |\n|---|---|");
    println!("| one core | {:.1} |", median(|| written(1, true))?);
    println!("| two cores, each its own line | {:.1} |", median(|| written(2, false))?);
    println!("| two cores, one line, as fast as they can | {:.1} |", median(|| written(2, true))?);
    println!("| two cores, by turns: each waits for the write of the other | {:.1} |", median(handed_over)?);
    println!(
        "\n{WORKERS} workers with {REQUESTS} requests/s each; how busy the line is, and how long a write takes:\n"
    );
    print!("| what | writes per request |");
    MOVES.iter().for_each(|move_ns| print!(" {move_ns:.0} ns to move the line |"));
    println!("\n|---|---|{}", "---|".repeat(MOVES.len()));
    let tickets = [1.0, 4.0, 16.0, 64.0].map(|batch| (format!("tickets, {batch} at once"), 1.0 / batch));
    // An exchange writes the count of its backend twice.
    let backends =
        [2.0, 8.0, 64.0].map(|backends| (format!("in-flight count of one of {backends} backends"), 2.0 / backends));
    for (what, per_request) in tickets.into_iter().chain(backends) {
        let rate = (WORKERS * REQUESTS) as f64 * per_request;
        print!("| {what} | {per_request:.3} |");
        for move_ns in MOVES {
            let took = took(rate, move_ns).map_or_else(|| "without end".to_owned(), |ns| format!("{ns:.0} ns"));
            print!(" {:.0} %, {took} |", 100.0 * rate * move_ns / 1e9);
        }
        println!();
    }
    Ok(())
}

/// The mean time from the begin of a write until the core has the line and has written, in ns: a queue with random arrivals and
/// a constant time of service (M/D/1). None beyond the capacity.
fn took(rate: f64, move_ns: f64) -> Option<f64> {
    let busy = rate * move_ns / 1e9;
    (busy < 1.0).then(|| move_ns + move_ns * busy / (2.0 * (1.0 - busy)))
}

fn median(mut measure: impl FnMut() -> Result<f64, Trouble>) -> Result<f64, Trouble> {
    let mut all = (0..ROUNDS).map(|_| measure()).collect::<Result<Vec<_>, _>>()?;
    all.sort_by(f64::total_cmp);
    Ok(all[ROUNDS / 2])
}

/// The ns per write of a core when `cores` cores write as fast as they can.
fn written(cores: usize, is_shared: bool) -> Result<f64, Trouble> {
    let lines: [Line; 2] = Default::default();
    on_cores(cores, |core| {
        let line = if is_shared { &lines[0] } else { &lines[core] };
        for _ in 0..TIMES {
            black_box(line.0.fetch_add(1, Ordering::Relaxed));
        }
    })
}

/// The ns from the write of one core until the other has seen it and written.
fn handed_over() -> Result<f64, Trouble> {
    let line = Line::default();
    on_cores(2, |core| {
        for turn in 0..TIMES / 2 {
            while line.0.load(Ordering::Relaxed) != 2 * turn + core as u64 {}
            line.0.fetch_add(1, Ordering::Relaxed);
        }
    })
}

/// Runs `work` on the first `cores` processors at the same time. Returns the ns of the longest, divided by [`TIMES`].
fn on_cores(cores: usize, work: impl Fn(usize) + Sync) -> Result<f64, Trouble> {
    let start = Barrier::new(cores);
    let took = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores)
            .map(|core| {
                let (work, start) = (&work, &start);
                scope.spawn(move || {
                    let pinned =
                        pin(core).map_err(|error| format!("processor {core} is needed and cannot be used: {error}"));
                    start.wait();
                    let began = Instant::now();
                    work(core);
                    pinned.map(|()| began.elapsed())
                })
            })
            .collect();
        let all = threads.into_iter().map(|thread| thread.join().map_err(|_| "a thread panicked".to_owned())?);
        all.collect::<Result<Vec<_>, String>>()
    })?;
    let longest = took.into_iter().max().unwrap_or_default();
    Ok(longest.as_nanos() as f64 / TIMES as f64)
}
