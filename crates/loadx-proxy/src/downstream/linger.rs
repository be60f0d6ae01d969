//! Closes connections of clients so that clients get what was sent.

use crate::buffers::Input;
use crate::context::Worker;
use crate::io::{Waiting, fill};
use crate::limits::{LINGER, LINGER_BYTES_MAX};
use crate::net::{Network, Stream};
use crate::patience::Patience;
use crate::timer::Timer;

/// Closes a connection after the client has read the response. An immediate close would make the system reset the connection
/// when the client sends more, and the client could lose the response (RFC 9112, section 9.6).
pub(crate) async fn linger<N: Network>(stream: &impl Stream, worker: &Worker<N>, timer: &Timer) {
    stream.shut_write();
    let patience = Patience::total(LINGER);
    let mut left = LINGER_BYTES_MAX;
    let mut rest = Input::default();
    while left > 0 {
        let waiting = Waiting { timer, buffers: &worker.buffers };
        match fill(stream, &mut rest, waiting, &patience).await {
            Ok(0) | Err(_) => return,
            Ok(count) => {
                left = left.saturating_sub(count);
                rest.consume(count);
            }
        }
    }
}
