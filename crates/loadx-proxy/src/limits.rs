//! Every bound of the proxy that the config does not set, with its reason. Those of HTTP messages are
//! in [`loadx_http::limits`], those of retries in [`loadx_core::Attempts`]. `/__status__` shows them.

use std::time::Duration;

/// A buffer that reads go to, in bytes. Two of them serve an exchange that has a body. Larger ones
/// cost cache and save few system calls.
pub const BUFFER_BYTES: usize = 64 * 1024;

/// What is read at first of a response, in bytes. Of a large one the rest goes through a pipe, and what was read is
/// copied.
pub const FIRST_READ_BYTES: usize = 16 * 1024;

/// Buffers that a worker keeps for the next exchange; those beyond are freed.
pub const SPARE_BUFFERS_MAX: usize = 256;

/// What a body may move, in bytes, before its worker looks at its other connections: one that always has
/// more to read and room to write would never wait by itself.
pub const RELAY_TURN_BYTES: u64 = 512 * 1024;

/// The same for a body that goes through a pipe, which takes the worker a fourth of the time.
pub const SPLICE_TURN_BYTES: u64 = 4 * RELAY_TURN_BYTES;

/// What is left of a body, in bytes, from which on it goes through a pipe instead of a buffer, where both sides
/// are plain TCP. A pipe costs two further descriptors, and what is smaller fits a buffer and leaves in one write.
pub const SPLICE_BYTES_MIN: u64 = 64 * 1024;

/// With less than this at once, in bytes, a body goes through a buffer again, until one is filled.
pub const TRICKLE_BYTES_MAX: usize = 8 * 1024;

/// What a pipe holds, in bytes; the system's own limit for anybody without privileges.
pub const PIPE_BYTES: usize = 1024 * 1024;

/// Pipes that a worker has in use or spare; beyond, bodies are copied.
pub const PIPES_MAX: usize = 64;

/// A body up to this size is copied behind the head, to leave in one piece with it.
pub const COPY_BEHIND_HEAD_BYTES_MAX: usize = 8 * 1024;

/// Idle connections that a worker keeps to one backend.
pub const IDLE_PER_BACKEND_MAX: usize = 1_024;

/// Connections to one backend that came back in this turn of a worker's loop: with fewer another one is opened
/// rather than one of these used.
pub const COOLING_PER_BACKEND_MAX: usize = 256;

/// How soon a client must ask again to be served from where it was; otherwise what serving it takes is given
/// up until it does. Long enough for who asks many times a second, short against a person's pause.
pub const REST_AFTER: Duration = Duration::from_millis(500);

/// Interim (1xx) responses of one exchange; more is a flood.
pub const INTERIM_RESPONSES_MAX: usize = 100;

/// What a client that is refused may still send before its connection is cut, so that the refusal
/// reaches it (RFC 9112, section 9.6).
pub const LINGER_BYTES_MAX: usize = 1024 * 1024;

/// How long a client that is refused may still send.
pub const LINGER: Duration = Duration::from_secs(2);

/// Of a start line that is refused, how much the access log shows, in bytes.
pub const REFUSED_LINE_BYTES_MAX: usize = 256;

/// Of a field of the request that the access log shows, how much, in bytes.
pub const LOGGED_FIELD_BYTES_MAX: usize = 1_024;

/// What the system holds for a client beyond what its connection takes, in bytes; the rest waits at the
/// backend. With less, large responses take more turns: 256 KiB cost 13 % of the CPU of 100 MiB.
pub const UNSENT_BYTES_MAX: u32 = 1024 * 1024;

/// How long a side may not be ready for more before the system is asked whether it takes what it was sent.
pub const LOOK_AFTER_MAX: Duration = Duration::from_secs(1);

/// What the runtime hears of in one poll of the system, at most. It should be all that there is: what is idle is
/// believed to be silent when a poll has told nothing else.
pub const EVENTS_PER_POLL_MAX: usize = 8_192;

/// Connections waiting to be accepted, a worker. The kernel's own limit applies too.
pub const ACCEPT_BACKLOG: i32 = 4_096;

/// How long a worker waits after accepting failed for want of file descriptors or memory.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Between two lines of the log about clients that cannot be accepted.
pub const ACCEPT_QUIET: Duration = Duration::from_secs(10);

/// Reports and questions from workers that wait for control, each; a report beyond is dropped (the
/// next failure reports again), a question waits.
pub const CONTROL_QUEUE_MAX: usize = 1_024;

/// Probes that run at the same time; the others wait for a place.
pub const PROBES_MAX: usize = 256;

/// Between two look-ups of a backend's name, whatever DNS says of how long its answer holds: not more
/// often, so that a time to live of 0 is no flood, and not more seldom, so that a backend that moved is
/// found.
pub const RESOLVE_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// See [`RESOLVE_INTERVAL_MIN`].
pub const RESOLVE_INTERVAL_MAX: Duration = Duration::from_secs(10);

/// Between two look-ups of a name that does not resolve, or whose backend is down: it may be back
/// elsewhere.
pub const RESOLVE_IN_DOUBT: Duration = Duration::from_secs(2);

/// How long a start waits for names to resolve before it serves without those that have not.
pub const RESOLVE_AT_START: Duration = Duration::from_secs(3);

/// The same, when some backends have an address without asking.
pub const RESOLVE_BESIDE_OTHERS: Duration = Duration::from_millis(200);

/// Addresses of one backend that are tried and kept.
pub const ADDRESSES_MAX: usize = 16;

/// How long control waits for a worker's measurements before it answers without them.
pub const MEASURE_TIMEOUT: Duration = Duration::from_secs(1);

/// Lines of the access log collect in a worker this long, in time and bytes, before they leave it.
pub const LOG_FLUSH_INTERVAL: Duration = Duration::from_millis(10);
/// See [`LOG_FLUSH_INTERVAL`].
pub const LOG_BATCH_BYTES: usize = 32 * 1024;

/// Batches that wait for the disk, over all workers; lines beyond are lost and counted.
pub const LOG_BATCHES_MAX: usize = 256;

/// Batches that were written and are kept to be filled again.
pub const LOG_SPARE_BATCHES_MAX: usize = 8;

/// While a connect to a backend takes its time: how often is looked whether that backend is still in
/// rotation.
pub const CONNECT_LOOK: Duration = Duration::from_secs(1);

/// Copies of requests for mirrors that a worker has under way; beyond, requests are not copied.
pub const MIRRORS_MAX: usize = 64;

/// What is read of a mirror's response before its connection is closed, in bytes.
pub const MIRROR_RESPONSE_BYTES_MAX: usize = 1024 * 1024;

/// How long the end of LoadX waits for the last lines of the access log to be written.
pub const LOG_LAST_WRITE: Duration = Duration::from_secs(2);
