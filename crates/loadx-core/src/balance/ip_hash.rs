//! IP hash: the client's address decides on the backend, in the same way on every LoadX with the same config.
//!
//! The method is weighted rendezvous hashing (Thaler and Ravishankar 1998; weights after Schindler and Schmidt),
//! precomputed for 65,537 slots. Every backend draws a number for every slot, and the backend with the best draw owns
//! the slot. Of the usual methods, only rendezvous hashing moves no clients of other backends when a backend leaves or
//! returns and is also even: a ring moves no other clients but is uneven (8 % at 160 points per backend), a Maglev
//! table is even but moves some other clients, and `hash % n` moves nearly all clients. With the table a pick is one
//! look-up for any number of backends.
//!
//! Each backend knows the order of its draws ([`Contender::slot_of`]), so that a table for n backends takes a million draws and
//! not 65,537 n: draws that cannot win are never made.

mod contender;

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::backend::Backend;
use crate::{BackendId, Query};

use super::{Key, KeyPrefixes, is_tried};
use contender::{Contender, SLOTS};

/// Marks a slot without an owner.
const NO_OWNER: u32 = u32::MAX;

/// The most draws for an update of the table. With more, all slots are drawn again, which takes about a million draws.
const UPDATE_DRAWS_MAX: usize = 1_000_000;

/// The owner of each slot, as an index into the backends of one view.
#[derive(Debug)]
pub(crate) struct IpHash {
    prefixes: KeyPrefixes,
    owners: Box<[u32]>,
    /// In the order of the backends.
    contenders: Box<[Contender]>,
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
        let draw = |index: &usize| self.contenders[*index].draw(slot);
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

impl Table {
    /// Makes these backends the contenders; returns the owner of each slot.
    pub(super) fn update(&mut self, prefixes: KeyPrefixes, backends: &[Backend]) -> IpHash {
        let wanted: Vec<Contender> = backends.iter().map(Contender::new).collect();
        let places: BTreeMap<BackendId, u32> = wanted.iter().zip(0..).map(|(one, at)| (one.id, at)).collect();
        // The place of each present contender among the wanted ones.
        let kept = |one: &Contender| places.get(&one.id).copied().filter(|at| wanted[*at as usize] == *one);
        let place_now: Vec<Option<u32>> = self.contenders.iter().map(kept).collect();
        let mut is_new = vec![true; wanted.len()];
        place_now.iter().flatten().for_each(|at| is_new[*at as usize] = false);
        let newcomers = is_new.iter().filter(|is_new| **is_new).count();

        for slot in &mut self.slots {
            *slot = match place_now[slot.0 as usize] {
                Some(place) => (place, slot.1),
                None => (NO_OWNER, f64::INFINITY),
            };
        }
        self.slots.resize(if wanted.is_empty() { 0 } else { SLOTS }, (NO_OWNER, f64::INFINITY));
        let orphans = self.slots.iter().filter(|(owner, _)| *owner == NO_OWNER).count();
        let stay = wanted.len() - newcomers;
        self.contenders = wanted;
        if orphans * stay + newcomers * SLOTS > UPDATE_DRAWS_MAX {
            self.draw_all();
        } else {
            for slot in (0..self.slots.len()).filter(|slot| self.slots[*slot].0 == NO_OWNER).collect::<Vec<_>>() {
                self.slots[slot] = winner(&self.contenders, slot);
            }
            for place in (0..self.contenders.len()).filter(|place| is_new[*place]) {
                self.join(place);
            }
        }
        let owners = self.slots.iter().map(|(place, _)| *place).collect();
        IpHash { prefixes, owners, contenders: self.contenders.as_slice().into() }
    }

    /// Draws for all slots, each backend in the order of its draws, up to a draw that hardly any slot exceeds.
    fn draw_all(&mut self) {
        self.slots.fill((NO_OWNER, f64::INFINITY));
        // Draws are exponentially distributed. The least draw for a slot is above this with a probability of e^-12.
        let most = 12.0 / self.contenders.iter().map(|one| one.weight).sum::<f64>();
        for (contender, place) in self.contenders.iter().zip(0..) {
            let slots = (0..SLOTS).map(|rank| (rank, contender.slot_of(rank)));
            for (rank, slot) in slots.take_while(|(rank, _)| contender.may_be_below(*rank, most)) {
                if let Some(draw) = contender.draw_below(rank, self.slots[slot].1) {
                    self.slots[slot] = (place, draw);
                }
            }
        }
        for slot in 0..SLOTS {
            if self.slots[slot].1 >= most {
                self.slots[slot] = winner(&self.contenders, slot);
            }
        }
    }

