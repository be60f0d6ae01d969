//! The health of one backend.

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
        Patient {
            health: Health::new(Time::ZERO, &HealthPolicy::default()),
            policy: HealthPolicy::default(),
            rng: SplitMix64::new(7),
        }
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
fn fall_bad_probes_eject_and_rise_good_probes_admit() {
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
fn a_backend_that_comes_and_goes_needs_more_good_probes() {
    let mut patient = Patient::new();
    let refused = || Evidence::ConnectFailed { reason: "connection refused".into() };
    patient.passes(at(0));
    patient.shows(at(5), refused());
    assert!(patient.passes(at(6)), "after the first time one good probe is enough");
    patient.shows(at(7), refused());
    assert!(!patient.passes(at(8)));
    assert!(patient.passes(at(9)));
    patient.shows(at(30), refused());
    assert!(patient.passes(at(31)), "the former time is long ago");
}

#[test]
fn an_impossible_probe_does_not_count() {
    let mut patient = Patient::new();
    patient.passes(at(0));
    for second in 1..10 {
        assert!(!patient.shows(at(second), Evidence::ProbeImpossible { reason: "too many open files".into() }));
    }
    assert_eq!(patient.health.standing(), Standing::Up);
}

#[test]
fn a_failed_connect_that_began_before_the_recovery_is_ignored() {
    let mut patient = Patient::new();
    patient.fails(at(0));
    patient.passes(at(10));
    assert!(patient.passes(at(11)));
    let old = Observation { began: at(3), evidence: Evidence::ConnectFailed { reason: "timed out".into() } };
    let Patient { health, policy, rng } = &mut patient;
    assert!(!health.observe(at(33), &old, policy, rng));
}

#[test]
fn contrary_evidence_shortens_the_probe_interval() {
    let mut patient = Patient::new();
    patient.passes(at(0));
    patient.passes(at(10));
    let pause = patient.health.probe_due().unwrap().since(at(10));
    assert!(pause >= Duration::from_secs(27) && pause <= Duration::from_secs(33), "{pause:?}");
    patient.fails(at(30));
    let pause = patient.health.probe_due().unwrap().since(at(30));
    assert!(pause <= Duration::from_millis(1100), "{pause:?}");
}

#[test]
fn probes_that_began_together_keep_a_steady_pace() {
    let (policy, mut rng) = (HealthPolicy::default(), SplitMix64::new(3));
    let mut due: Vec<Health> = (0..300).map(|_| Health::new(at(0), &policy)).collect();
    // The probes of each second, from the third minute on.
    let mut probes = vec![0; 300];
    for second in 0..300 {
        for health in due.iter_mut().filter(|health| health.probe_due().is_some_and(|due| due <= at(second))) {
            let evidence = Evidence::ProbePassed { status: 200 };
            health.observe(at(second), &Observation { began: at(second), evidence }, &policy, &mut rng);
            probes[second as usize] += 1;
        }
    }
    assert_eq!(probes[0], 300, "all backends are looked at at once");
    let most = probes[120..].iter().max().unwrap();
    assert!(*most <= 30, "300 backends in 30 s, and {most} in one second");
}

#[test]
fn a_backend_that_starts_down_needs_one_good_probe() {
    let policy = HealthPolicy { starts_up: false, ..HealthPolicy::default() };
    let mut rng = SplitMix64::new(7);
    let mut health = Health::new(at(0), &policy);
    assert_eq!(health.standing(), Standing::Down);
    let probe = |evidence| Observation { began: at(1), evidence };
    assert!(health.observe(at(1), &probe(Evidence::ProbePassed { status: 200 }), &policy, &mut rng));
    assert_eq!(health.standing(), Standing::Up);
    let mut health = Health::new(at(0), &policy);
    health.observe(at(1), &probe(Evidence::ProbeFailed { reason: "status 500".into() }), &policy, &mut rng);
    health.observe(at(1), &probe(Evidence::ProbePassed { status: 200 }), &policy, &mut rng);
    assert_eq!(health.standing(), Standing::Down, "after a bad probe it needs as many as any other");
}

#[test]
fn the_fast_interval_is_of_the_policy() {
    let mut patient = Patient::new();
    patient.policy.fast_interval = Duration::from_secs(8);
    patient.passes(at(0));
    patient.fails(at(10));
    for second in [20, 30, 40, 50, 60] {
        patient.fails(at(second));
    }
    let pause = patient.health.probe_due().unwrap().since(at(60));
    assert!((Duration::from_secs(7)..Duration::from_secs(9)).contains(&pause), "{pause:?}");
}

#[test]
fn no_second_probe_starts_while_one_runs() {
    let mut health = Health::new(at(0), &HealthPolicy::default());
    assert!(health.take_probe(at(0)));
    assert!(!health.take_probe(at(100)));
    assert_eq!(health.probe_due(), None);
}
