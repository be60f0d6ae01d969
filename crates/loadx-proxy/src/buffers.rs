//! The buffers of a worker, lent to exchanges. An idle connection has no buffer.

use std::cell::{Cell, RefCell, RefMut};
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use loadx_http::limits::HEAD_BYTES_MAX;
use loadx_http::{FieldSlots, RequestHead};

use crate::limits::{BUFFER_BYTES, SPARE_BUFFERS_MAX, SPARE_GROWN_BUFFERS_MAX};

/// The smallest capacity of a head buffer, in bytes.
const HEAD_BUFFER_BYTES: usize = 2_048;

/// The spare buffers of one worker.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    blocks: RefCell<Vec<Box<[u8]>>>,
    heads: RefCell<Vec<Vec<u8>>>,
    /// Head buffers that have grown larger than a head.
    grown: RefCell<Vec<Vec<u8>>>,
    #[expect(clippy::vec_box, reason = "moving a box copies 8 bytes, moving a head copies 300")]
    requests: RefCell<Vec<Box<RequestHead>>>,
    /// The fields of the response that is being read.
    fields: RefCell<FieldSlots>,
    /// The number of lent blocks and head buffers.
    lent: Cell<usize>,
}

impl Buffers {
    /// A block of [`BUFFER_BYTES`] to read into. Contains bytes of its former use.
    pub(crate) fn block(self: &Rc<Self>) -> Block {
        let bytes = self.blocks.borrow_mut().pop().unwrap_or_else(|| vec![0; BUFFER_BYTES].into_boxed_slice());
        self.lent.set(self.lent.get() + 1);
        Block { bytes, owner: Rc::clone(self) }
    }

    /// An empty, growable buffer to write a head into.
    pub(crate) fn head(self: &Rc<Self>) -> HeadBuffer {
        self.lend(self.heads.borrow_mut().pop())
    }

    /// As [`head`](Self::head), for content that may be as large as a [`block`](Self::block).
    pub(crate) fn growing(self: &Rc<Self>) -> HeadBuffer {
        let grown = self.grown.borrow_mut().pop();
        self.lend(grown.or_else(|| self.heads.borrow_mut().pop()))
    }

    fn lend(self: &Rc<Self>, spare: Option<Vec<u8>>) -> HeadBuffer {
        self.lent.set(self.lent.get() + 1);
        HeadBuffer { bytes: spare.unwrap_or_else(|| Vec::with_capacity(HEAD_BUFFER_BYTES)), owner: Rc::clone(self) }
    }

    /// A request head to parse into. Contains the head of its former use.
    pub(crate) fn request(self: &Rc<Self>) -> LentRequest {
        let head = self.requests.borrow_mut().pop().unwrap_or_default();
        LentRequest { head: Some(head), owner: Rc::clone(self) }
    }

    /// Memory to read the fields of a response head into, until the head is encoded. The worker reads one at a time.
    pub(crate) fn fields(&self) -> RefMut<'_, FieldSlots> {
        self.fields.borrow_mut()
    }

    /// The number of lent buffers.
    pub(crate) fn lent(&self) -> usize {
        self.lent.get()
    }
}

/// A lent block. Returns to [`Buffers`] on drop.
#[derive(Debug)]
pub(crate) struct Block {
    bytes: Box<[u8]>,
    owner: Rc<Buffers>,
}

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Block {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.owner.lent.set(self.owner.lent.get() - 1);
        let mut spare = self.owner.blocks.borrow_mut();
        if spare.len() < SPARE_BUFFERS_MAX && self.bytes.len() == BUFFER_BYTES {
            spare.push(std::mem::take(&mut self.bytes));
        }
    }
}

/// A lent head buffer. Returns to [`Buffers`] on drop.
#[derive(Debug)]
pub(crate) struct HeadBuffer {
    bytes: Vec<u8>,
    owner: Rc<Buffers>,
}

impl Deref for HeadBuffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for HeadBuffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl HeadBuffer {
    /// The buffers of the worker.
    pub(crate) fn buffers(&self) -> &Buffers {
        &self.owner
    }

    /// Reduces the memory to what the bytes need: they may wait for long.
    pub(crate) fn compact(&mut self) {
        if self.bytes.capacity() > 2 * self.bytes.len() {
            self.bytes = self.bytes.as_slice().to_vec();
        }
    }
}

impl Drop for HeadBuffer {
    fn drop(&mut self) {
        self.owner.lent.set(self.owner.lent.get() - 1);
        let (spare, max) = match self.bytes.capacity() {
            ..HEAD_BUFFER_BYTES => return,
            HEAD_BUFFER_BYTES..=HEAD_BYTES_MAX => (&self.owner.heads, SPARE_BUFFERS_MAX),
            _ => (&self.owner.grown, SPARE_GROWN_BUFFERS_MAX),
        };
        let mut spare = spare.borrow_mut();
        if spare.len() < max {
            self.bytes.clear();
            spare.push(std::mem::take(&mut self.bytes));
        }
    }
}

