//! A worker's buffers. They belong to the worker and are lent to exchanges: an idle connection has
//! none.

use std::cell::{Cell, RefCell};
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use loadx_http::RequestHead;

use crate::limits::{BUFFER_BYTES, SPARE_BUFFERS_MAX};

/// The spare buffers of one worker.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    blocks: RefCell<Vec<Box<[u8]>>>,
    heads: RefCell<Vec<Vec<u8>>>,
    #[expect(clippy::vec_box, reason = "a head is lent by its box: moving the head itself copies 300 bytes")]
    requests: RefCell<Vec<Box<RequestHead>>>,
    /// Blocks and heads that are lent.
    lent: Cell<usize>,
}

impl Buffers {
    /// A block of [`BUFFER_BYTES`] to read into. What it holds is left over from others.
    pub(crate) fn block(self: &Rc<Self>) -> Block {
        let bytes = self.blocks.borrow_mut().pop().unwrap_or_else(|| vec![0; BUFFER_BYTES].into_boxed_slice());
        self.lent.set(self.lent.get() + 1);
        Block { bytes, home: Rc::clone(self) }
    }

    /// An empty, growing buffer to write a head into.
    pub(crate) fn head(self: &Rc<Self>) -> HeadBuffer {
        let bytes = self.heads.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(2_048));
        self.lent.set(self.lent.get() + 1);
        HeadBuffer { bytes, home: Rc::clone(self) }
    }

    /// A request head to read into. What it holds is left over from others.
    pub(crate) fn request(self: &Rc<Self>) -> LentRequest {
        let head = self.requests.borrow_mut().pop().unwrap_or_default();
        LentRequest { head: Some(head), home: Rc::clone(self) }
    }

    /// How many buffers are lent.
    pub(crate) fn lent(&self) -> usize {
        self.lent.get()
    }
}

/// A block on loan; it goes home when dropped.
#[derive(Debug)]
pub(crate) struct Block {
    bytes: Box<[u8]>,
    home: Rc<Buffers>,
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
        self.home.lent.set(self.home.lent.get() - 1);
        let mut spare = self.home.blocks.borrow_mut();
        if spare.len() < SPARE_BUFFERS_MAX {
            spare.push(std::mem::take(&mut self.bytes));
        }
    }
}

/// A head buffer on loan; it goes home when dropped.
#[derive(Debug)]
pub(crate) struct HeadBuffer {
    bytes: Vec<u8>,
    home: Rc<Buffers>,
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

impl Drop for HeadBuffer {
    fn drop(&mut self) {
        self.home.lent.set(self.home.lent.get() - 1);
        let mut spare = self.home.heads.borrow_mut();
        if spare.len() < SPARE_BUFFERS_MAX {
            self.bytes.clear();
            spare.push(std::mem::take(&mut self.bytes));
        }
    }
}

/// A request head on loan; it goes home when dropped.
#[derive(Debug)]
pub(crate) struct LentRequest {
    /// Always there until the drop.
    head: Option<Box<RequestHead>>,
    home: Rc<Buffers>,
}

impl Deref for LentRequest {
    type Target = RequestHead;

    fn deref(&self) -> &RequestHead {
        self.head.as_ref().expect("the head is there until the drop")
    }
}

impl DerefMut for LentRequest {
    fn deref_mut(&mut self) -> &mut RequestHead {
        self.head.as_mut().expect("the head is there until the drop")
    }
}

impl Drop for LentRequest {
    fn drop(&mut self) {
        let mut spare = self.home.requests.borrow_mut();
        if spare.len() < SPARE_BUFFERS_MAX {
            spare.extend(self.head.take());
        }
    }
}

/// Bytes that were read and not yet used, in a block that is there only while there are any.
#[derive(Debug, Default)]
pub(crate) struct Input {
    block: Option<Block>,
    start: usize,
    end: usize,
}

impl Input {
    /// The bytes that wait.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.block.as_ref().map_or(&[], |block| &block[self.start..self.end])
    }

    /// The bytes that wait, to be worked on in place.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.block {
            Some(block) => &mut block[self.start..self.end],
            None => &mut [],
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Room to read more into, behind what waits. Empty when the block is full.
    pub(crate) fn room(&mut self, buffers: &Rc<Buffers>) -> &mut [u8] {
        let block = self.block.get_or_insert_with(|| buffers.block());
        if self.start > 0 && (self.start == self.end || self.end == block.len()) {
            block.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut block[self.end..]
    }

    /// The same, but no more than `max` bytes.
    pub(crate) fn room_up_to(&mut self, max: usize, buffers: &Rc<Buffers>) -> &mut [u8] {
        let room = self.room(buffers);
        let count = room.len().min(max);
        &mut room[..count]
    }

    /// Counts bytes that were read into [`room`](Input::room).
    pub(crate) fn filled(&mut self, count: usize) {
        self.end += count;
    }

    /// Takes bytes off the front.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end, "more was used than was read");
    }

    /// Gives the block back when nothing waits in it.
    pub(crate) fn release_if_empty(&mut self) {
        if self.is_empty() {
            *self = Input::default();
        }
    }
}
