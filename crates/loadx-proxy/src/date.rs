//! The Date of responses (RFC 9110, section 6.6.1), formatted once per second.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::SystemTime;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

/// Formats the time of day for Date (RFC 9110, section 5.6.7), and caches the text for the present second.
#[derive(Debug, Default)]
pub(crate) struct Date {
    cached: RefCell<Option<(i64, Rc<str>)>>,
}

impl Date {
    pub(crate) fn at(&self, now: SystemTime) -> Rc<str> {
        let now = Timestamp::try_from(now).unwrap_or_default();
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

fn format_date(time: Timestamp) -> String {
    DateTimePrinter::new().timestamp_to_rfc9110_string(&time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_has_the_format_of_http() {
        assert_eq!(format_date(Timestamp::from_second(784_111_777).unwrap()), "Sun, 06 Nov 1994 08:49:37 GMT");
        let date = Date::default();
        let second = |number| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(number);
        assert_eq!(&*date.at(second(784_111_777)), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(&*date.at(second(784_111_778)), "Sun, 06 Nov 1994 08:49:38 GMT");
    }
}
