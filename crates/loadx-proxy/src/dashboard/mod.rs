//! The page at `/__dashboard__`. Its parts are in the binary, so that the page needs nothing from elsewhere.

use std::borrow::Cow;

use loadx_core::route::DashboardFile;

use crate::request_id::RequestId;
use crate::sides::OwnResponse;

/// The page loads its own parts alone, runs no script of others, and lies in no frame.
const POLICY: &str = "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n\
                      X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n\
                      Cross-Origin-Opener-Policy: same-origin\r\nCross-Origin-Resource-Policy: same-origin\r\n";

/// The response with a file of the page.
pub(crate) fn response(file: DashboardFile, id: &RequestId) -> OwnResponse<'static> {
    let (content_type, content) = match file {
        DashboardFile::Page => ("text/html; charset=utf-8", include_str!("page.html")),
        DashboardFile::Script => ("text/javascript; charset=utf-8", include_str!("page.js")),
        DashboardFile::Style => ("text/css; charset=utf-8", include_str!("page.css")),
        DashboardFile::Icon => ("image/svg+xml", include_str!("icon.svg")),
    };
    OwnResponse {
        status: 200,
        content_type: Some(content_type),
        // Another version of LoadX has other parts under the same names.
        fields: format!("Cache-Control: no-cache\r\n{POLICY}X-Request-Id: {id}\r\n"),
        content: Cow::Borrowed(content.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_small_and_names_no_other_host() {
        let files = DashboardFile::ALL.map(|file| response(file, &RequestId::made(1)).content.into_owned());
        let files = files.map(|content| String::from_utf8(content).unwrap());
        assert!(files.iter().map(String::len).sum::<usize>() < 100 * 1_024);
        for file in files {
            let foreign = file.match_indices("//").filter(|(at, _)| file[..*at].ends_with(':'));
            let foreign: Vec<&str> = foreign.map(|(at, _)| &file[at..(at + 24).min(file.len())]).collect();
            assert!(foreign.iter().all(|address| address.starts_with("//www.w3.org/2000/svg")), "{foreign:?}");
        }
    }
}
