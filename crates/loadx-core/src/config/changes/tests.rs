//! Changes of backends on top of configs.

use super::*;

fn config(text: &str) -> Config {
    crate::config::parse(text).unwrap()
}

fn two() -> Config {
    config(
        r#"{"routes": [{"cluster": "a"}, {"hosts": ["b"], "cluster": "b"}], "clusters": {
            "a": {"backends": ["10.0.0.1:80", {"host": "10.0.0.2", "port": 80, "name": "two", "weight": 3}]},
            "b": {"backends": ["10.0.0.1:80"]}}}"#,
    )
}

fn shown(changes: &Changes) -> Vec<String> {
    changes.iter().map(ToString::to_string).collect()
}

fn add(host: &str) -> Wanted {
    Wanted::Add(BackendSpec::new(host, 80))
}

#[test]
fn changes_apply_to_the_config_and_vanish_when_undone() {
    let (base, mut changes) = (two(), Changes::default());
    assert_eq!(changes.make(&base, None, "two", &Wanted::Drain(true)).unwrap(), "10.0.0.2:80 of a");
    changes.make(&base, Some("b"), "10.0.0.1:80", &Wanted::Weight(7)).unwrap();
    changes.make(&base, Some("a"), "", &add("10.0.0.3")).unwrap();
    changes.make(&base, Some("a"), "10.0.0.1:80", &Wanted::Remove).unwrap();
    assert_eq!(
        shown(&changes),
        [
            "10.0.0.2:80 of a: drained",
            "10.0.0.1:80 of b: weight 7",
            "10.0.0.3:80 of a: added",
            "10.0.0.1:80 of a: removed"
        ]
    );
    let running = changes.applied_to(&base);
    let a: Vec<_> = running.clusters[0].backends.iter().map(|spec| (spec.authority(), spec.drain)).collect();
    assert_eq!(a, [("10.0.0.2:80".to_owned(), true), ("10.0.0.3:80".to_owned(), false)]);
    assert_eq!(running.clusters[1].backends[0].weight, 7);
    changes.make(&base, None, "two", &Wanted::Drain(false)).unwrap();
    changes.make(&base, None, "10.0.0.1:80", &Wanted::Weight(1)).unwrap();
    changes.make(&base, None, "10.0.0.3:80", &Wanted::Remove).unwrap();
    changes.make(&base, Some("a"), "", &add("10.0.0.1")).unwrap();
    assert!(changes.is_empty(), "{changes:?}");
    assert_eq!(changes.applied_to(&base), base);
}

#[test]
fn impossible_changes_say_why_and_change_nothing() {
    let (base, mut changes) = (two(), Changes::default());
    let mut fails = |cluster, backend, wanted| changes.make(&base, cluster, backend, &wanted).unwrap_err().to_string();
    for (told, part) in [
        (fails(Some("c"), "two", Wanted::Remove), "the clusters are: a, b"),
        (fails(None, "three", Wanted::Remove), "the backends are: 10.0.0.1:80, 10.0.0.2:80, 10.0.0.1:80"),
        (fails(None, "10.0.0.1:80", Wanted::Remove), "the clusters are: a, b"),
        (fails(Some("b"), "10.0.0.1:80", Wanted::Remove), "the last backend of the cluster b"),
        (fails(Some("a"), "two", Wanted::Weight(0)), "from 1 to 1000"),
        (fails(None, "", add("10.0.0.9")), "the clusters are: a, b"),
        (fails(Some("a"), "", add("10.0.0.1")), "already has 10.0.0.1:80"),
    ] {
        assert!(told.contains(part), "{told}");
    }
    assert!(changes.is_empty());
}

#[test]
fn changes_survive_a_config_that_lacks_their_backend_until_they_are_pruned() {
    let (base, mut changes) = (two(), Changes::default());
    changes.make(&base, None, "two", &Wanted::Drain(true)).unwrap();
    let other = config(r#"{"clusters": {"a": {"backends": ["10.0.0.1:80", "10.0.0.7:80"]}}}"#);
    assert_eq!(changes.applied_to(&other), other);
    changes.make(&other, None, "10.0.0.7:80", &Wanted::Weight(4)).unwrap();
    assert!(changes.applied_to(&base).clusters[0].backends[1].drain, "the former config is drained as before");
    changes.prune(&other);
    assert_eq!(shown(&changes), ["10.0.0.7:80 of a: weight 4"]);
}

#[test]
fn an_added_backend_gives_up_a_name_that_the_file_uses() {
    let (base, mut changes) = (two(), Changes::default());
    let wanted = Wanted::Add(BackendSpec { name: "three".into(), ..BackendSpec::new("10.0.0.3", 80) });
    changes.make(&base, Some("a"), "", &wanted).unwrap();
    let next = config(r#"{"clusters": {"a": {"backends": [{"host": "10.0.0.4", "port": 80, "name": "three"}]}}}"#);
    let names: Vec<_> =
        changes.applied_to(&next).clusters[0].backends.iter().map(|spec| spec.name.to_string()).collect();
    assert_eq!(names, ["three", "10.0.0.3:80"]);
}

#[test]
fn another_file_keeps_the_changes_that_still_mean_something() {
    let (base, mut changes) = (two(), Changes::default());
    changes.make(&base, None, "two", &Wanted::Drain(true)).unwrap();
    changes.make(&base, Some("a"), "", &add("10.0.0.3")).unwrap();
    changes.make(&base, Some("a"), "10.0.0.1:80", &Wanted::Remove).unwrap();
    changes.make(&base, Some("b"), "10.0.0.1:80", &Wanted::Weight(7)).unwrap();
    let next = config(r#"{"clusters": {"a": {"backends": ["10.0.0.2:80", "10.0.0.3:80"]}}}"#);
    let dropped = changes.prune(&next);
    assert_eq!(shown(&changes), ["10.0.0.2:80 of a: drained"]);
    assert_eq!(dropped.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.1:80 of b: weight 7"]);
    let only = config(r#"{"clusters": {"a": {"backends": ["10.0.0.1:80"]}}}"#);
    changes.make(&base, Some("a"), "10.0.0.1:80", &Wanted::Remove).unwrap();
    assert!(changes.prune(&only).iter().any(|change| change.to_string() == "10.0.0.1:80 of a: removed"));
    assert_eq!(changes.applied_to(&only).clusters[0].backends.len(), 1);
    changes.make(&base, None, "two", &Wanted::Drain(true)).unwrap();
    let text = serde_json::to_string(&changes).unwrap();
    assert_eq!(serde_json::from_str::<Changes>(&text).unwrap(), changes);
}
