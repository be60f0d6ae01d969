//! The health of one backend: a state machine over evidence and time.
//!
//! There are two kinds of evidence. *Probes* run on a schedule; several bad probes in a row eject the backend, and
//! several good probes admit it. A *failed connect* of a request ejects the backend at once; probes admit it again.
//!
//! Beside this state, [`outlier`] compares the backends of a cluster by the outcomes of requests.

pub(crate) mod breaker;
pub(crate) mod outlier;
mod probe;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::{Rng, Time};

pub use breaker::BreakerPolicy;
pub use outlier::OutlierPolicy;
pub use probe::{HttpProbe, Probe, ProbeMethod, StatusRanges};

/// How LoadX probes backends and decides on their health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthPolicy {
    /// The time between two probes of a backend without contrary evidence; jittered by a tenth. Default 30 s.
    pub interval: Duration,
    /// The time between two probes of a backend with contrary evidence or out of rotation, unless `interval` is shorter.
    /// The first probes come sooner, because most outages are restarts. Default 1 s.
    pub fast_interval: Duration,
    /// The longest time of a probe, connecting included. Default 5 s.
    pub timeout: Duration,
    /// The number of good probes in a row that admit a backend. Default 2.
    pub rise: u32,
    /// The number of bad probes in a row that eject a backend. Default 3.
    pub fall: u32,
    /// The kind of probe. Default: a GET of `/health`; any status below 500 is healthy.
    pub probe: Probe,
    /// The port of probes; `None`: the port of the backend.
    pub port: Option<u16>,
    /// Whether a backend gets requests before its first probe. Default true, because waiting for probes at start would
    /// refuse traffic.
    pub starts_up: bool,
    /// How LoadX finds backends that fail more requests, or take longer, than the other backends; `None` means not at all.
    pub outliers: Option<OutlierPolicy>,
    /// When no request gets a backend, because most requests fail; `None`: never. Default `None`, because some success is more
    /// than none.
    pub breaker: Option<BreakerPolicy>,
    /// How long a backend that enters rotation needs to get its whole share; `None`: it gets its share at once. Default `None`,
    /// because most servers are ready when they answer probes.
    pub slow_start: Option<Duration>,
}

impl HealthPolicy {
    /// The time within which a second failed connect shows that a backend comes and goes.
    pub const FLAPS_WITHIN: Duration = Duration::from_secs(10);

    /// The time to the next probe, after `probes` probes since the standing changed: a quarter of the fast interval, half
    /// of it, then the fast interval.
    fn doubt_interval(&self, probes: u32) -> Duration {
        self.interval.min(self.fast_interval / (4 >> probes.min(2)))
    }
}

impl Default for HealthPolicy {
    fn default() -> Self {
        HealthPolicy {
            interval: Duration::from_secs(30),
            fast_interval: Duration::from_secs(1),
            timeout: Duration::from_secs(5),
            rise: 2,
            fall: 3,
            probe: Probe::default(),
            port: None,
            starts_up: true,
            outliers: Some(OutlierPolicy::default()),
            breaker: None,
            slow_start: None,
        }
    }
}

/// The state of a backend by the evidence.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No evidence yet. The backend gets requests, because waiting for the first probe at start would refuse traffic.
    /// The first probe alone decides.
    Unproven,
    /// The backend gets requests.
    Up,
    /// The backend gets no requests.
    Down,
}

impl Standing {
    /// The name of the state in status pages and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Standing::Unproven => "unproven",
            Standing::Up => "up",
            Standing::Down => "down",
        }
    }
}

/// One piece of evidence about a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The start of the attempt or probe that gave the evidence.
    pub began: Time,
    /// The evidence.
    pub evidence: Evidence,
}

/// The result of a probe, of the connect of a request, or of several requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The probe got a healthy answer.
    ProbePassed {
        /// The status code of the answer; 0 for a probe that only connects.
        status: u16,
    },
    /// The probe got no answer or an unhealthy answer.
    ProbeFailed {
        /// The reason, as text for logs.
        reason: Arc<str>,
    },
    /// The probe got no answer in time: nothing at all may come from the backend any more.
    ProbeTimedOut {
        /// The reason, as text for logs.
        reason: Arc<str>,
    },
    /// LoadX could not make the probe, because it lacked a resource. Says nothing about the backend.
    ProbeImpossible {
        /// The reason, as text for logs.
        reason: Arc<str>,
    },
    /// The connect of a request failed: refused, unreachable.
    ConnectFailed {
        /// The reason, as text for logs.
        reason: Arc<str>,
    },
    /// The connect of a request timed out: nothing at all may come from the backend any more.
    ConnectTimedOut {
        /// The reason, as text for logs.
        reason: Arc<str>,
    },
    /// Several requests in a row failed after LoadX had connected.
    FailedInARow {
        /// The number of failed requests.
        count: u32,
        /// How the last of them failed, as text for logs.
        last: Arc<str>,
    },
}

