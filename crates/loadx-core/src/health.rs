//! Whether one backend is fit to serve: a state machine over evidence and time.
//!
//! Evidence is of two kinds. *Probes* ask the backend on a schedule; it takes several in a row to
//! change its standing. A *connection that real traffic could not open* needs no second opinion:
//! the backend leaves at once, and probes bring it back.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::{Rng, Time};

/// How backends are probed and judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthPolicy {
    /// Between two probes of a backend that stands firm; jittered by a tenth. Default 30 s.
    pub interval: Duration,
    /// How long a probe may take, connecting included. Default 5 s.
    pub timeout: Duration,
    /// Good probes in a row that bring a backend back. Default 2.
    pub rise: u32,
    /// Bad probes in a row that take a backend out. Default 3.
    pub fall: u32,
    /// What a probe does. Default: a GET of `/health`, that any status below 500 passes.
    pub probe: Probe,
}

/// What a probe does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Sends a GET request.
    Get {
        /// The request target.
        path: Arc<str>,
        /// The statuses that count as healthy.
        accepts: Accepts,
    },
    /// Opens a connection and closes it.
    Connect,
    /// There are no probes: every backend counts as healthy, but for a connection that real traffic could not open.
    Off,
}

impl Default for Probe {
    fn default() -> Self {
        Probe::Get { path: "/health".into(), accepts: Accepts::AnyAnswer }
    }
}

/// The statuses that count as healthy.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Accepts {
    /// 200 to 399: the path was chosen for probes.
    Success,
    /// Everything below 500: nobody chose the path, and an application that does not have it is alive.
    AnyAnswer,
}

impl Accepts {
    /// Whether a status counts as healthy.
    pub fn status(self, status: u16) -> bool {
        match self {
            Accepts::Success => (200..=399).contains(&status),
            Accepts::AnyAnswer => status < 500,
        }
    }
}

impl HealthPolicy {
    /// Between two probes of a backend whose standing is in doubt, unless `interval` is shorter. The first
    /// ones come sooner: most outages are restarts.
    pub const DOUBT_INTERVAL: Duration = Duration::from_secs(1);

    /// After so many probes since the standing changed: a quarter of a second, a half, then whole ones.
    fn doubt_interval(&self, probes: u32) -> Duration {
        self.interval.min(Self::DOUBT_INTERVAL / (4 >> probes.min(2)))
    }
}

impl Default for HealthPolicy {
    fn default() -> Self {
        HealthPolicy {
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            rise: 2,
            fall: 3,
            probe: Probe::default(),
        }
    }
}

/// What the evidence says of a backend.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No evidence yet. It gets requests: at start, waiting for the first probe would refuse traffic
    /// that it could serve. The first probe decides alone.
    Unproven,
    /// It gets requests.
    Up,
    /// It gets none.
    Down,
}

impl Standing {
    /// The word for it in status pages and metrics.
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
    /// When the attempt that it comes from began.
    pub began: Time,
    /// What it showed.
    pub evidence: Evidence,
}

/// What an attempt to reach a backend showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The probe was answered well.
    ProbePassed {
        /// The status code of the answer; 0 for a probe that only connects.
        status: u16,
    },
    /// The probe was not answered, or badly.
    ProbeFailed {
        /// What went wrong, in words.
        reason: Arc<str>,
    },
    /// The probe could not be made, for want of something on our side. It says nothing about the backend.
    ProbeImpossible {
        /// What went wrong, in words.
        reason: Arc<str>,
    },
    /// Real traffic could not connect: refused, timed out, unreachable.
    ConnectFailed {
        /// What went wrong, in words.
        reason: Arc<str>,
    },
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Evidence::ProbePassed { status: 0 } => f.write_str("connected"),
            Evidence::ProbePassed { status } => write!(f, "answered {status}"),
            Evidence::ProbeFailed { reason } => write!(f, "failed: {reason}"),
            Evidence::ProbeImpossible { reason } => write!(f, "could not be made: {reason}"),
            Evidence::ConnectFailed { reason } => write!(f, "cannot connect: {reason}"),
        }
    }
}

