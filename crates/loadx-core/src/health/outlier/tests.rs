use super::*;
use crate::load::log_scale;

/// The counts after `seconds` looks with these attempts per second.
fn after(seconds: u32, ended: u32, failed: u32, time: Duration) -> Tally {
    let mut tally = Tally::default();
    for second in 1..=seconds {
        let slowness = u64::from(second * (ended - failed)) * log_scale(time);
        let (ended, failed) = (second * ended, second * failed);
        tally.look(Totals { ended, failed, slowness, ..Totals::default() });
    }
    tally
}

fn found(tallies: &[Tally]) -> Option<(usize, Fault)> {
    worst(&tallies.iter().collect::<Vec<_>>(), &OutlierPolicy::default())
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_backend_that_fails_more_than_the_others_is_found() {
    let found = found(&[after(3, 30, 0, MS), after(3, 30, 10, MS), after(3, 30, 1, MS)]);
    let (position, fault) = found.unwrap();
    assert_eq!(position, 1);
    assert_eq!(&*fault.reason(), "33 % of the requests failed; at other backends 3 %");
}

#[test]
fn failures_that_all_backends_share_make_no_outlier() {
    assert_eq!(found(&[after(3, 30, 28, MS), after(3, 30, 30, MS), after(3, 30, 25, MS)]), None);
}

#[test]
fn forgotten_failures_are_not_compared_but_counted_once() {
    let mut tally = after(1, 30, 0, MS);
    let failed = Totals { ended: 60, failed: 20, ..tally.last };
    tally.forget(failed);
    tally.look(Totals { ended: 70, ..failed });
    assert_eq!((tally.ended, tally.failed), (10.0, 0.0));
    assert_eq!((tally.ended_now(), tally.failed_now()), (40, 20));
    tally.look(Totals { ended: 80, failed: 21, ..failed });
    assert_eq!((tally.ended_now(), tally.failed_now(), tally.failed), (10, 1, 1.0));
}

#[test]
fn few_requests_decide_nothing() {
    assert_eq!(found(&[after(1, 30, 0, MS), after(1, 10, 5, MS), after(1, 30, 0, MS)]), None);
    assert_eq!(found(&[after(1, 30, 0, MS), after(1, 25, 2, MS), after(1, 30, 0, MS)]), None, "two may be chance");
}

#[test]
fn one_bad_backend_of_two_is_found() {
    assert_eq!(found(&[after(3, 30, 10, MS), after(3, 30, 0, MS)]).unwrap().0, 0);
}

#[test]
fn a_slow_backend_is_found_among_three_but_not_among_two() {
    let slow = || after(3, 30, 0, 20 * MS);
    let (position, fault) = found(&[after(3, 30, 0, MS), after(3, 30, 0, MS), slow()]).unwrap();
    assert_eq!((position, &*fault.reason()), (2, "responses take 20 ms; those of other backends 1.0 ms"));
    assert_eq!(found(&[after(3, 30, 0, MS), slow()]), None);
}

#[test]
fn small_differences_of_time_are_none() {
    let twice = after(3, 30, 0, 40 * MS);
    assert_eq!(found(&[after(3, 30, 0, 20 * MS), twice, after(3, 30, 0, 20 * MS)]), None);
    let tenth = Duration::from_micros(100);
    let fast = || after(3, 30, 0, tenth);
    assert_eq!(found(&[fast(), after(3, 30, 0, 5 * MS), fast()]), None, "50 times as long, and still fast");
}

#[test]
fn a_few_very_long_requests_do_not_make_a_backend_slow() {
    let mut tally = Tally::default();
    let slowness = 88 * log_scale(10 * MS) + 2 * log_scale(Duration::from_secs(60));
    tally.look(Totals { ended: 90, slowness, ..Totals::default() });
    assert_eq!(found(&[after(3, 30, 0, 10 * MS), tally, after(3, 30, 0, 10 * MS)]), None);
}

/// Looks of a backend that ends nothing, with the exchanges in flight at each look.
fn silent_for(in_flight: &[u32]) -> Tally {
    let mut tally = Tally::default();
    for in_flight in in_flight {
        tally.look(Totals { in_flight: *in_flight, ..Totals::default() });
    }
    tally
}

#[test]
fn a_backend_that_answers_nothing_while_others_do_is_found() {
    let found_with = |in_flight: &[u32]| found(&[after(3, 30, 0, MS), silent_for(in_flight), after(3, 30, 0, MS)]);
    assert_eq!(found_with(&[0, 15]), None, "one second with few requests may be a pause");
    let reason = |found: Option<(usize, Fault)>| found.map(|(position, fault)| (position, fault.reason().to_string()));
    let told = |text: &str| Some((1, format!("no answer for {text}, while other backends answer")));
    assert_eq!(reason(found_with(&[0, 15, 15])), told("2 s, and 15 more requests wait"));
    assert_eq!(reason(found_with(&[0, 30])), told("1 s, and 30 more requests wait"));
    assert_eq!(found_with(&[0, 4, 4]), None, "some long requests are no silence");
}

#[test]
fn long_tunnels_are_no_silence() {
    let mut tally = Tally::default();
    tally.look(Totals { in_flight: 50, ended: 1, ..Totals::default() });
    for _ in 0..20 {
        tally.look(Totals { in_flight: 52, ended: 1, ..Totals::default() });
    }
    assert_eq!(found(&[after(3, 30, 0, MS), tally, after(3, 30, 0, MS)]), None);
}

#[test]
fn heads_without_ends_are_no_silence() {
    let mut tally = Tally::default();
    tally.look(Totals { in_flight: 80, heads: 80, ..Totals::default() });
    (0..5).for_each(|_| tally.look(Totals { in_flight: 80, heads: 80, ..Totals::default() }));
    assert_eq!(found(&[after(3, 30, 0, MS), tally, after(3, 30, 0, MS)]), None);
}

#[test]
fn all_backends_that_answer_nothing_make_no_outlier() {
    assert_eq!(found(&[silent_for(&[0, 30, 60]), silent_for(&[0, 30, 60]), silent_for(&[0, 20, 50])]), None);
}

fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

#[test]
fn ejections_grow_and_decay() {
    let policy = OutlierPolicy::default();
    let mut ejections = Ejections::default();
    let mut begin = |now| {
        let lasts = ejections.begin(now, "".into(), &policy).as_secs();
        ejections.end(now + Duration::from_secs(lasts));
        lasts
    };
    assert_eq!([begin(at(0)), begin(at(11)), begin(at(32))], [10, 20, 30]);
    assert_eq!(begin(at(62 + 25)), 20, "two steps back for 25 s in rotation, and one on");
    assert_eq!(begin(at(10_000)), 10);
    let lasts: Vec<u64> = (0..40).map(|step| begin(at(20_000 + step))).collect();
    assert!(lasts.iter().all(|lasts| *lasts <= 300), "{lasts:?}");
}

#[test]
fn a_backend_that_others_always_overtake_is_silent() {
    let mut hung = after(1, 30, 0, MS);
    let last = hung.last;
    for look in 1..=2 {
        hung.look(Totals { overtaken: 4 * look, in_flight: 0, ..last });
    }
    let (position, fault) = found(&[after(3, 30, 0, MS), hung, after(3, 30, 0, MS)]).unwrap();
    assert_eq!((position, fault), (1, Fault::Silent { waiting: 8, seconds: 2 }));
}
