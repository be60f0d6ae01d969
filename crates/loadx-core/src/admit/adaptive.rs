//! A limit that finds itself: as many requests at the same time as a backend works on without making them wait.
//!
//! Below its capacity a backend takes the same time for a request however many there are. Beyond, more requests at the same time
//! only make each of them take longer. So the limit rises while the time is that of an unloaded backend, and falls when it is
//! longer.
//!
//! The time of an unloaded backend is learned while the backend has few requests. It may also become wrong: a database gets
//! slow, and every request takes twice as long. Other methods therefore take all load from the backend now and then and measure
//! again. Here the fall of the limit is the measurement: if half as many requests take as long as before, no request waited for
//! another, and the present time is that of the backend itself.

/// The limit of one backend.
#[derive(Debug)]
pub(crate) struct Adaptive {
    limit: f64,
    /// The time of an unloaded backend, on the scale of [`log_scale`](crate::load::log_scale); `None` before it is known.
    unloaded: Option<f64>,
    /// The limit and the time when the limit began to fall, or before it doubled for the first time.
    high: Option<(f64, f64)>,
    /// Whether the limit doubles in place of growing by a fifth at most, because the capacity is not known.
    leaps: bool,
    /// The requests that have not ended and began before the limit last changed, or before the backend last reached the limit.
    earlier: u32,
    is_full: bool,
    /// The successes that have not been looked at, and the sum of their times.
    successes: u32,
    slowness: u64,
}

/// The first limit of a backend of weight 1. A small one would make requests wait at start for no reason.
const FIRST: u32 = 100;

/// The largest limit.
const MAX: f64 = 1_000_000.0;

/// The successes of which the mean time says something.
const SUCCESSES_MIN: u32 = 50;

/// How much longer requests may take than at an unloaded backend, on the logarithmic scale: 1.3 times as long. Some requests
/// must wait at the backend, so that it is never idle.
const CONGESTED: f64 = 20.0;

/// By how much the time falls at least if half of the requests wait for the others, on the logarithmic scale: half of a doubling.
const FALLS: f64 = 32.0;

impl Adaptive {
    /// The limit of a backend that has so many requests in flight already.
    pub(crate) fn new(weight: u32, in_flight: u32) -> Self {
        Adaptive {
            limit: (f64::from(FIRST) * f64::from(weight)).max(2.0 * f64::from(in_flight)).min(MAX),
            unloaded: None,
            high: None,
            leaps: true,
            earlier: 0,
            is_full: false,
            successes: 0,
            slowness: 0,
        }
    }

    /// Begins with a limit that was found before.
    pub(crate) fn begin_at(&mut self, limit: u32) {
        self.limit = f64::from(limit).clamp(1.0, MAX);
    }

    /// The limit.
    pub(crate) fn limit(&self) -> u32 {
        self.limit.round() as u32
    }

    /// Takes in the requests that ended in the last second, the successes among them with the sum of their times on the logarithmic
    /// scale, and the requests in flight.
    pub(crate) fn look(&mut self, ended: u32, (successes, slowness): (u32, u64), in_flight: u32) {
        if self.earlier > 0 {
            // The times of these requests say nothing about the present limit.
            self.earlier = self.earlier.saturating_sub(ended);
            return;
        }
        self.successes += successes;
        self.slowness += slowness;
        if self.successes < SUCCESSES_MIN {
            return;
        }
        let time = self.slowness as f64 / f64::from(self.successes);
        (self.successes, self.slowness) = (0, 0);
        let (in_flight, before) = (f64::from(in_flight), self.limit);
        let is_full = in_flight >= (0.9 * self.limit).floor();
        let was_full = std::mem::replace(&mut self.is_full, is_full);
        if is_full && !was_full {
            self.earlier = in_flight as u32;
            return;
        }
        self.learn(time, in_flight * 2.0 <= self.limit);
        if !is_full {
            // The limit limits nothing at the moment.
            self.high = None;
        } else if let Some(unloaded) = self.unloaded {
            match (unloaded + CONGESTED - time) / CONGESTED {
                room @ 0.0.. => self.rise(room),
                _ => self.fall(time),
            }
        } else {
            self.explore(time);
        }
        self.limit = self.limit.clamp(1.0, MAX);
        if self.limit != before {
            self.earlier = in_flight as u32;
        }
    }

    /// Learns the time of an unloaded backend.
    fn learn(&mut self, time: f64, is_unloaded: bool) {
        self.unloaded = match self.unloaded {
            None => is_unloaded.then_some(time),
            // No queue makes a time shorter. Half of the way, because the mean of few times is not exact.
            Some(unloaded) if time < unloaded => Some((unloaded + time) / 2.0),
            Some(unloaded) if is_unloaded => Some(unloaded + (time - unloaded) / 10.0),
            Some(unloaded) => Some(unloaded),
        };
    }

