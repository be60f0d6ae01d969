//! Which requests may ask for an explanation: those that send the token of the admin API.

use std::cell::RefCell;
use std::fmt;
use std::sync::OnceLock;

use loadx_http::RequestHead;

use crate::explanations::Notes;

/// The field that asks for an explanation; its value is the token. No backend gets the field.
const FIELD: &str = "x-loadx-explain";

/// Whether something is the token.
type TokenCheck = Box<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// Which requests may ask for an explanation. Without a token, none.
#[derive(Default)]
pub(crate) struct ExplainRule(OnceLock<TokenCheck>);

impl fmt::Debug for ExplainRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ExplainRule").field(&self.0.get().is_some()).finish()
    }
}

impl ExplainRule {
    /// Sets the check of the token; only the first check counts.
    pub(crate) fn set(&self, check: impl Fn(&[u8]) -> bool + Send + Sync + 'static) {
        // A second admin API has the same token.
        let _ = self.0.set(Box::new(check));
    }

    /// What is noted for the explanation of a request; `None` if the request does not have the field, and nothing within if
    /// its token is wrong.
    #[inline]
    pub(crate) fn note_for(&self, head: &RequestHead) -> Option<Box<RefCell<Option<Notes>>>> {
        let check = self.0.get()?;
        let token = head.values(FIELD).next()?;
        Some(Box::new(RefCell::new(check(token.trim_ascii()).then(Notes::default))))
    }
}
