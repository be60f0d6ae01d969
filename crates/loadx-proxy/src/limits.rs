//! All limits of the proxy that the config does not set, with their reasons. [`loadx_http::limits`] has the limits of
//! HTTP messages, [`loadx_core::Attempts`] the limits of retries. `/__status__` shows all of them.

use std::time::Duration;

/// The size of a read buffer, in bytes. An exchange with bodies needs two. Larger buffers need more cache and save few
/// system calls.
pub const BUFFER_BYTES: usize = 64 * 1024;

/// The size of the first read of a response, in bytes. The rest of a large response goes through a pipe without a copy,
/// so a larger first read would copy more.
pub const FIRST_READ_BYTES: usize = 16 * 1024;

/// The size of the first read of a message, in bytes, on a connection whose last message went through a pipe: as much as
/// a head, so that little content is copied.
pub const HEAD_READ_BYTES: usize = 2 * 1024;

/// The most spare buffers of each kind that a worker keeps; further buffers are freed.
pub const SPARE_BUFFERS_MAX: usize = 256;

/// The most spare buffers of a worker that have grown larger than a head; further ones are freed.
pub const SPARE_GROWN_BUFFERS_MAX: usize = 64;

/// The bytes of responses that a connection of HTTP/2 collects before they are written, and that wait at most while the client
/// does not read.
pub const H2_OUTPUT_BYTES: usize = 64 * 1024;

/// The bytes that a response in HTTP/2 sends before another response of the connection has a turn; four times as many for a response
/// that is of use only as a whole.
pub const H2_TURN_BYTES: usize = 16 * 1024;

/// The most bytes of heads of responses that wait for one exchange in HTTP/2: interim responses, and the final one.
pub const H2_HEADS_BYTES_MAX: usize = 64 * 1024;

/// The most exchanges that wait for one connection of HTTP/2 to be opened; for further ones another connection is opened.
pub const H2_OPENING_WAITERS_MAX: usize = 100;

/// How long a connection to a backend in HTTP/2 may have been silent when a request is sent without a PING beside it.
pub const H2_IDLE_BEFORE_PING: Duration = Duration::from_secs(1);

/// The silences of a connection to a backend in HTTP/2 with running exchanges after which LoadX sends a PING: the first, the second
/// and all further. Servers of gRPC end a connection with more than two PINGs within five minutes of silence.
pub const H2_PINGS: [Duration; 3] = [Duration::from_secs(10), Duration::from_secs(30), Duration::from_secs(300)];

/// The silence of a client in HTTP/2 with running exchanges after which LoadX sends a PING, so that exchanges without content, such as
/// streams of gRPC, do not go on for a client that is gone.
pub const H2_CLIENT_SILENCE: Duration = Duration::from_secs(60);

/// How long a client may take to answer a PING before its connection counts as dead.
pub const H2_CLIENT_PONG: Duration = Duration::from_secs(20);

/// How long a backend may take to answer a PING before its connection counts as dead.
pub const H2_PONG: Duration = Duration::from_secs(5);

/// The interval in which a request of HTTP/2 that waits for room looks whether requests of other connections have made room.
pub const H2_START_LOOK: Duration = Duration::from_millis(100);

/// The most times that a connection of HTTP/2 reads, serves and writes before the worker serves its other connections again.
pub const H2_ROUNDS_MAX: usize = 8;

/// The number of bytes that a body moves before its task yields to other connections: a body that is always readable
/// and writable would never wait.
pub const RELAY_TURN_BYTES: u64 = 512 * 1024;

/// The number of bytes before a yield for a body that goes through a pipe, which takes a quarter of the time.
pub const SPLICE_TURN_BYTES: u64 = 4 * RELAY_TURN_BYTES;

/// The smallest rest of a body, in bytes, that goes through a pipe instead of a buffer. A smaller rest fits a buffer
/// and needs one write; a pipe needs two file descriptors.
pub const SPLICE_BYTES_MIN: u64 = 32 * 1024;

/// A body that delivers less than this at once, in bytes, goes through a buffer again until it fills a buffer.
pub const TRICKLE_BYTES_MAX: usize = 8 * 1024;

/// The capacity of a pipe, in bytes; the default maximum of Linux for processes without privileges.
pub const PIPE_BYTES: usize = 1024 * 1024;

/// The most pipes of a worker; further bodies are copied.
pub const PIPES_MAX: usize = 64;

/// The largest body, in bytes, that is copied behind the head, so that both leave in one write from one buffer.
pub const COPY_BEHIND_HEAD_BYTES_MAX: usize = 8 * 1024;

/// The most idle connections of a worker to one backend; further connections are closed.
pub const IDLE_PER_BACKEND_MAX: usize = 1_024;

/// The number of connections to one backend that have returned since the last poll of the system. With fewer, a worker
/// opens a connection rather than reuse one of them.
pub const COOLING_PER_BACKEND_MAX: usize = 256;

