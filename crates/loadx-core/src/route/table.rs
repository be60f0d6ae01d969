//! The compiled routes, and the search for the route of a request.
//!
//! One look-up in a hash table finds the *group* of routes for a host; with wildcards, one look-up for each label of
//! the longest wildcard. Within a group, LoadX hashes the path once from left to right; at each slash, one look-up
//! finds a route with this prefix. So the cost depends on the request and on the depth of the configured wildcards and
//! prefixes, not on the number of hosts and routes. The regular expressions of a group run together, in one pass.
//!
//! The order is the order of the Gateway API (HTTPRoute): exact host, longest wildcard, no host; within a host exact
//! path, longest prefix, regular expressions in the order of the file; then routes with methods, with more fields, with
//! more query parameters; then the order of the file. If no route of the most specific group matches, LoadX searches
//! the next wider group.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use regex_automata::meta::Regex;
use regex_automata::{Input, PatternSet};

use super::expression;
use super::{Asked, Mismatch, PathRule, Route, Rules};
use crate::stable_hash::Running;

/// The largest number of segments of a `path_prefix`.
pub const PREFIX_SEGMENTS_MAX: usize = 32;

/// The number of the group for hosts that no route names.
const ANY_HOST: u32 = 0;

/// All routes of a plan, compiled.
#[derive(Debug)]
pub struct RouteTable {
    routes: Box<[Route]>,
    /// Groups by exact host.
    hosts: HashMap<Box<[u8]>, u32, Stable>,
    /// Groups by the part after the `*` of a wildcard, with the dot.
    wildcards: HashMap<Box<[u8]>, u32, Stable>,
    /// The largest number of labels of a wildcard.
    wildcard_labels: usize,
    groups: Box<[Group]>,
    /// Routes by group and path.
    paths: HashMap<PathKey, Entry, Stable>,
    /// Whether there is only one route and every request matches.
    catch_all: bool,
}

type Stable = BuildHasherDefault<StableHasher>;

/// The routes of one host.
#[derive(Debug, Default)]
struct Group {
    /// The group to search if no route of this group matches.
    wider: Option<u32>,
    /// The number of segments of the longest prefix.
    depth: usize,
    /// Routes with a regular expression, in the order of the search.
    regexes: Vec<u32>,
    regex: Option<Box<Regex>>,
    /// Routes for any path.
    any: Vec<u32>,
}

/// The key of the routes of a path; the path in the entry verifies the hash.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
struct PathKey {
    group: u32,
    exact: bool,
    hash: u64,
}

#[derive(Debug)]
struct Entry {
    path: Arc<str>,
    routes: Vec<u32>,
}

/// A route that a request matched.
#[derive(Copy, Clone, Debug)]
pub struct Match<'t> {
    /// The position of the route in the config.
    pub index: usize,
    /// The route.
    pub route: &'t Route,
}

impl RouteTable {
    /// Compiles routes. `routes` are in the order of the config.
    pub fn new(routes: Vec<Route>) -> Self {
        let mut builder = Builder::default();
        builder.groups.push(Group::default());
        for (index, route) in routes.iter().enumerate() {
            builder.add(index as u32, route);
        }
        builder.finish(routes)
    }

