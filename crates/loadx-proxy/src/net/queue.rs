//! How much of what was written the other end has not confirmed yet (SIOCOUTQ, tcp(7)).
//!
//! The only unsafe code of the proxy: no library offers this call, and without it a client that reads slowly, out of
//! what the system holds for it, looks like one that is gone.
#![expect(unsafe_code, reason = "the call is not to be had otherwise; each use says why it is sound")]

use std::ffi::c_int;
use std::io;
use std::os::fd::AsFd;

use rustix::ioctl::{Getter, Opcode, ioctl};

/// Bytes in the send queue of `socket`: not sent yet, or sent and not confirmed.
pub(super) fn unconfirmed(socket: impl AsFd) -> io::Result<u64> {
    const SIOCOUTQ: Opcode = libc::TIOCOUTQ as Opcode;
    // SAFETY: on a socket the kernel answers SIOCOUTQ with one int at the address that it is given (tcp(7)), and
    // does nothing else.
    let bytes = unsafe { ioctl(socket, Getter::<SIOCOUTQ, c_int>::new()) }?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    #[test]
    fn what_the_other_end_has_taken_is_not_counted_any_more() {
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