/// The health of one backend.
#[derive(Debug)]
pub(crate) struct Health {
    standing: Standing,
    since: Time,
    reason: Arc<str>,
    /// Probes in a row that disagree with the standing.
    dissent: u32,
    /// Whether it is out because real traffic could not connect.
    refused: bool,
    probes_since_turn: u32,
    schedule: ProbeSchedule,
    last_probe: Option<Time>,
    probe_took: Option<Duration>,
}

/// When the next probe is due. `Running` keeps a slow probe from being joined by a second one.
#[derive(Debug, PartialEq, Eq)]
enum ProbeSchedule {
    Due(Time),
    Running,
}

impl Health {
    pub(crate) fn new(now: Time) -> Self {
        Health {
            standing: Standing::Unproven,
            since: now,
            reason: "not probed yet".into(),
            dissent: 0,
            refused: false,
            probes_since_turn: 0,
            schedule: ProbeSchedule::Due(now),
            last_probe: None,
            probe_took: None,
        }
    }

    /// Takes in evidence. Returns whether the standing changed.
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
                // Nothing but refused connections spoke against it: then one good probe clears it.
                let rise = if self.refused { 1 } else { policy.rise };
                self.weigh(now, Standing::Up, rise, || match status {
                    0 => "probe connected".into(),
                    status => format!("probe answered {status}").into(),
                });
                self.probed(now, policy, rng);
            }
            Evidence::ProbeFailed { reason } => {
                self.weigh(now, Standing::Down, policy.fall, || format!("probe failed: {reason}").into());
                self.probed(now, policy, rng);
            }
            Evidence::ProbeImpossible { .. } => self.probed(now, policy, rng),
            Evidence::ConnectFailed { reason } => self.refuse(now, observation.began, reason),
        }
        debug_assert!(self.dissent < policy.rise.max(policy.fall), "dissent outlived its verdict");
        self.standing != before
    }

    /// A probe speaks for `verdict`; `needed` of them in a row bring it about.
    fn weigh(&mut self, now: Time, verdict: Standing, needed: u32, reason: impl FnOnce() -> Arc<str>) {
        if self.standing == verdict {
            self.dissent = 0;
            self.reason = reason();
            return;
        }
        self.dissent += 1;
        if self.standing == Standing::Unproven || self.dissent >= needed {
            self.turn(now, verdict, reason());
        }
    }

    /// Real traffic could not connect. Attempts that began before the standing last changed say
    /// nothing about the backend of today: a connect that times out may be half a minute old.
    fn refuse(&mut self, now: Time, began: Time, reason: &str) {
        if self.standing == Standing::Down || (self.standing == Standing::Up && began < self.since) {
            return;
        }
        self.turn(now, Standing::Down, format!("cannot connect: {reason}").into());
        self.refused = true;
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
        self.probes_since_turn = 0;
    }

    /// A probe ended: when is the next? Soon while its verdict is open or the backend is out, so
    /// that neither a failure nor a recovery has to wait for a long interval.
    fn probed(&mut self, now: Time, policy: &HealthPolicy, rng: &mut impl Rng) {
        self.last_probe = Some(now);
        let firm = self.standing == Standing::Up && self.dissent == 0;
        let pause = if firm { policy.interval } else { policy.doubt_interval(self.probes_since_turn) };
        self.probes_since_turn = self.probes_since_turn.saturating_add(1);
        self.schedule = ProbeSchedule::Due(now + rng.jitter(pause));
    }

    /// Takes in another policy: probes that were not enough for a verdict under the former one must not exceed what
    /// the new one asks for.
    pub(crate) fn reconfigure(&mut self, policy: &HealthPolicy) {
        self.dissent = self.dissent.min(policy.rise.min(policy.fall).saturating_sub(1));
    }

    /// When the next probe is due; nothing while one runs.
    pub(crate) fn probe_due(&self) -> Option<Time> {
        match self.schedule {
            ProbeSchedule::Due(at) => Some(at),
            ProbeSchedule::Running => None,
        }
    }

    /// Takes the probe that is due, if one is; its caller owes an observation.
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
mod tests {
    use super::*;
    use crate::SplitMix64;

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    struct Patient {
        health: Health,
        policy: HealthPolicy,
        rng: SplitMix64,
    }

