//! A bounded queue in which every client has its own turn.
//!
//! The clients take turns, so that a client with most of the requests takes no more than its turn from the others. In one client's
//! queue the oldest request is first. Under overload the newest is: the oldest has waited so long that its client will have
//! given up, and serving the newest keeps the response times of those short that are served at all.
//!
//! When the queue is full, the client with the most waiting requests loses its oldest.

use std::collections::{BTreeMap, VecDeque};

use crate::Key;

/// Something that waits.
pub(crate) trait Ticket {
    /// Whether it still waits. A ticket that does not is skipped.
    fn waits(&self) -> bool;
}

/// What became of a ticket that was pushed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pushed<T> {
    /// It waits.
    Waits,
    /// It waits, in place of this one, which must be refused.
    InsteadOf(T),
    /// There is no room.
    Refused(T),
}

/// Tickets that wait, by client.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    clients: BTreeMap<u64, VecDeque<T>>,
    /// The clients with tickets, in the order of their turns.
    turns: VecDeque<u64>,
    len: usize,
    max: usize,
}

impl<T: Ticket> Queue<T> {
    /// A queue for at most `max` tickets.
    pub(crate) fn new(max: usize) -> Self {
        Queue { clients: BTreeMap::new(), turns: VecDeque::new(), len: 0, max }
    }

    /// The number of tickets; some of them may no longer wait.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Changes how many tickets may wait. Those that wait stay.
    pub(crate) fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    /// Adds a ticket of a client: the last, or the first of the client. `waiting`: how many tickets wait, of all that were pushed.
    pub(crate) fn push(&mut self, client: Key, ticket: T, is_first: bool, waiting: usize) -> Pushed<T> {
        if self.len >= self.max && waiting < self.len {
            self.forget_departed();
        }
        let evicted = if self.len >= self.max {
            match self.fattest() {
                Some(fattest) => self.take_oldest(fattest),
                None => return Pushed::Refused(ticket),
            }
        } else {
            None
        };
        let tickets = self.clients.entry(client.bits()).or_default();
        if tickets.is_empty() {
            self.turns.push_back(client.bits());
        }
        if is_first {
            tickets.push_front(ticket);
        } else {
            tickets.push_back(ticket);
        }
        self.len += 1;
        evicted.map_or(Pushed::Waits, Pushed::InsteadOf)
    }

    /// Takes the next ticket that still waits: of the client whose turn it is, the oldest, or the newest.
    pub(crate) fn pop(&mut self, newest_first: bool) -> Option<T> {
        while let Some(client) = self.turns.pop_front() {
            let Some(tickets) = self.clients.get_mut(&client) else { continue };
            let next = loop {
                let ticket = if newest_first { tickets.pop_back() } else { tickets.pop_front() };
                self.len -= usize::from(ticket.is_some());
                if ticket.as_ref().is_none_or(Ticket::waits) {
                    break ticket;
                }
            };
            if tickets.is_empty() {
                self.clients.remove(&client);
            } else {
                self.turns.push_back(client);
            }
            if next.is_some() {
                return next;
            }
        }
        None
    }

    /// The client with the most tickets; of equals, the one whose turn is last.
    fn fattest(&self) -> Option<u64> {
        self.turns.iter().copied().max_by_key(|client| self.clients.get(client).map_or(0, VecDeque::len))
    }

    fn take_oldest(&mut self, client: u64) -> Option<T> {
        let tickets = self.clients.get_mut(&client)?;
        let oldest = tickets.pop_front();
        self.len -= usize::from(oldest.is_some());
        if tickets.is_empty() {
            self.clients.remove(&client);
            self.turns.retain(|other| *other != client);
        }
        oldest
    }

    fn forget_departed(&mut self) {
        self.clients.retain(|_, tickets| {
            tickets.retain(Ticket::waits);
            !tickets.is_empty()
        });
        let clients = &self.clients;
        self.turns.retain(|client| clients.contains_key(client));
        self.len = self.clients.values().map(VecDeque::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeyPrefixes;

    #[derive(Debug, PartialEq, Eq)]
    struct Numbered(u32, bool);

    impl Ticket for Numbered {
        fn waits(&self) -> bool {
            self.1
        }
    }

    fn client(number: u8) -> Key {
        Key::from_ip([192, 0, 2, number].into(), KeyPrefixes::default())
    }

    fn queue(max: usize, tickets: &[(u8, u32)]) -> Queue<Numbered> {
        let mut queue = Queue::new(max);
        for (of, number) in tickets {
            let waiting = queue.len();
            assert_eq!(queue.push(client(*of), Numbered(*number, true), false, waiting), Pushed::Waits);
        }
        queue
    }

    fn all(mut queue: Queue<Numbered>, newest_first: bool) -> Vec<u32> {
        let all = std::iter::from_fn(|| queue.pop(newest_first).map(|ticket| ticket.0)).collect();
        assert!(queue.len() == 0 && queue.clients.is_empty() && queue.turns.is_empty());
        all
    }

    #[test]
    fn clients_take_turns() {
        let tickets = [(1, 1), (1, 2), (1, 3), (2, 4), (1, 5), (3, 6)];
        assert_eq!(all(queue(10, &tickets), false), [1, 4, 6, 2, 3, 5]);
        assert_eq!(all(queue(10, &tickets), true), [5, 4, 6, 3, 2, 1]);
    }

    #[test]
    fn a_full_queue_takes_from_the_client_with_most() {
        let mut queue = queue(4, &[(1, 1), (1, 2), (1, 3), (2, 4)]);
        assert_eq!(queue.push(client(3), Numbered(5, true), false, 4), Pushed::InsteadOf(Numbered(1, true)));
        assert_eq!(queue.push(client(1), Numbered(6, true), false, 4), Pushed::InsteadOf(Numbered(2, true)));
        assert_eq!(queue.len(), 4);
        assert_eq!(all(queue, false), [3, 4, 5, 6]);
    }

    #[test]
    fn tickets_that_no_longer_wait_take_no_room_and_no_turn() {
        let mut queue = queue(3, &[(1, 1)]);
        queue.push(client(1), Numbered(2, false), false, 1);
        queue.push(client(2), Numbered(3, false), false, 1);
        assert_eq!(queue.push(client(2), Numbered(4, true), false, 1), Pushed::Waits);
        queue.push(client(2), Numbered(5, false), false, 2);
        assert_eq!(all(queue, true), [1, 4]);
    }

    #[test]
    fn a_ticket_that_comes_again_is_the_first_of_its_client() {
        let mut queue = queue(4, &[(1, 1), (2, 2)]);
        queue.push(client(1), Numbered(3, true), true, 2);
        assert_eq!(all(queue, false), [3, 2, 1]);
    }

    #[test]
    fn a_queue_without_room_refuses() {
        let mut queue = Queue::new(0);
        assert_eq!(queue.push(client(1), Numbered(1, true), false, 0), Pushed::Refused(Numbered(1, true)));
    }
}
