//! The Date of responses (RFC 9110, section 6.6.1), formatted once per second.

use std::cell::RefCell;
use std::rc::Rc;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

/// Formats the present time for Date (RFC 9110, section 5.6.7), and caches the text for the present second.
#[derive(Debug, Default)]
pub(crate) struct Date {
    cached: RefCell<Option<(i64, Rc<str>)>>,
}

impl Date {
    pub(crate) fn now(&self) -> Rc<str> {
        let now = Timestamp::now();
        let mut cached = self.cached.borrow_mut();
        match &*cached {
            Some((second, text)) if *second == now.as_second() => Rc::clone(text),
            _ => {
                let text: Rc<str> = format_date(now).into();
                *cached = Some((now.as_second(), Rc::clone(&text)));
                text
            }
        }
    }
}

/// Formats the present time without a cache.
pub(crate) fn now() -> String {
    format_date(Timestamp::now())
}

fn format_date(time: Timestamp) -> String {
    DateTimePrinter::new().timestamp_to_rfc9110_string(&time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_has_the_format_of_http() {
        assert_eq!(format_date(Timestamp::from_second(784_111_777).unwrap()), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(Date::default().now().len(), now().len());
    }
}
