//! What the pages of the dashboard get each second, and what they want of operators' API.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde_json::json;
use tokio::sync::{Notify, broadcast, mpsc, oneshot};

use crate::limits::{LIVE_ACTIONS_MAX, LIVE_MESSAGES_MAX, LIVE_PAGES_MAX};
use crate::telemetry::live_bounds;

/// The way from control to the pages. Workers subscribe for their clients.
#[derive(Debug)]
pub(crate) struct Live {
    messages: broadcast::Sender<Arc<str>>,
    /// The totals of the last minutes, in JSON: a page needs them at first.
    moments: Mutex<Vec<Arc<str>>>,
    /// Told when a page opens.
    wanted: Notify,
    actions: OnceLock<mpsc::Sender<BackendAction>>,
}

/// What a page wants of a backend.
#[derive(Debug)]
pub struct BackendAction {
    /// The token that the page sent.
    pub token: Vec<u8>,
    /// The name of the cluster.
    pub cluster: String,
    /// The name of the backend.
    pub backend: String,
    /// Whether to drain the backend; `None` changes nothing.
    pub drain: Option<bool>,
    /// The weight; `None` changes nothing.
    pub weight: Option<u32>,
    /// Gets the status of the response, and what was done or why not.
    pub reply: oneshot::Sender<(u16, String)>,
}

impl Default for Live {
    fn default() -> Self {
        Live {
            messages: broadcast::Sender::new(LIVE_MESSAGES_MAX),
            moments: Mutex::default(),
            wanted: Notify::new(),
            actions: OnceLock::new(),
        }
    }
}

impl Live {
    /// What a page needs at first, and the messages from now on; `None` when too many pages are open.
    pub(crate) fn subscribe(&self) -> Option<(String, broadcast::Receiver<Arc<str>>)> {
        if self.messages.receiver_count() >= LIVE_PAGES_MAX {
            return None;
        }
        let receiver = self.messages.subscribe();
        self.wanted.notify_one();
        let moments = self.moments.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Some((format!("{{\"moments\":[{}],\"bounds\":{}}}", moments.join(","), json!(live_bounds())), receiver))
    }

    /// Waits until a page opens.
    pub(crate) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.messages.receiver_count() > 0
    }

    /// Sends a message to all pages. A page that opens later gets the `moments` first.
    pub(crate) fn tell(&self, message: Arc<str>, moments: Vec<Arc<str>>) {
        *self.moments.lock().unwrap_or_else(PoisonError::into_inner) = moments;
        // The last page may have closed meanwhile.
        let _ = self.messages.send(message);
    }

    /// What pages want of backends from now on; `None` if somebody gets that already.
    pub(crate) fn actions(&self) -> Option<mpsc::Receiver<BackendAction>> {
        let (sender, receiver) = mpsc::channel(LIVE_ACTIONS_MAX);
        self.actions.set(sender).ok().map(|()| receiver)
    }

    /// Carries out what a page wants, and returns the status of the response with a text.
    pub(crate) async fn act(
        &self,
        action: impl FnOnce(oneshot::Sender<(u16, String)>) -> BackendAction,
    ) -> (u16, String) {
        let (reply, answer) = oneshot::channel();
        if let Some(actions) = self.actions.get() {
            if actions.try_send(action(reply)).is_err() {
                return (503, "LoadX has too many changes to make; try again".to_owned());
            }
            if let Ok(answer) = answer.await {
                return answer;
            }
        }
        let text = "this LoadX takes no changes from the page; set \"admin\" with an \"address\" and a token";
        (403, text.to_owned())
    }
}
