//! Flow control (RFC 9113, section 5.2 and 6.9): how much content each side may send.

use super::fault::{Code, Fault};
use crate::limits::h2::STREAM_WINDOW;

/// The largest window, in bytes.
pub const WINDOW_MAX: u32 = (1 << 31) - 1;

/// What LoadX may still send, on a stream or on the whole connection.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct SendWindow {
    left: i64,
    /// The largest that the window has been.
    most: i64,
}

impl SendWindow {
    /// The window that the other side gave, in bytes.
    pub fn new(bytes: u32) -> Self {
        SendWindow { left: bytes.into(), most: bytes.into() }
    }

    /// How much may be sent now, in bytes. Nothing while the other side has made windows smaller than what is under way.
    pub fn available(self) -> usize {
        usize::try_from(self.left).unwrap_or(0)
    }

    /// Takes what is sent. `bytes` is at most [`available`](Self::available).
    pub fn take(&mut self, bytes: usize) {
        self.left -= bytes as i64;
    }

    /// Makes the window larger. `stream`: 0 for the connection. Returns whether the window is larger than ever; otherwise the other
    /// side returns what LoadX has sent.
    ///
    /// # Errors
    /// A fault of the stream or of the connection when the window would be too large (RFC 9113, section 6.9.1).
    pub fn open(&mut self, stream: u32, increment: u32) -> Result<bool, Fault> {
        self.left += i64::from(increment);
        const REASON: &str = "a window is larger than a window may be";
        match self.left > i64::from(WINDOW_MAX) {
            true if stream == 0 => Err(Fault::Connection(Code::FlowControlError, REASON)),
            true => Err(Fault::Stream(stream, Code::FlowControlError, REASON)),
            false => {
                let is_largest = self.left > self.most;
                self.most = self.most.max(self.left);
                Ok(is_largest)
            }
        }
    }

    /// Follows a change of SETTINGS_INITIAL_WINDOW_SIZE, which changes the windows of all open streams, and can make them
    /// smaller than nothing (RFC 9113, section 6.9.2).
    ///
    /// # Errors
    /// A fault of the connection when the window would be too large.
    pub fn follow(&mut self, former: u32, now: u32) -> Result<(), Fault> {
        let change = i64::from(now) - i64::from(former);
        self.left += change;
        self.most += change;
        match self.left > i64::from(WINDOW_MAX) {
            true => {
                let reason = "SETTINGS_INITIAL_WINDOW_SIZE makes a window larger than a window may be";
                Err(Fault::Connection(Code::FlowControlError, reason))
            }
            false => Ok(()),
        }
    }
}

/// What the other side may still send, on a stream or on the whole connection.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ReceiveWindow {
    /// What LoadX wants the other side to have at most, in bytes.
    target: u32,
    /// What the other side may still send.
    left: u32,
    /// What LoadX has passed on, and has not given back yet.
    passed: u32,
}

impl ReceiveWindow {
    /// A window of this size, which the other side knows already.
    pub fn new(target: u32) -> Self {
        ReceiveWindow { target, left: target, passed: 0 }
    }

    /// Takes received content with its padding. `stream`: 0 for the connection.
    ///
    /// # Errors
    /// A fault of the stream or of the connection when the other side sends more than the window allows.
    pub fn receive(&mut self, stream: u32, bytes: usize) -> Result<(), Fault> {
        const REASON: &str = "the other side sends more than the window allows";
        let left = u32::try_from(bytes).ok().and_then(|bytes| self.left.checked_sub(bytes));
        self.left = match left {
            Some(left) => left,
            None if stream == 0 => return Err(Fault::Connection(Code::FlowControlError, REASON)),
            None => return Err(Fault::Stream(stream, Code::FlowControlError, REASON)),
        };
        Ok(())
    }

    /// Notes that so much of the received content no longer takes memory. Returns the increment for a WINDOW_UPDATE when enough
    /// has come together: a frame for each piece of content would cost both sides more than the content.
    pub fn pass(&mut self, bytes: usize) -> Option<u32> {
        self.passed += bytes as u32;
        // Half the window of one stream, also on the connection: streams whose content LoadX holds may leave no more to the others.
        let is_due = self.passed >= self.target.min(STREAM_WINDOW) / 2 && self.passed > 0;
        is_due.then(|| {
            let increment = std::mem::take(&mut self.passed);
            self.left += increment;
            increment
        })
    }

    /// What the other side can have under way or LoadX can hold at most, in bytes.
    pub fn target(self) -> u32 {
        self.target
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn windows_open_close_and_shrink_below_nothing() {
        let mut window = SendWindow::new(100);
        window.take(60);
        assert_eq!(window.available(), 40);
        window.follow(100, 10).unwrap();
        assert_eq!(window.available(), 0, "60 bytes are under way, and 10 are allowed");
        window.open(1, 50).unwrap();
        assert_eq!(window.available(), 0);
        window.open(1, 1).unwrap();
        assert_eq!(window.available(), 1);
        assert!(matches!(window.open(1, WINDOW_MAX), Err(Fault::Stream(1, Code::FlowControlError, _))));
        let mut window = SendWindow::new(65_535);
        assert!(matches!(window.open(0, WINDOW_MAX), Err(Fault::Connection(Code::FlowControlError, _))));
        let mut window = SendWindow::new(0);
        window.open(1, WINDOW_MAX).unwrap();
        assert!(matches!(window.follow(0, 1), Err(Fault::Connection(Code::FlowControlError, _))));
    }

    #[test]
    fn more_than_the_window_is_a_fault() {
        let mut window = ReceiveWindow::new(100);
        window.receive(3, 100).unwrap();
        assert!(matches!(window.receive(3, 1), Err(Fault::Stream(3, Code::FlowControlError, _))));
        assert!(matches!(window.receive(0, 1), Err(Fault::Connection(Code::FlowControlError, _))));
        assert_eq!(window.pass(49), None);
        assert_eq!(window.pass(1), Some(50));
        window.receive(3, 50).unwrap();
        assert!(window.receive(3, 1).is_err());
    }

    proptest! {
        /// Whatever pieces come and are passed on: the other side never has more than the target, and never stands still for
        /// ever while LoadX passes everything on.
        #[test]
        fn windows_never_grow_and_never_stall(target in 1u32..100_000, pieces in proptest::collection::vec(1usize..20_000, 1..200)) {
            let mut window = ReceiveWindow::new(target);
            // What the sender believes that it may send.
            let mut sender = SendWindow::new(target);
            for piece in pieces {
                let piece = piece.min(sender.available());
                prop_assert!(piece > 0);
                sender.take(piece);
                prop_assert_eq!(window.receive(1, piece), Ok(()));
                if let Some(increment) = window.pass(piece) {
                    prop_assert!(increment > 0);
                    prop_assert_eq!(sender.open(1, increment), Ok(false), "more than was sent");
                }
                prop_assert!(sender.available() <= target as usize);
            }
        }
    }
}