/// How long a connection is idle before it is parked. Longer than the pauses of a client that sends many requests per
/// second, shorter than the pauses of a person.
pub const REST_AFTER: Duration = Duration::from_millis(500);

/// How long a client may send nothing of its request while the response goes on. The times of the response and of the exchange limit the
/// whole.
pub const UPLOAD_BESIDE_RESPONSE: Duration = Duration::from_secs(365 * 24 * 3_600);

/// The most interim (1xx) responses of one exchange.
pub const INTERIM_RESPONSES_MAX: usize = 100;

/// The interval in which a worker looks for connections that have been idle for too long.
pub const IDLE_LOOK: Duration = Duration::from_millis(500);

/// The length of the slots by which idle connections expire. A connection is closed at most a slot and an [`IDLE_LOOK`] late.
pub const IDLE_SLOT: Duration = Duration::from_millis(250);

/// The most bytes that LoadX reads and discards in a lingering close, so that the response reaches a client that still
/// sends (RFC 9112, section 9.6).
pub const LINGER_BYTES_MAX: usize = 1024 * 1024;

/// The longest time of a lingering close.
pub const LINGER: Duration = Duration::from_secs(2);

/// How long the sockets of a removed listener may take to close before the next config is applied.
pub const LISTENER_CLOSE: Duration = Duration::from_secs(1);

/// The interval in which a worker that accepts no more clients looks whether its last client has left.
pub const DESERTED_LOOK: Duration = Duration::from_secs(1);

/// The most bytes of content that go into records of TLS, and out in one write, at once.
pub const TLS_WRITE_BYTES: usize = 64 * 1024;

/// The most bytes of records that one read of a TLS connection takes.
pub const TLS_READ_BYTES: usize = 64 * 1024;

/// The bytes that a read of a TLS connection takes beyond the room for content: the headers and tags of some records.
pub const TLS_RECORD_OVERHEAD: usize = 512;

/// The bytes of one read during a handshake. Most first messages of clients are smaller.
pub const TLS_HELLO_READ_BYTES: usize = 4 * 1024;

/// The longest time of a handshake of TLS with a client, from the connection on.
pub const TLS_HANDSHAKE: Duration = Duration::from_secs(10);

/// The longest time in which a header of the PROXY protocol must arrive, from the connection on.
pub const PROXY_HEADER: Duration = Duration::from_secs(5);

/// The most bytes of a header of the PROXY protocol. A header with all known information takes some hundred bytes.
pub const PROXY_HEADER_BYTES_MAX: usize = 4 * 1024;

/// The most looks at the same time for answers to authorities that another LoadX gave.
pub const CHALLENGE_LOOKS_MAX: usize = 4;

/// The most computations of handshakes of a worker before the worker serves its other connections again. A computation
/// takes up to a third of a millisecond.
pub const HANDSHAKES_PER_TURN: usize = 4;

/// The interval in which control looks whether the files of certificates have changed.
pub const CERTIFICATE_LOOK: Duration = Duration::from_secs(2);

/// How long the rest of a request head may take to arrive when LoadX stops or the listener was removed.
pub const HEAD_AT_END: Duration = Duration::from_secs(1);

/// The most bytes of a refused start line in the access log.
pub const REFUSED_LINE_BYTES_MAX: usize = 256;

/// The most bytes of a request field in the access log.
pub const LOGGED_FIELD_BYTES_MAX: usize = 1_024;

/// The most unsent bytes that the system buffers for a client; the backend keeps the rest. A smaller limit needs more
/// writes: with 256 KiB, a response of 100 MiB costs 13 % more CPU.
pub const UNSENT_BYTES_MAX: u32 = 1024 * 1024;

/// The longest interval between two checks of the send queue of a stream that is not writable.
pub const LOOK_AFTER_MAX: Duration = Duration::from_secs(1);

/// The most events of one poll of the system. Should include all ready streams: the pool treats a connection as silent
/// if a poll has not reported it.
pub const EVENTS_PER_POLL_MAX: usize = 8_192;

/// The most connections that wait to be accepted, per worker. The kernel's limit applies too.
pub const ACCEPT_BACKLOG: i32 = 4_096;

/// The places for clients beyond `max_connections`, so that the status endpoints answer, and other clients get 503, when all
/// places are taken.
pub const SPARE_PLACES: usize = 64;

/// For how long no place came free before clients get spare places. A place that comes free sooner is worth waiting for; a
/// lingering close ([`LINGER`]) is sooner.
pub const SPARE_AFTER: Duration = Duration::from_secs(3);

/// The share of the memory, in percent, beyond which LoadX takes no new work. The rest is for what runs.
pub const MEMORY_TIGHT_PERCENT: u64 = 90;

/// The share of the memory, in percent, down to which LoadX takes no new work then.
pub const MEMORY_WIDE_PERCENT: u64 = 80;

