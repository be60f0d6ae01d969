//! The number of written bytes that the peer has not confirmed (SIOCOUTQ, tcp(7)).
//!
//! The only unsafe code of the proxy: no library offers this call. Without the call, LoadX could not tell a client that
//! slowly reads the bytes in the send queue from a client that reads nothing.
#![expect(unsafe_code, reason = "no library offers this call; each use says why it is sound")]

use std::ffi::c_int;
use std::io;
use std::os::fd::AsFd;

use rustix::ioctl::{Getter, Opcode, ioctl};

/// The number of bytes in the send queue of `socket`: unsent bytes, and sent bytes without confirmation.
pub(super) fn unconfirmed(socket: impl AsFd) -> io::Result<u64> {
    const SIOCOUTQ: Opcode = libc::TIOCOUTQ as Opcode;
    // SAFETY: on a socket, SIOCOUTQ writes one int to the given address (tcp(7)), and has no other effect.
    let bytes = unsafe { ioctl(socket, Getter::<SIOCOUTQ, c_int>::new()) }?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    #[test]
    fn bytes_that_the_peer_has_read_leave_the_send_queue() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        near.set_nonblocking(true).unwrap();
        let mut written = 0;
        while let Ok(count) = near.write(&[0; 64 * 1024]) {
            written += count;
        }
        let held = unconfirmed(&near).unwrap();
        assert!(0 < held && held <= written as u64, "{held} of {written}");
        far.read_exact(&mut vec![0; written]).unwrap();
        while unconfirmed(&near).unwrap() > 0 {
            std::thread::yield_now();
        }
    }
}