impl Evidence {
    /// Whether nothing came from the backend, so that requests that wait for it may wait in vain. A backend that refuses
    /// connections may still answer what it has.
    pub(crate) fn is_silence(&self) -> bool {
        matches!(self, Evidence::ProbeTimedOut { .. } | Evidence::ConnectTimedOut { .. })
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Evidence::ProbePassed { status: 0 } => f.write_str("connected"),
            Evidence::ProbePassed { status } => write!(f, "answered {status}"),
            Evidence::ProbeFailed { reason } | Evidence::ProbeTimedOut { reason } => write!(f, "failed: {reason}"),
            Evidence::ProbeImpossible { reason } => write!(f, "could not be made: {reason}"),
            Evidence::ConnectFailed { reason } | Evidence::ConnectTimedOut { reason } => {
                write!(f, "cannot connect: {reason}")
            }
            Evidence::FailedInARow { count, last } => write!(f, "{count} requests in a row failed: {last}"),
        }
    }
}

/// The health of one backend.
#[derive(Debug)]
pub(crate) struct Health {
    standing: Standing,
    since: Time,
    reason: Arc<str>,
    /// The number of probes in a row that contradict the standing.
    dissent: u32,
    /// Whether a failed connect of a request ejected the backend.
    refused: bool,
    /// When a failed connect last ejected the backend.
    refused_at: Option<Time>,
    /// Whether failed connects ejected the backend twice within [`HealthPolicy::FLAPS_WITHIN`].
    flaps: bool,
    probes_since_turn: u32,
    schedule: ProbeSchedule,
    last_probe: Option<Time>,
    probe_took: Option<Duration>,
    /// Whether the backend gets no requests because it has had no probe yet.
    awaits_first: bool,
}

/// When the next probe is due. `Running` prevents a second probe while a probe runs.
#[derive(Debug, PartialEq, Eq)]
enum ProbeSchedule {
    Due(Time),
    Running,
}

impl Health {
    /// The health of a new backend; `policy` decides whether the backend gets requests before its first probe.
    pub(crate) fn new(now: Time, policy: &HealthPolicy) -> Self {
        let awaits_first = !policy.starts_up && policy.probe != Probe::Off;
        Health {
            standing: if awaits_first { Standing::Down } else { Standing::Unproven },
            since: now,
            reason: "not probed yet".into(),
            awaits_first,
            dissent: 0,
            refused: false,
            refused_at: None,
            flaps: false,
            probes_since_turn: 0,
            schedule: ProbeSchedule::Due(now),
            last_probe: None,
            probe_took: None,
        }
    }

    /// Takes over the standing that the former process found.
    pub(crate) fn inherit(&mut self, now: Time, standing: Standing, reason: &Arc<str>, wait: Duration) {
        (self.standing, self.reason) = (standing, Arc::clone(reason));
        self.since = now;
        self.awaits_first = false;
        let wait = if standing == Standing::Up { wait } else { Duration::ZERO };
        self.schedule = ProbeSchedule::Due(now + wait);
    }

    /// Applies evidence. Returns whether the standing changed.
    pub(crate) fn observe(
        &mut self,
        now: Time,
        observation: &Observation,
        policy: &HealthPolicy,
        rng: &mut impl Rng,
    ) -> bool {
        let before = self.standing;
        match &observation.evidence {
            Evidence::ProbePassed { status } => {
                self.probe_took = Some(now.since(observation.began));
                // Only failed connects speak against the backend, so one good probe is enough; a backend that comes and goes
                // has to pass as many as after failed probes.
                let rise = if self.refused && !self.flaps { 1 } else { policy.rise };
                self.weigh(now, Standing::Up, rise, || match status {
                    0 => "probe connected".into(),
                    status => format!("probe answered {status}").into(),
                });
                self.probed(now, policy, rng);
            }
            Evidence::ProbeFailed { reason } | Evidence::ProbeTimedOut { reason } => {
                self.weigh(now, Standing::Down, policy.fall, || format!("probe failed: {reason}").into());
                self.probed(now, policy, rng);
            }
            Evidence::ProbeImpossible { .. } => self.probed(now, policy, rng),
            Evidence::ConnectFailed { reason } | Evidence::ConnectTimedOut { reason } => {
                self.refuse(now, observation.began, reason);
            }
            // The cluster compares the backend with the others.
            Evidence::FailedInARow { .. } => {}
        }
        debug_assert!(self.dissent < policy.rise.max(policy.fall), "dissent outlived its verdict");
        self.standing != before
    }