/// A lent request head. Returns to [`Buffers`] on drop.
#[derive(Debug)]
pub(crate) struct LentRequest {
    /// `Some` until the drop.
    head: Option<Box<RequestHead>>,
    owner: Rc<Buffers>,
}

impl Deref for LentRequest {
    type Target = RequestHead;

    fn deref(&self) -> &RequestHead {
        self.head.as_ref().expect("the head is present until the drop")
    }
}

impl DerefMut for LentRequest {
    fn deref_mut(&mut self) -> &mut RequestHead {
        self.head.as_mut().expect("the head is present until the drop")
    }
}

impl Drop for LentRequest {
    fn drop(&mut self) {
        let mut spare = self.owner.requests.borrow_mut();
        if spare.len() < SPARE_BUFFERS_MAX {
            spare.extend(self.head.take());
        }
    }
}

/// Received bytes that are not used yet. Has a block only while there are bytes.
#[derive(Debug, Default)]
pub(crate) struct Input {
    block: Option<Block>,
    start: usize,
    end: usize,
}

impl Input {
    /// The unused bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.block.as_ref().map_or(&[], |block| &block[self.start..self.end])
    }

    /// The unused bytes, for decoding in place.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.block {
            Some(block) => &mut block[self.start..self.end],
            None => &mut [],
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Moves few unused bytes into as much memory as they need, and returns the block: the bytes may wait for long.
    pub(crate) fn compact(&mut self) {
        if let Some(block) = &mut self.block
            && block.len() == BUFFER_BYTES
            && self.end - self.start <= BUFFER_BYTES / 2
        {
            let bytes = block[self.start..self.end].into();
            *block = Block { bytes, owner: Rc::clone(&block.owner) };
            block.owner.lent.set(block.owner.lent.get() + 1);
            (self.start, self.end) = (0, self.end - self.start);
        }
    }

    /// Space to read into, after the unused bytes. Empty when the block is full.
    pub(crate) fn room(&mut self, buffers: &Rc<Buffers>) -> &mut [u8] {
        let block = self.block.get_or_insert_with(|| buffers.block());
        if block.len() < BUFFER_BYTES {
            let mut whole = buffers.block();
            let unused = &block[self.start..self.end];
            whole[..unused.len()].copy_from_slice(unused);
            (self.start, self.end) = (0, unused.len());
            *block = whole;
        }
        if self.start > 0 && (self.start == self.end || self.end == block.len()) {
            block.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut block[self.end..]
    }

    /// The first `max` bytes of [`room`](Input::room).
    pub(crate) fn room_up_to(&mut self, max: usize, buffers: &Rc<Buffers>) -> &mut [u8] {
        let room = self.room(buffers);
        let count = room.len().min(max);
        &mut room[..count]
    }

    /// Counts bytes that were read into [`room`](Input::room).
    pub(crate) fn filled(&mut self, count: usize) {
        self.end += count;
    }

    /// Removes `count` bytes from the front.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end, "more bytes were consumed than were read");
    }

    /// Returns the block if there are no unused bytes.
    pub(crate) fn release_if_empty(&mut self) {
        if self.is_empty() {
            *self = Input::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_bytes_need_little_memory_and_go_on_in_a_block() {
        let buffers = Rc::<Buffers>::default();
        let mut input = Input::default();
        input.room(&buffers)[..10].copy_from_slice(b"0123456789");
        input.filled(10);
        input.consume(4);
        input.compact();
        assert_eq!((input.bytes(), input.block.as_ref().unwrap().len(), buffers.lent()), (&b"456789"[..], 6, 1));
        input.compact();
        let room = input.room(&buffers);
        room[..2].copy_from_slice(b"ab");
        assert_eq!(room.len(), BUFFER_BYTES - 6);
        input.filled(2);
        assert_eq!((input.bytes(), buffers.lent()), (&b"456789ab"[..], 1));
        // Many bytes stay where they are.
        input.filled(BUFFER_BYTES / 2);
        input.compact();
        assert_eq!(input.block.as_ref().unwrap().len(), BUFFER_BYTES);
        input = Input::default();
        assert_eq!((input.bytes(), buffers.lent()), (&b""[..], 0));
        let mut head = buffers.growing();
        head.resize(50_000, 0);
        head.truncate(10);
        head.compact();
        assert_eq!((head.len(), head.capacity()), (10, 10));
        drop(head);
        assert!(buffers.heads.borrow().iter().all(|head| head.capacity() >= HEAD_BUFFER_BYTES));
    }
}