    impl Patient {
        fn new() -> Self {
            Patient { health: Health::new(Time::ZERO), policy: HealthPolicy::default(), rng: SplitMix64::new(7) }
        }

        fn shows(&mut self, now: Time, evidence: Evidence) -> bool {
            self.health.observe(now, &Observation { began: now, evidence }, &self.policy, &mut self.rng)
        }

        fn passes(&mut self, now: Time) -> bool {
            self.shows(now, Evidence::ProbePassed { status: 200 })
        }

        fn fails(&mut self, now: Time) -> bool {
            self.shows(now, Evidence::ProbeFailed { reason: "status 500".into() })
        }
    }

    #[test]
    fn the_first_probe_decides_alone() {
        let mut patient = Patient::new();
        assert!(patient.fails(at(0)));
        assert_eq!(patient.health.standing(), Standing::Down);
        let mut patient = Patient::new();
        assert!(patient.passes(at(0)));
        assert_eq!(patient.health.standing(), Standing::Up);
    }

    #[test]
    fn it_takes_fall_failures_in_a_row_to_leave_and_rise_passes_to_return() {
        let mut patient = Patient::new();
        patient.passes(at(0));
        assert!(!patient.fails(at(1)));
        assert!(!patient.fails(at(2)));
        assert!(!patient.passes(at(3)), "a pass in between forgives the failures");
        assert!(!patient.fails(at(4)));
        assert!(!patient.fails(at(5)));
        assert!(patient.fails(at(6)));
        assert_eq!(&**patient.health.reason(), "probe failed: status 500");
        assert!(!patient.passes(at(7)));
        assert!(patient.passes(at(8)));
        assert_eq!(patient.health.standing(), Standing::Up);
    }

    #[test]
    fn a_refused_connection_ejects_at_once_and_asks_for_a_probe_now() {
        let mut patient = Patient::new();
        patient.passes(at(0));
        assert!(patient.shows(at(5), Evidence::ConnectFailed { reason: "connection refused".into() }));
        assert_eq!(patient.health.standing(), Standing::Down);
        assert_eq!(patient.health.probe_due(), Some(at(5)));
    }

    #[test]
    fn one_good_probe_clears_a_refused_connection() {
        let mut patient = Patient::new();
        patient.passes(at(0));
        patient.shows(at(5), Evidence::ConnectFailed { reason: "connection refused".into() });
        assert!(!patient.fails(at(5)), "still restarting");
        let soon = patient.health.probe_due().unwrap().since(at(5));
        assert!(soon < Duration::from_millis(300), "{soon:?}");
        assert!(patient.passes(at(6)));
        assert_eq!(patient.health.standing(), Standing::Up);
    }

    #[test]
    fn a_probe_that_could_not_be_made_says_nothing() {
        let mut patient = Patient::new();
        patient.passes(at(0));
        for second in 1..10 {
            assert!(!patient.shows(at(second), Evidence::ProbeImpossible { reason: "too many open files".into() }));
        }
        assert_eq!(patient.health.standing(), Standing::Up);
    }

    #[test]
    fn a_connect_that_began_before_the_recovery_does_not_undo_it() {
        let mut patient = Patient::new();
        patient.fails(at(0));
        patient.passes(at(10));
        assert!(patient.passes(at(11)));
        let old = Observation { began: at(3), evidence: Evidence::ConnectFailed { reason: "timed out".into() } };
        let Patient { health, policy, rng } = &mut patient;
        assert!(!health.observe(at(33), &old, policy, rng));
    }

    #[test]
    fn doubt_is_settled_quickly_and_certainty_is_left_alone() {
        let mut patient = Patient::new();
        patient.passes(at(0));
        let pause = patient.health.probe_due().unwrap().since(at(0));
        assert!(pause >= Duration::from_secs(27) && pause <= Duration::from_secs(33), "{pause:?}");
        patient.fails(at(30));
        let pause = patient.health.probe_due().unwrap().since(at(30));
        assert!(pause <= Duration::from_millis(1100), "{pause:?}");
    }

    #[test]
    fn a_running_probe_is_not_joined_by_another() {
        let mut health = Health::new(at(0));
        assert!(health.take_probe(at(0)));
        assert!(!health.take_probe(at(100)));
        assert_eq!(health.probe_due(), None);
    }
}