    /// Raises the limit; `room` is 1 at the time of an unloaded backend, and 0 at the longest time.
    fn rise(&mut self, room: f64) {
        self.high = None;
        self.limit = if self.leaps { self.limit * 2.0 } else { self.limit * (1.02 + 0.2 * room.min(1.0)) + 0.5 };
    }

    /// Changes the limit of a backend at its limit of which no time without load is known: first up, which makes no request wait
    /// here, and down if the requests wait there.
    fn explore(&mut self, time: f64) {
        match self.high {
            None if self.leaps => {
                self.high = Some((self.limit, time));
                self.limit *= 2.0;
            }
            Some((limit, before)) if self.limit > limit && time - before < FALLS => {
                // Twice as many did not take longer.
                self.unloaded = Some(before);
                self.rise(1.0);
            }
            Some((limit, _)) if self.limit > limit => {
                self.high = None;
                self.fall(time);
            }
            _ => self.fall(time),
        }
    }

    fn fall(&mut self, time: f64) {
        let (limit, before) = *self.high.get_or_insert((self.limit, time));
        if self.limit <= (limit / 2.0).max(1.0) {
            if self.limit <= 1.0 || before - time < FALLS {
                // The requests did not wait for each other.
                self.unloaded = Some(time);
                self.leaps = true;
                return self.rise(1.0);
            }
            self.high = Some((self.limit, time));
        }
        self.leaps = false;
        let factor = self.unloaded.map_or(0.5, |unloaded| ((unloaded + CONGESTED - time) / 64.0).exp2());
        self.limit *= factor.clamp(0.5, 0.95);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::load::log_scale;

    /// A backend that works on `workers` requests at the same time.
    struct Backend {
        workers: f64,
        service: Duration,
        adaptive: Adaptive,
    }

    impl Backend {
        fn new(workers: u32, service_ms: u64) -> Self {
            let service = Duration::from_millis(service_ms);
            Backend { workers: workers.into(), service, adaptive: Adaptive::new(1, 0) }
        }

        /// The requests that end in a second while `wanted` requests are there at any time.
        fn second(&mut self, wanted: f64) -> f64 {
            let in_flight = wanted.min(self.adaptive.limit().into());
            let time = self.service.mul_f64((in_flight / self.workers).max(1.0));
            let ended = in_flight / time.as_secs_f64();
            self.adaptive.look(ended as u32, (ended as u32, log_scale(time) * ended as u64), in_flight as u32);
            ended
        }

        fn seconds(&mut self, seconds: u32, wanted: f64) {
            (0..seconds).for_each(|_| {
                self.second(wanted);
            });
        }

        fn limit_in_workers(&self) -> f64 {
            f64::from(self.adaptive.limit()) / self.workers
        }
    }

    #[test]
    fn under_overload_the_limit_stays_near_the_capacity() {
        for (workers, service) in [(4, 5), (20, 50), (500, 100), (3_000, 20)] {
            let mut backend = Backend::new(workers, service);
            backend.seconds(5, f64::from(workers) / 3.0);
            backend.seconds(20, 1e6);
            for _ in 0..60 {
                let ended = backend.second(1e6);
                let share = ended / (backend.workers / backend.service.as_secs_f64());
                assert!(share > 0.95, "{workers} workers: {share} of the capacity");
                let limit = backend.limit_in_workers();
                assert!((0.95..1.8).contains(&limit), "{workers} workers: the limit is {limit} times as high");
            }
        }
    }

    #[test]
    fn a_start_under_overload_finds_the_capacity() {
        let mut backend = Backend::new(4, 50);
        backend.seconds(45, 1e6);
        assert!((0.9..1.8).contains(&backend.limit_in_workers()), "{:?}", backend.adaptive);
    }

    #[test]
    fn a_backend_that_becomes_slower_keeps_its_limit() {
        let mut backend = Backend::new(200, 20);
        backend.seconds(5, 50.0);
        backend.seconds(20, 1e6);
        backend.service *= 4;
        backend.seconds(20, 1e6);
        for _ in 0..30 {
            backend.second(1e6);
            assert!(
                backend.limit_in_workers() > 0.95,
                "the slower time is that of an unloaded backend: {:?}",
                backend.adaptive
            );
        }
    }

    #[test]
    fn a_limit_that_is_not_reached_stays() {
        let mut backend = Backend::new(1_000, 20);
        backend.seconds(60, 30.0);
        assert_eq!(backend.adaptive.limit(), FIRST);
    }

    #[test]
    fn the_limit_grows_with_the_capacity() {
        let mut backend = Backend::new(20, 20);
        backend.seconds(5, 5.0);
        backend.seconds(20, 1e6);
        backend.workers = 400.0;
        backend.seconds(60, 1e6);
        assert!((0.9..1.8).contains(&backend.limit_in_workers()), "{:?}", backend.adaptive);
    }
}
