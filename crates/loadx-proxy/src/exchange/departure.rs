//! Noticing that a client leaves while its request is under way.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::rc::Rc;
use std::task::{Poll, ready};

use crate::buffers::{Buffers, Input};
use crate::io::Broken;
use crate::net::Stream;

/// Waits until the client has left. The end of what it sends is taken for that: on the wire, closing and
/// half-closing look alike, and work for somebody who left is wasted.
///
/// What it sends instead stays in `input`. When that is full no more is read, and its leaving is noticed when the
/// response is written.
pub(super) async fn departure<S: Stream>(stream: &S, input: &mut Input, buffers: &Rc<Buffers>) -> Broken {
    poll_fn(|cx| {
        loop {
            if let Err(error) = ready!(stream.poll_readable(cx)) {
                return Poll::Ready(Broken::Failed(error));
            }
            let room = input.room(buffers);
            if room.is_empty() {
                return Poll::Pending;
            }
            match stream.try_read(room) {
                Ok(0) => return Poll::Ready(Broken::Closed),
                Ok(count) => input.filled(count),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    input.release_if_empty();
                }
                Err(error) => return Poll::Ready(Broken::Failed(error)),
            }
        }
    })
    .await
}
