//! Which requests may ask for an explanation: those that send the token of the admin API.

use std::cell::RefCell;
use std::fmt;
use std::sync::OnceLock;

use loadx_http::RequestHead;

use crate::explanations::Notes;

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

    /// What is noted for the explanation of a request; `None` unless the request has the field with the token. `is_safe`: whether
    /// the token may come by this connection.
    #[inline]
    pub(crate) fn notes_for(&self, head: &RequestHead, is_safe: impl FnOnce() -> bool) -> Option<Box<RefCell<Notes>>> {
        let token = head.explain_token()?;
        let check = self.0.get()?;
        (is_safe() && check(token)).then(Box::default)
    }
}