    /// Counts a probe for `verdict`; `needed` such probes in a row change the standing to `verdict`.
    fn weigh(&mut self, now: Time, verdict: Standing, needed: u32, reason: impl FnOnce() -> Arc<str>) {
        if self.standing == verdict {
            self.dissent = 0;
            self.awaits_first = false;
            self.reason = reason();
            return;
        }
        self.dissent += 1;
        if self.standing == Standing::Unproven || self.awaits_first || self.dissent >= needed {
            self.turn(now, verdict, reason());
        }
    }

    /// Applies a failed connect. Ignores attempts that began before the standing last changed: a connect that times out
    /// may have begun half a minute ago.
    fn refuse(&mut self, now: Time, began: Time, reason: &str) {
        if self.standing == Standing::Down || (self.standing == Standing::Up && began < self.since) {
            return;
        }
        self.turn(now, Standing::Down, format!("cannot connect: {reason}").into());
        self.refused = true;
        let former = self.refused_at.replace(now);
        self.flaps = former.is_some_and(|former| now.since(former) < HealthPolicy::FLAPS_WITHIN);
        if self.schedule != ProbeSchedule::Running {
            self.schedule = ProbeSchedule::Due(now);
        }
    }

    fn turn(&mut self, now: Time, standing: Standing, reason: Arc<str>) {
        self.standing = standing;
        self.since = now;
        self.reason = reason;
        self.dissent = 0;
        self.refused = false;
        self.awaits_first = false;
        self.probes_since_turn = 0;
    }

    /// Schedules the next probe after a probe ended: soon while the evidence contradicts the standing or the backend is
    /// out of rotation, so that LoadX detects a failure or a recovery without waiting for a long interval.
    ///
    /// The first probes of many backends come together. The second ones come at times spread over the interval, and from then
    /// on the probes of the backends keep a steady pace.
    fn probed(&mut self, now: Time, policy: &HealthPolicy, rng: &mut impl Rng) {
        let is_first = self.last_probe.replace(now).is_none();
        let firm = self.standing == Standing::Up && self.dissent == 0;
        let pause = if firm { policy.interval } else { policy.doubt_interval(self.probes_since_turn) };
        self.probes_since_turn = self.probes_since_turn.saturating_add(1);
        let pause = if firm && is_first { pause.mul_f64(rng.unit()) } else { rng.jitter(pause) };
        self.schedule = ProbeSchedule::Due(now + pause);
    }

    /// Applies another policy. Limits the count of contrary probes, so that probes under the former policy do not
    /// exceed what the new policy needs.
    pub(crate) fn reconfigure(&mut self, policy: &HealthPolicy) {
        if policy.probe == Probe::Off {
            // Nothing would admit an ejected backend, and the result of a running probe is ignored.
            self.standing = Standing::Unproven;
            self.reason = "not probed yet".into();
            self.refused = false;
            self.schedule = ProbeSchedule::Due(Time::ZERO);
        }
        self.dissent = self.dissent.min(policy.rise.min(policy.fall).saturating_sub(1));
    }

    /// When the next probe is due; `None` while a probe runs.
    pub(crate) fn probe_due(&self) -> Option<Time> {
        match self.schedule {
            ProbeSchedule::Due(at) => Some(at),
            ProbeSchedule::Running => None,
        }
    }

    /// Takes the probe that is due. Returns whether a probe was due; the caller must then observe its result.
    pub(crate) fn take_probe(&mut self, now: Time) -> bool {
        let due = self.probe_due().is_some_and(|at| at <= now);
        if due {
            self.schedule = ProbeSchedule::Running;
        }
        due
    }

    pub(crate) fn standing(&self) -> Standing {
        self.standing
    }

    pub(crate) fn since(&self) -> Time {
        self.since
    }

    pub(crate) fn reason(&self) -> &Arc<str> {
        &self.reason
    }

    pub(crate) fn last_probe(&self) -> Option<Time> {
        self.last_probe
    }

    pub(crate) fn probe_took(&self) -> Option<Duration> {
        self.probe_took
    }
}

#[cfg(test)]
mod tests;