/// How long a worker waits after a failed accept, for example for lack of file descriptors.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The shortest time between two log lines about failed accepts.
pub const ACCEPT_QUIET: Duration = Duration::from_secs(10);

/// The most queued reports and the most queued questions from workers to control. A further report is dropped, because
/// the next failure reports again; a further question waits.
pub const CONTROL_QUEUE_MAX: usize = 1_024;

/// The most events that wait for an operator who follows the events; a slower operator loses the oldest events.
pub const EVENTS_MAX: usize = 1_024;

/// The most probes at the same time; further probes wait.
pub const PROBES_MAX: usize = 256;

/// The most bytes of content that LoadX reads of the response to a probe.
pub const PROBE_CONTENT_BYTES_MAX: usize = 64 * 1024;

/// The shortest time between two look-ups of a backend's name, whatever the time to live in DNS, so that a time to live
/// of 0 causes no flood of look-ups.
pub const RESOLVE_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// The longest time between two look-ups of a backend's name, whatever the time to live in DNS, so that LoadX finds a
/// backend that moved.
pub const RESOLVE_INTERVAL_MAX: Duration = Duration::from_secs(10);

/// The time between two look-ups of a name that does not resolve, or whose backend is down and may have moved.
pub const RESOLVE_IN_DOUBT: Duration = Duration::from_secs(2);

/// How long LoadX waits at its start for names to resolve, before it serves without the unresolved backends.
pub const RESOLVE_AT_START: Duration = Duration::from_secs(3);

/// Replaces [`RESOLVE_AT_START`] if some backends have an address without a look-up.
pub const RESOLVE_BESIDE_OTHERS: Duration = Duration::from_millis(200);

/// The most addresses of one backend.
pub const ADDRESSES_MAX: usize = 16;

/// How long control waits for the counts of a worker before it answers without them.
pub const MEASURE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a worker collects lines of the access log before it sends the batch to the writing thread.
pub const LOG_FLUSH_INTERVAL: Duration = Duration::from_millis(10);
/// The size of a batch of the access log, in bytes, at which a worker sends the batch at once.
pub const LOG_BATCH_BYTES: usize = 32 * 1024;

/// The interval in which the writing thread checks that the file of the access log was not renamed or removed.
pub const LOG_ROTATION_LOOK: Duration = Duration::from_secs(1);

/// How long LoadX waits for the writing thread to reopen the file of the access log.
pub const LOG_REOPEN: Duration = Duration::from_secs(5);

/// The most batches that wait for the writing thread, over all workers. Further lines are lost and counted.
pub const LOG_BATCHES_MAX: usize = 256;

/// The most written batches that are kept for reuse.
pub const LOG_SPARE_BATCHES_MAX: usize = 8;

/// The interval in which a pending connect checks that its backend is still in rotation.
pub const CONNECT_LOOK: Duration = Duration::from_secs(1);

/// The most copies for mirrors that a worker has in progress; further requests are not copied.
pub const MIRRORS_MAX: usize = 64;

/// The most bytes of a mirror's response that LoadX reads before it closes the connection.
pub const MIRROR_RESPONSE_BYTES_MAX: usize = 1024 * 1024;

/// How long LoadX waits at its end for the last write of the access log.
pub const LOG_LAST_WRITE: Duration = Duration::from_secs(2);

/// The most open pages of the dashboard.
pub const LIVE_PAGES_MAX: usize = 32;

/// The interval in which open pages get a message.
pub const LIVE_INTERVAL: Duration = Duration::from_secs(1);

/// The longest pause between two measurements that are compared.
pub const LIVE_PAUSE_MAX: Duration = Duration::from_secs(5);

/// The messages that wait for a page which reads slowly; older ones are lost.
pub const LIVE_MESSAGES_MAX: usize = 4;

/// The seconds of history that a page gets when it opens.
pub const LIVE_MOMENTS_MAX: usize = 300;

/// The events that a page shows.
pub const LIVE_EVENTS_MAX: usize = 50;

/// The most backends that a page shows, of all clusters together.
pub const LIVE_BACKENDS_MAX: usize = 250;

/// What pages want of backends at the same time.
pub const LIVE_ACTIONS_MAX: usize = 16;

/// The explanations of requests that each worker keeps.
pub const EXPLANATIONS_MAX: usize = 64;

/// The routes that an explanation names.
pub const ROUTES_EXPLAINED_MAX: usize = 100;

/// The spans that a worker collects before it hands them on; it also does so at each [`IDLE_LOOK`].
pub const SPANS_BATCH: usize = 128;

/// The batches of spans that wait to be sent; further ones are lost.
pub const SPAN_BATCHES_MAX: usize = 256;

/// The longest text of a client in a span, in bytes.
pub const SPAN_TEXT_BYTES_MAX: usize = 1_024;