    /// The routes, in the order of the config.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The only route, if every request matches: LoadX then compares no part of a request.
    pub fn catch_all(&self) -> Option<Match<'_>> {
        let only = self.routes.first().filter(|_| self.catch_all)?;
        Some(Match { index: 0, route: only })
    }

    /// The route that the request matches.
    pub fn find(&self, asked: &Asked<'_>) -> Option<Match<'_>> {
        let mut next = Some(self.group(asked.host));
        while let Some(number) = next {
            let group = &self.groups[number as usize];
            if let Some(index) = self.find_in(number, group, asked) {
                return Some(Match { index: index as usize, route: &self.routes[index as usize] });
            }
            next = group.wider;
        }
        None
    }

    /// The most specific group for a host.
    fn group(&self, host: &[u8]) -> u32 {
        if let Some(group) = self.hosts.get(host) {
            return *group;
        }
        self.wildcard_group(host).unwrap_or(ANY_HOST)
    }

    /// The group of the longest wildcard that covers the host.
    fn wildcard_group(&self, host: &[u8]) -> Option<u32> {
        let mut longest = None;
        let dots = host.iter().enumerate().rev().filter(|(_, byte)| **byte == b'.').map(|(at, _)| at);
        for at in dots.take(self.wildcard_labels).filter(|at| *at > 0) {
            longest = self.wildcards.get(&host[at..]).copied().or(longest);
        }
        longest
    }

    fn find_in(&self, number: u32, group: &Group, asked: &Asked<'_>) -> Option<u32> {
        let fits = |index: &&u32| self.routes[**index as usize].rules.mismatch(asked).is_none();
        let first = |routes: &[u32]| routes.iter().find(fits).copied();
        let by_path = || {
            let mut prefixes = [None; PREFIX_SEGMENTS_MAX + 1];
            let exact = self.look_up_path(number, group, asked.path, &mut prefixes);
            let longest_first = prefixes[..=group.depth].iter().rev().flatten();
            exact.into_iter().chain(longest_first.copied()).find_map(|entry| first(&entry.routes))
        };
        let has_paths = !self.paths.is_empty() && asked.path.starts_with(b"/");
        has_paths.then(by_path).flatten().or_else(|| self.find_regex(group, asked)).or_else(|| first(&group.any))
    }

    /// The routes for exactly this path. Writes the routes for prefixes of this path to `prefixes`, by number of
    /// segments.
    fn look_up_path<'t>(
        &'t self,
        number: u32,
        group: &Group,
        path: &[u8],
        prefixes: &mut [Option<&'t Entry>; PREFIX_SEGMENTS_MAX + 1],
    ) -> Option<&'t Entry> {
        let look_up = |exact, hash, path: &[u8]| {
            let entry = self.paths.get(&PathKey { group: number, exact, hash })?;
            (entry.path.as_bytes() == path).then_some(entry)
        };
        let mut hash = Running::default();
        let mut segments = 0;
        for (at, byte) in path.iter().enumerate() {
            if *byte == b'/' && segments <= group.depth {
                prefixes[segments] = look_up(false, hash.finish(), &path[..at]);
                segments += 1;
            }
            hash.add(*byte);
        }
        if segments <= group.depth {
            prefixes[segments] = look_up(false, hash.finish(), path);
        }
        look_up(true, hash.finish(), path)
    }

    fn find_regex(&self, group: &Group, asked: &Asked<'_>) -> Option<u32> {
        let regex = group.regex.as_ref()?;
        let mut matched = PatternSet::new(regex.pattern_len());
        regex.which_overlapping_matches(&Input::new(asked.path), &mut matched);
        let fits = |index: &u32| self.routes[*index as usize].rules.mismatch(asked).is_none();
        matched.iter().map(|pattern| group.regexes[pattern.as_usize()]).find(fits)
    }

    /// The reason why each route before the chosen route, or every route if none is chosen, does not match.
    pub fn explain(&self, asked: &Asked<'_>) -> Vec<(usize, Mismatch)> {
        let chosen = self.find(asked).map(|found| found.index);
        let others = (0..self.routes.len()).filter(|index| Some(*index) != chosen);
        others.map(|index| (index, self.mismatch(index, asked))).collect()
    }

    fn mismatch(&self, index: usize, asked: &Asked<'_>) -> Mismatch {
        let rules = &self.routes[index].rules;
        let covers = |host: &Arc<str>| match host.strip_prefix('*') {
            Some(suffix) => asked.host.len() > suffix.len() && asked.host.ends_with(suffix.as_bytes()),
            None => asked.host == host.as_bytes(),
        };
        if !rules.hosts.is_empty() && !rules.hosts.iter().any(covers) {
            return Mismatch::Host;
        }
        let path_fits = match &rules.path {
            PathRule::Any => true,
            PathRule::Exact(path) => asked.path == path.as_bytes(),
            PathRule::Prefix(prefix) => {
                asked.path.strip_prefix(prefix.as_bytes()).is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
            }
            PathRule::Regex(_, regex) => regex.is_match(asked.path),
        };
        if !path_fits { Mismatch::Path } else { rules.mismatch(asked).unwrap_or(Mismatch::Later) }
    }
}

/// The state of the compilation of a table.
#[derive(Default)]
struct Builder {
    hosts: HashMap<Box<[u8]>, u32, Stable>,
    wildcards: HashMap<Box<[u8]>, u32, Stable>,
    groups: Vec<Group>,
    paths: HashMap<PathKey, Entry, Stable>,
}