    /// Has a contender draw against the owners of all slots.
    fn join(&mut self, place: usize) {
        let contender = &self.contenders[place];
        let most = self.slots.iter().map(|(_, draw)| *draw).fold(0.0, f64::max);
        for rank in (0..SLOTS).take_while(|rank| contender.may_be_below(*rank, most)) {
            let entry = &mut self.slots[contender.slot_of(rank)];
            if let Some(draw) = contender.draw_below(rank, entry.1) {
                *entry = (place as u32, draw);
            }
        }
    }
}

fn winner(contenders: &[Contender], slot: usize) -> (u32, f64) {
    contenders.iter().zip(0..).fold((NO_OWNER, f64::INFINITY), |best, (contender, place)| {
        contender.draw_below(contender.rank_of(slot), best.1).map_or(best, |draw| (place, draw))
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use crate::{Algorithm, BackendSpec, Key, KeyPrefixes, Query, View};
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

    #[test]
    fn an_update_and_a_new_table_have_the_same_owners() {
        // Thousands leave and join at the same time, few, one, and others with another weight.
        let names = |range: std::ops::Range<u32>| -> Vec<BackendSpec> {
            range
                .map(|number| BackendSpec {
                    weight: 1 + number % 3,
                    ..BackendSpec::new(&format!("10.0.{}.{}", number / 250, number % 250), 80)
                })
                .collect()
        };
        let mut heavier = names(0..2_000);
        heavier[7].weight = 9;
        let mut changing = cluster(IP_HASH, &[1]);
        for specs in [names(0..2_000), names(500..2_500), names(503..2_501), names(0..3), names(0..2_000), heavier] {
            let mut fresh = cluster(IP_HASH, &[1]);
            fresh.set(specs.clone());
            changing.set(specs);
            assert_eq!(assignment(&mut changing), assignment(&mut fresh));
        }
    }

    #[test]
    fn shares_are_even_and_those_of_one_that_leaves_go_to_all_others_alike() {
        for count in [2u32, 3, 5, 16, 64] {
            let weights = vec![1; count as usize];
            let mut cluster = cluster(IP_HASH, &weights);
            let counts = |cluster: &mut Fixture| {
                let mut counts = BTreeMap::new();
                let view = cluster.view();
                for slot in 0..65_537 {
                    // A request without a key goes to the slot of its entropy.
                    let served = view.pick(&Query { entropy: slot, key: None, ..query() }).picked().unwrap();
                    *counts.entry(served.backend().name().to_owned()).or_insert(0_i32) += 1;
                }
                counts
            };
            let even = |count: i32, of: u32, slots: f64| {
                let expected = slots / f64::from(of);
                (f64::from(count) - expected).abs() < 4.0 * (expected * (1.0 - 1.0 / f64::from(of))).sqrt() + 1.0
            };
            let before = counts(&mut cluster);
            assert!(before.values().all(|share| even(*share, count, 65_537.0)), "{before:?}");
            cluster.set(specs(&weights)[1..].to_vec());
            let after = counts(&mut cluster);
            let orphans = f64::from(before[&*specs(&weights)[0].name]);
            for (name, share) in &after {
                assert!(even(share - before[name], count - 1, orphans), "{name}: {before:?} {after:?}");
            }
        }
    }

    /// These values must not change: a change would move the clients of every user.
    #[test]
    fn known_clients_stay_where_they_are() {
        let mut cluster = cluster(IP_HASH, &[1, 1, 1]);
        let clients = ["192.0.2.1", "198.51.100.23", "2001:db8::1", "203.0.113.250", "10.1.2.3", "172.16.0.9"];
        let view = cluster.view();
        let served = clients.map(|ip| server(&view, key(ip.parse().unwrap())));
        assert_eq!(served.map(|name| name.as_bytes()[7] - b'0'), [0, 1, 1, 0, 1, 0]);
    }
}
