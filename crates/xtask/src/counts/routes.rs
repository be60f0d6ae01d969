//! Finding the route of a request among very many routes.

use std::borrow::Cow;
use std::hint::black_box;
use std::sync::Arc;

use loadx_core::route::{Access, Action, Asked, FieldEdits, Fields, Forward, PathRule, Route, RouteTable, Rules};

/// The routes of each host, one per prefix.
const ROUTES_PER_HOST: usize = 10;

struct NoFields;

impl Fields for NoFields {
    fn value(&self, _: &str) -> Option<Cow<'_, [u8]>> {
        None
    }
}

/// Finds the route of a request among `hosts` × 10 routes, `times` times.
pub(super) fn find(hosts: usize, times: u32) {
    let table = RouteTable::new(routes(hosts));
    let wanted = format!("host-{}.example.com", hosts / 2);
    for _ in 0..times {
        let asked = Asked {
            listener: 0,
            host: wanted.as_bytes(),
            path: b"/api/v7/users/42",
            query: b"",
            method: b"GET",
            fields: &NoFields,
        };
        let found = table.find_unambiguous(black_box(&asked));
        assert!(black_box(found).is_ok_and(|found| found.is_some()), "every host has this prefix");
    }
}

fn routes(hosts: usize) -> Vec<Route> {
    let name: Arc<str> = "route".into();
    let route = |number: usize| Route {
        name: Arc::clone(&name),
        rules: Rules {
            hosts: vec![format!("host-{}.example.com", number / ROUTES_PER_HOST).into()],
            path: PathRule::Prefix(format!("/api/v{}", number % ROUTES_PER_HOST).into()),
            ..Rules::default()
        },
        action: Action::Forward(Forward::to(0)),
        access: Access::default(),
        exchange_timeout: None,
        body_max: None,
        response_fields: FieldEdits::default(),
    };
    (0..hosts * ROUTES_PER_HOST).map(route).collect()
}
