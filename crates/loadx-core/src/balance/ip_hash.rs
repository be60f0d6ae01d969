//! IP hash: the client's address decides on the backend, in the same way on every LoadX with the same config.
//!
//! The method is weighted rendezvous hashing (Thaler and Ravishankar 1998; weights after Schindler and Schmidt),
//! precomputed for 65,537 slots. Every backend draws a number for every slot, and the backend with the best draw owns
//! the slot. Of the usual methods, only rendezvous hashing moves no clients of other backends when a backend leaves or
//! returns and is also even: a ring moves no other clients but is uneven (8 % at 160 points per backend), a Maglev
//! table is even but moves some other clients, and `hash % n` moves nearly all clients. With the table a pick is one
//! look-up for any number of backends.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::backend::Backend;
use crate::{BackendId, Query, stable_hash};

use super::{Key, KeyPrefixes, is_tried};

/// The number of slots that clients hash to. A prime, so that no pattern in addresses coincides with a pattern in
/// slots; with three equal backends a share is off by less than 0.6 % (three standard deviations).
const SLOTS: usize = 65_537;

/// Marks a slot without an owner.
const NO_OWNER: u32 = u32::MAX;

/// The owner of each slot, as an index into the backends of one view.
#[derive(Debug)]
pub(crate) struct IpHash {
    prefixes: KeyPrefixes,
    owners: Box<[u32]>,
}

impl IpHash {
    pub(super) fn key(&self, client: IpAddr) -> Key {
        Key::from_ip(client, self.prefixes)
    }

    pub(super) fn choose(&self, backends: &[Backend], query: &Query<'_>) -> Option<usize> {
        // A request without a client key may go to any backend.
        let hash = query.key.map_or(query.entropy, Key::hash);
        let slot = (hash % SLOTS as u64) as usize;
        let owner = self.owners[slot] as usize;
        if !is_tried(&backends[owner], query) {
            return Some(owner);
        }
        // A retry goes to the backend that would own the slot without the failed backend: the next best draw.
        let untried = (0..backends.len()).filter(|index| !is_tried(&backends[*index], query));
        let draw = |index: &usize| Contender::new(&backends[*index]).draw(slot);
        untried.min_by(|a, b| draw(a).total_cmp(&draw(b)))
    }
}

/// The slots and their owners, updated when backends leave or return: only the slots of a leaving backend are drawn
/// again, and a returning backend draws against the present owners.
#[derive(Debug, Default)]
pub(crate) struct Table {
    contenders: Vec<Contender>,
    /// By slot: the position of the owner in `contenders`, and the draw of the owner.
    slots: Vec<(u32, f64)>,
}

#[derive(Copy, Clone, Debug, PartialEq)]
struct Contender {
    id: BackendId,
    seed: u64,
    weight: f64,
}

impl Contender {
    fn new(backend: &Backend) -> Self {
        let seed = stable_hash::of_bytes(backend.spec.authority().to_ascii_lowercase().as_bytes());
        Contender { id: backend.id, seed, weight: f64::from(backend.weight()) }
    }

    /// The draw of this backend for a slot; the least draw owns the slot. Exponentially distributed with the weight as
    /// rate, so that the chance to own a slot is in proportion to the weight.
    fn draw(&self, slot: usize) -> f64 {
        -self.uniform(slot).ln() / self.weight
    }

    /// The [`draw`](Contender::draw) for a slot, if it is below `best`. Since -ln(u) > 1 - u, most comparisons need no
    /// logarithm.
    fn draw_below(&self, slot: usize, best: f64) -> Option<f64> {
        let uniform = self.uniform(slot);
        if 1.0 - uniform >= best * self.weight {
            return None;
        }
        Some(-uniform.ln() / self.weight).filter(|draw| *draw < best)
    }

    /// The number in `(0, 1]` of this backend and this slot.
    fn uniform(&self, slot: usize) -> f64 {
        let bits = stable_hash::mix(self.seed ^ stable_hash::mix(slot as u64));
        ((bits >> 11) + 1) as f64 / (1u64 << 53) as f64
    }
}

impl Table {
    /// Makes these backends the contenders; returns the owner of each slot.
    pub(super) fn update(&mut self, prefixes: KeyPrefixes, backends: &[Backend]) -> IpHash {
        let wanted: Vec<Contender> = backends.iter().map(Contender::new).collect();
        let places: BTreeMap<BackendId, usize> = wanted.iter().enumerate().map(|(at, one)| (one.id, at)).collect();
        let wanted_place = |one: &Contender| places.get(&one.id).copied().filter(|at| wanted[*at] == *one);

        self.slots.resize(if wanted.is_empty() { 0 } else { SLOTS }, (NO_OWNER, f64::INFINITY));
        self.retain(|one| wanted_place(one).is_some());
        let known: BTreeSet<BackendId> = self.contenders.iter().map(|one| one.id).collect();
        for newcomer in wanted.iter().filter(|one| !known.contains(&one.id)) {
            self.join(*newcomer);
        }
        let index = |one| wanted_place(one).expect("only wanted contenders were retained") as u32;
        let indices: Vec<u32> = self.contenders.iter().map(index).collect();
        IpHash { prefixes, owners: self.slots.iter().map(|(place, _)| indices[*place as usize]).collect() }
    }