impl Builder {
    fn add(&mut self, index: u32, route: &Route) {
        if route.rules.hosts.is_empty() {
            self.add_to(ANY_HOST, index, &route.rules.path);
        }
        for host in &route.rules.hosts {
            let next = self.groups.len() as u32;
            let (map, key) = match host.strip_prefix('*') {
                Some(suffix) => (&mut self.wildcards, suffix),
                None => (&mut self.hosts, &**host),
            };
            let group = *map.entry(key.as_bytes().into()).or_insert(next);
            if group == next {
                self.groups.push(Group::default());
            }
            self.add_to(group, index, &route.rules.path);
        }
    }

    fn add_to(&mut self, number: u32, index: u32, rule: &PathRule) {
        let group = &mut self.groups[number as usize];
        let (exact, path) = match rule {
            PathRule::Any => return group.any.push(index),
            PathRule::Regex(..) => return group.regexes.push(index),
            PathRule::Exact(path) => (true, path),
            PathRule::Prefix(prefix) => {
                let segments = prefix.bytes().filter(|byte| *byte == b'/').count();
                group.depth = group.depth.max(segments.min(PREFIX_SEGMENTS_MAX));
                (false, prefix)
            }
        };
        let mut hash = Running::default();
        path.bytes().for_each(|byte| hash.add(byte));
        let key = PathKey { group: number, exact, hash: hash.finish() };
        let entry = self.paths.entry(key).or_insert_with(|| Entry { path: Arc::clone(path), routes: Vec::new() });
        entry.routes.push(index);
    }

    fn finish(mut self, routes: Vec<Route>) -> RouteTable {
        let order = |index: &u32| {
            let (methods, fields, query) = routes[*index as usize].rules.weight();
            (std::cmp::Reverse(methods), std::cmp::Reverse(fields), std::cmp::Reverse(query), *index)
        };
        for group in &mut self.groups {
            group.any.sort_by_key(order);
            // The other conditions decide between routes with the same expression; the order of the file decides
            // otherwise.
            let pattern = |index: &u32| match &routes[*index as usize].rules.path {
                PathRule::Regex(pattern, _) => Some(&**pattern),
                _ => None,
            };
            let patterns: Vec<&str> = group.regexes.iter().filter_map(pattern).collect();
            let compiled = || expression::compile(&patterns).expect("each expression has compiled alone");
            group.regex = (!patterns.is_empty()).then(|| Box::new(compiled()));
        }
        for entry in self.paths.values_mut() {
            entry.routes.sort_by_key(order);
        }
        let mut table = RouteTable {
            routes: Box::default(),
            wildcard_labels: self
                .wildcards
                .keys()
                .map(|suffix| suffix.iter().filter(|byte| **byte == b'.').count())
                .max()
                .unwrap_or(0),
            hosts: self.hosts,
            wildcards: self.wildcards,
            groups: Box::default(),
            paths: self.paths,
            catch_all: routes.len() == 1 && routes[0].rules == Rules::default() && !routes[0].rewrites_path(),
        };
        for (host, group) in &table.hosts {
            self.groups[*group as usize].wider = Some(table.wildcard_group(host).unwrap_or(ANY_HOST));
        }
        for (suffix, group) in &table.wildcards {
            // Without its first label, the suffix of a wildcard finds the next wider wildcard.
            let wider = suffix[1..].iter().position(|byte| *byte == b'.').map(|dot| &suffix[1 + dot..]);
            let wider =
                wider.and_then(|rest| table.wildcards.get(rest).copied().or_else(|| table.wildcard_group(rest)));
            self.groups[*group as usize].wider = Some(wider.unwrap_or(ANY_HOST));
        }
        table.groups = self.groups.into();
        table.routes = routes.into();
        table
    }
}

/// A hasher with the same results in every run. The keys come from the config, so no client can choose colliding keys.
#[derive(Debug, Default)]
struct StableHasher(Running);

impl Hasher for StableHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0.add(*byte));
    }

    fn write_u64(&mut self, number: u64) {
        self.0.mix(number);
    }

    fn write_u32(&mut self, number: u32) {
        self.0.mix(number.into());
    }

    fn write_u8(&mut self, number: u8) {
        self.0.mix(number.into());
    }

    fn write_usize(&mut self, number: usize) {
        self.0.mix(number as u64);
    }

    fn finish(&self) -> u64 {
        self.0.finish()
    }
}
