//! How many connections each client address has, over all workers, so that one address cannot take all places.
//!
//! Written when a connection opens and when it closes, under a lock that only addresses with the same last bits share.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use loadx_core::{Key, KeyPrefixes};

/// The number of locks; a power of two.
const SHARDS: usize = 16;

/// The counts of all addresses with connections.
#[derive(Debug, Default)]
pub(crate) struct ClientCounts {
    shards: [Shard; SHARDS],
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard(Mutex<Counts>);

type Counts = HashMap<NonZeroU64, u32, BuildHasherDefault<KeyHasher>>;

/// Takes a key for its own hash: keys are evenly distributed bits.
#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Not called for a number of 64 bits.
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

/// What identifies the address of a counted connection: a network of 64 bits of IPv6 counts as one address.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct CountedClient(NonZeroU64);

/// A connection that is counted and has no place yet. Dropping it ends the count.
#[derive(Debug)]
pub(crate) struct Entering<'c> {
    counts: &'c ClientCounts,
    client: Option<CountedClient>,
}

impl Entering<'_> {
    /// Leaves the count to the caller, who ends the count with [`ClientCounts::leave`].
    pub(crate) fn keep(mut self) -> Option<CountedClient> {
        self.client.take()
    }
}

impl Drop for Entering<'_> {
    fn drop(&mut self) {
        if let Some(client) = self.client {
            self.counts.leave(client);
        }
    }
}

impl ClientCounts {
    /// Lets a connection in that is not counted.
    pub(crate) fn uncounted(&self) -> Entering<'_> {
        Entering { counts: self, client: None }
    }

    /// Counts a connection of `address`. `None` if the address has `most` connections already.
    pub(crate) fn enter(&self, address: IpAddr, most: u32) -> Option<Entering<'_>> {
        let key = Key::from_ip(address, KeyPrefixes::default()).bits();
        let client = CountedClient(NonZeroU64::new(key).unwrap_or(NonZeroU64::MIN));
        let mut counts = self.shard(client);
        let count = counts.entry(client.0).or_insert(0);
        if *count >= most {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Entering { counts: self, client: Some(client) })
    }

    /// Ends the count of a connection.
    pub(crate) fn leave(&self, client: CountedClient) {
        if let Entry::Occupied(mut count) = self.shard(client).entry(client.0) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    fn shard(&self, client: CountedClient) -> MutexGuard<'_, Counts> {
        // The map uses the low bits and the highest.
        let shard = &self.shards[(client.0.get() >> 32) as usize % SHARDS];
        shard.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_connections_and_no_more() {
        let counts = ClientCounts::default();
        let (a, b): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let first = counts.enter(a, 2).unwrap().keep().unwrap();
        let second = counts.enter(a, 2).unwrap();
        assert!(counts.enter(a, 2).is_none());
        assert!(counts.enter(b, 2).is_some(), "another address");
        drop(second);
        assert!(counts.enter(a, 2).is_some());
        counts.leave(first);
        assert!(counts.shards.iter().all(|shard| shard.0.lock().unwrap().is_empty()), "nothing is left of the counts");
    }

    #[test]
    fn the_addresses_of_one_host_of_ipv6_count_together() {
        let counts = ClientCounts::default();
        let _first = counts.enter("2001:db8:1:2::1".parse().unwrap(), 1).unwrap();
        assert!(counts.enter("2001:db8:1:2::ffff".parse().unwrap(), 1).is_none());
        assert!(counts.enter("2001:db8:1:3::1".parse().unwrap(), 1).is_some());
    }
}
