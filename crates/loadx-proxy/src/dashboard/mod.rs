//! The page at `/__dashboard__`. Its parts are in the binary, so that the page needs nothing from elsewhere.

use std::borrow::Cow;

use loadx_core::route::Endpoint;

use crate::request_id::RequestId;
use crate::sides::OwnResponse;

/// The page loads its own parts alone, runs no script of others, and lies in no frame.
const POLICY: &str = "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n\
                      X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n\
                      Cross-Origin-Opener-Policy: same-origin\r\nCross-Origin-Resource-Policy: same-origin\r\n";

/// A part of the page; `None` for an endpoint that is not a part.
pub(crate) fn part(endpoint: Endpoint, id: &RequestId) -> Option<OwnResponse<'static>> {
    let (content_type, content) = match endpoint {
        Endpoint::Dashboard => ("text/html; charset=utf-8", include_str!("page.html")),
        Endpoint::DashboardScript => ("text/javascript; charset=utf-8", include_str!("page.js")),
        Endpoint::DashboardStyle => ("text/css; charset=utf-8", include_str!("page.css")),
        Endpoint::DashboardIcon => ("image/svg+xml", include_str!("icon.svg")),
        _ => return None,
    };
    Some(OwnResponse {
        status: 200,
        content_type: Some(content_type),
        // Another version of LoadX has other parts under the same names.
        fields: format!("Cache-Control: no-cache\r\n{POLICY}X-Request-Id: {id}\r\n"),
        content: Cow::Borrowed(content.as_bytes()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_small_and_names_no_other_host() {
        let parts = Endpoint::ALL.into_iter().filter_map(|endpoint| part(endpoint, &RequestId::made(1)));
        let parts: Vec<String> = parts.map(|part| String::from_utf8(part.content.into_owned()).unwrap()).collect();
        assert_eq!(parts.len(), 4);
        assert!(parts.iter().map(String::len).sum::<usize>() < 100 * 1_024);
        for part in parts {
            let foreign = part.match_indices("//").filter(|(at, _)| part[..*at].ends_with(':'));
            let foreign: Vec<&str> = foreign.map(|(at, _)| &part[at..(at + 24).min(part.len())]).collect();
            assert!(foreign.iter().all(|address| address.starts_with("//www.w3.org/2000/svg")), "{foreign:?}");
        }
    }
}
