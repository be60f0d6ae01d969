//! The Date of responses (RFC 9110, section 6.6.1), spelled out once a second.

use std::cell::RefCell;
use std::rc::Rc;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

/// Now, as Date has it (RFC 9110, section 5.6.7).
#[derive(Debug, Default)]
pub(crate) struct Date {
    spelled: RefCell<Option<(i64, Rc<str>)>>,
}

impl Date {
    pub(crate) fn now(&self) -> Rc<str> {
        let now = Timestamp::now();
        let mut spelled = self.spelled.borrow_mut();
        match &*spelled {
            Some((second, text)) if *second == now.as_second() => Rc::clone(text),
            _ => {
                let text: Rc<str> = spell(now).into();
                *spelled = Some((now.as_second(), Rc::clone(&text)));
                text
            }
        }
    }
}

/// The same, once.
pub(crate) fn now() -> String {
    spell(Timestamp::now())
}

fn spell(time: Timestamp) -> String {
    DateTimePrinter::new().timestamp_to_rfc9110_string(&time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_spelled_as_http_has_it() {
        assert_eq!(spell(Timestamp::from_second(784_111_777).unwrap()), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(Date::default().now().len(), now().len());
    }
}