    /// Removes the contenders that `wanted` rejects, and draws again for their slots.
    fn retain(&mut self, wanted: impl Fn(&Contender) -> bool) {
        let former = std::mem::take(&mut self.contenders);
        let mut place_now = Vec::with_capacity(former.len());
        for contender in former {
            if wanted(&contender) {
                place_now.push(self.contenders.len() as u32);
                self.contenders.push(contender);
            } else {
                place_now.push(NO_OWNER);
            }
        }
        if self.contenders.len() == place_now.len() {
            return;
        }
        for (slot, entry) in self.slots.iter_mut().enumerate() {
            entry.0 = if entry.0 == NO_OWNER { NO_OWNER } else { place_now[entry.0 as usize] };
            if entry.0 == NO_OWNER {
                *entry = winner(&self.contenders, slot);
            }
        }
    }

    fn join(&mut self, contender: Contender) {
        let place = self.contenders.len() as u32;
        self.contenders.push(contender);
        for (slot, entry) in self.slots.iter_mut().enumerate() {
            if let Some(draw) = contender.draw_below(slot, entry.1) {
                *entry = (place, draw);
            }
        }
    }
}

fn winner(contenders: &[Contender], slot: usize) -> (u32, f64) {
    contenders.iter().enumerate().fold((NO_OWNER, f64::INFINITY), |best, (place, contender)| {
        contender.draw_below(slot, best.1).map_or(best, |draw| (place as u32, draw))
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use crate::{Algorithm, Key, KeyPrefixes, Query, View};
    use std::collections::BTreeMap;

    const IP_HASH: Algorithm = Algorithm::IpHash(KeyPrefixes { ipv4: 32, ipv6: 64 });

    fn key(ip: std::net::IpAddr) -> Option<Key> {
        Some(Key::from_ip(ip, KeyPrefixes::default()))
    }

    fn clients() -> impl Iterator<Item = Option<Key>> {
        (0..20_000u32).map(|number| key((0x0a00_0000 + number * 7).to_be_bytes().into()))
    }

    fn server(view: &View, key: Option<Key>) -> String {
        view.pick(&Query { key, ..query() }).picked().unwrap().backend().name().to_owned()
    }

    fn assignment(cluster: &mut Fixture) -> Vec<String> {
        let view = cluster.view();
        clients().map(|key| server(&view, key)).collect()
    }

    #[test]
    fn a_client_keeps_its_backend() {
        let mut cluster = cluster(IP_HASH, &[1, 1, 1]);
        assert_eq!(assignment(&mut cluster), assignment(&mut cluster));
    }

    #[test]
    fn when_one_leaves_only_its_clients_move_and_they_return_with_it() {
        let all = specs(&[1, 2, 3, 1, 1]);
        let mut cluster = cluster(IP_HASH, &[1, 2, 3, 1, 1]);
        let before = assignment(&mut cluster);
        let gone = all[2].name.to_string();
        cluster.set(all.iter().filter(|spec| *spec.name != *gone).cloned().collect());
        let without = assignment(&mut cluster);
        for (was, is) in before.iter().zip(&without) {
            assert!(*was == gone || was == is, "{was} moved to {is} though {gone} left");
            assert_ne!(*is, gone);
        }
        cluster.set(all);
        assert_eq!(assignment(&mut cluster), before);
    }

    #[test]
    fn the_order_of_the_config_and_its_history_do_not_matter() {
        let mut straight = cluster(IP_HASH, &[1, 4, 2]);
        let mut roundabout = cluster(IP_HASH, &[9]);
        let mut backends = specs(&[1, 4, 2]);
        backends.reverse();
        roundabout.set(backends[..2].to_vec());
        roundabout.set(Vec::new());
        roundabout.set(backends);
        assert_eq!(assignment(&mut straight), assignment(&mut roundabout));
    }

    #[test]
    fn weights_count() {
        let mut counts = BTreeMap::new();
        for name in assignment(&mut cluster(IP_HASH, &[1, 3])) {
            *counts.entry(name).or_insert(0u32) += 1;
        }
        let share = f64::from(counts["10.0.0.1:80"]) / 20_000.0;
        assert!((share - 0.75).abs() < 0.015, "{share}");
    }

    #[test]
    fn a_retry_goes_where_the_client_would_go_without_its_backend() {
        let all = specs(&[1, 1, 1]);
        let mut cluster = cluster(IP_HASH, &[1, 1, 1]);
        let view = cluster.view();
        let key = key([192, 0, 2, 1].into());
        let first = view.pick(&Query { key, ..query() }).picked().unwrap();
        let first = first.backend();
        let second = view.pick(&Query { key, tried: &[first.id()], ..query() }).picked().unwrap();
        let second = second.backend();
        cluster.set(all.into_iter().filter(|spec| *spec.name != *first.name()).collect());
        assert_eq!(server(&cluster.view(), key), second.name());
    }

    #[test]
    fn a_request_without_a_key_uses_entropy() {
        let view = cluster(IP_HASH, &[1, 1, 1]).view();
        let served = |entropy| view.pick(&Query { entropy, key: None, ..query() }).picked().unwrap().index();
        let all: std::collections::BTreeSet<_> = (0..1_000).map(|number| served(number * 7_919)).collect();
        assert_eq!(all.len(), 3);
    }

    /// These values must not change: a change would move the clients of every user.
    #[test]
    fn known_clients_stay_where_they_are() {
        let mut cluster = cluster(IP_HASH, &[1, 1, 1]);
        let clients = ["192.0.2.1", "198.51.100.23", "2001:db8::1", "203.0.113.250", "10.1.2.3", "172.16.0.9"];
        let view = cluster.view();
        let served = clients.map(|ip| server(&view, key(ip.parse().unwrap())));
        assert_eq!(served.map(|name| name.as_bytes()[7] - b'0'), [2, 2, 2, 1, 2, 1]);
    }
}
