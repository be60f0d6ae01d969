//! The connection between a LoadX and the process that takes over: messages as JSON, and descriptors.

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest message, in bytes: a config of 20,000 backends with the health of each.
const MESSAGE_BYTES_MAX: u32 = 64 * 1024 * 1024;

/// The descriptors that travel at once; Linux permits 253.
const BATCH: usize = 64;

/// One end of the connection.
#[derive(Debug)]
pub(super) struct Channel(UnixStream);

impl Channel {
    pub(super) fn new(stream: UnixStream) -> Self {
        Channel(stream)
    }

    /// Sets the longest time for the next steps of the other process.
    pub(super) fn limit(&self, time: Duration) -> io::Result<()> {
        self.0.set_read_timeout(Some(time))?;
        self.0.set_write_timeout(Some(time))
    }

    /// Waits without limit for the other process.
    pub(super) fn wait_for_ever(&self) -> io::Result<()> {
        self.0.set_read_timeout(None)?;
        self.0.set_write_timeout(None)
    }

    /// Ends both directions.
    pub(super) fn shut(&self) {
        // Fails only if the other process has ended.
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }

    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(Channel(self.0.try_clone()?))
    }

    pub(super) fn send(&mut self, message: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        let length = u32::try_from(text.len()).ok().filter(|length| *length <= MESSAGE_BYTES_MAX);
        let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the message is too long"))?;
        self.0.write_all(&length.to_be_bytes())?;
        self.0.write_all(&text)
    }

    pub(super) fn receive<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length);
        if length > MESSAGE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no message of a LoadX"));
        }
        let mut text = vec![0; length as usize];
        self.0.read_exact(&mut text)?;
        Ok(serde_json::from_slice(&text)?)
    }

    pub(super) fn send_descriptors(&self, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        for batch in descriptors.chunks(BATCH) {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(batch));
            // Descriptors need a byte to travel with.
            sendmsg(&self.0, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?;
        }
        Ok(())
    }

    pub(super) fn receive_descriptors(&self, count: usize) -> io::Result<Vec<OwnedFd>> {
        let mut descriptors = Vec::new();
        while descriptors.len() < count {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut byte = [0];
            let received = recvmsg(&self.0, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
            let before = descriptors.len();
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(some) = message {
                    descriptors.extend(some);
                }
            }
            if received.bytes == 0 || descriptors.len() == before {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(descriptors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::fd::AsFd as _;

    #[test]
    fn messages_and_many_descriptors_arrive_in_their_order() {
        let (near, far) = UnixStream::pair().unwrap();
        let (mut near, mut far) = (Channel::new(near), Channel::new(far));
        let listeners: Vec<TcpListener> = (0..150).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<u16> = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        near.send(&"before").unwrap();
        near.send_descriptors(&listeners.iter().map(|listener| listener.as_fd()).collect::<Vec<_>>()).unwrap();
        near.send(&"after").unwrap();
        assert_eq!(far.receive::<String>().unwrap(), "before");
        let received = far.receive_descriptors(150).unwrap();
        let received: Vec<u16> =
            received.into_iter().map(|fd| TcpListener::from(fd).local_addr().unwrap().port()).collect();
        assert_eq!(received, ports);
        assert_eq!(far.receive::<String>().unwrap(), "after");
        drop(near);
        assert!(far.receive::<String>().is_err() && far.receive_descriptors(1).is_err());
    }
}
