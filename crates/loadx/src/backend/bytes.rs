//! A response body of any length that needs little memory.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Bytes, HttpBody};

/// A number of bytes of the same letter.
pub(super) struct Filler {
    left: u64,
}

/// One piece of the body. All pieces are equal.
static PIECE: [u8; 64 * 1024] = [b'x'; 64 * 1024];

impl Filler {
    pub(super) fn new(count: u64) -> Self {
        Filler { left: count }
    }
}

impl HttpBody for Filler {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let length = self.left.min(PIECE.len() as u64);
        self.left -= length;
        Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from_static(&PIECE[..length as usize])))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.left)
    }
}
