//! Which message has the next turn on the connection.

use std::task::Context;

use loadx_http::h2::Role;

use super::alarm::Alarm;
use super::mux::{Lane, Mux, State};
use crate::limits::H2_TURN_BYTES;

/// Whether an exchange may send.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The exchange does not wait.
    None,
    /// The exchange waits, since this turn.
    Waits {
        since: u64,
        /// Whether the exchange wants to send content, which needs a window.
        needs_window: bool,
    },
    /// The exchange may send so many bytes.
    Granted(usize),
}

/// What an exchange may do when it wants to send.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Permission {
    /// Send at most so many bytes of content.
    Send(usize),
    /// Wait until the other side takes more of this stream.
    Window,
    /// Wait for other exchanges and for the window of the connection.
    Turn,
    /// The stream has ended.
    Gone,
}

impl<A> Lane<A> {
    /// Notes that the exchange no longer waits. `waiting`: the number of exchanges that wait.
    pub(super) fn leave_turn(&mut self, waiting: &mut usize) {
        if std::mem::replace(&mut self.turn, Turn::None) != Turn::None {
            *waiting -= 1;
        }
    }
}

impl<R: Role, A: Alarm> Mux<R, A> {
    /// Notes that an exchange no longer wants to send what it waited for: its turn goes to the others.
    pub(super) fn leave_turn(&self, number: usize) {
        let State { lanes, waiting, .. } = &mut *self.state.borrow_mut();
        if let Some(lane) = &mut lanes[number] {
            lane.leave_turn(waiting);
        }
    }

    /// Lets exchanges send that wait for that, as long as the output has room: the most urgent first, and of these the one that has
    /// waited longest. Returns whether there is any.
    pub(crate) fn grant(&self) -> bool {
        let state = &mut *self.state.borrow_mut();
        if state.waiting == 0 {
            return false;
        }
        let mut has_granted = false;
        let granted = |lane: &Lane<A>| if let Turn::Granted(bytes) = lane.turn { bytes } else { 0 };
        let mut room = state.output.room().saturating_sub(state.lanes.iter().flatten().map(granted).sum());
        while room > 0 {
            let State { connection, lanes, .. } = &mut *state;
            let waiting = lanes.iter_mut().flatten().filter_map(|lane| match lane.turn {
                // A turn of a stream that has ended would never be used, and would hold the room of the others.
                _ if lane.gone.is_some() => None,
                Turn::Waits { since, needs_window } if !needs_window || connection.sendable(lane.stream) != Some(0) => {
                    Some(((lane.priority.urgency, since), lane))
                }
                _ => None,
            });
            let Some((_, lane)) = waiting.min_by_key(|(order, _)| *order) else { break };
            // A response that is of use only as a whole gets more at once.
            let turn = if lane.priority.is_incremental { H2_TURN_BYTES } else { 4 * H2_TURN_BYTES };
            lane.turn = Turn::Granted(turn.min(room));
            room -= turn.min(room);
            lane.alarm.ring();
            has_granted = true;
        }
        has_granted
    }

    /// Whether windows and output have room for so much content of an exchange, so that the exchange waits for its turn at most.
    pub(super) fn is_ready(&self, number: usize, bytes: usize) -> bool {
        let State { connection, output, lanes, .. } = &*self.state.borrow();
        let stream = lanes[number].as_ref().map_or(0, |lane| lane.stream);
        let sendable = if stream == 0 { Some(connection.sendable_on_new()) } else { connection.sendable(stream) };
        bytes == 0 || (output.room() > 0 && sendable.is_some_and(|most| most >= bytes))
    }

    /// Whether an exchange may send now, polled with this context. `wants`: how much content, in bytes; 0 for the head or the end of a
    /// message.
    pub(super) fn ask(&self, number: usize, wants: usize, cx: &Context<'_>) -> Permission {
        let state = &mut *self.state.borrow_mut();
        let State { connection, output, lanes, next_turn, waiting, .. } = state;
        let Some(lane) = &mut lanes[number] else { return Permission::Gone };
        // The head opens the stream, and needs no window.
        let sendable = if lane.stream == 0 { Some(0) } else { connection.sendable(lane.stream) };
        let Some(sendable) = sendable.filter(|_| lane.gone.is_none()) else {
            lane.leave_turn(waiting);
            return Permission::Gone;
        };
        let must_wait = match lane.turn {
            _ if wants > 0 && connection.is_stream_shut(lane.stream) => Permission::Window,
            _ if wants > 0 && sendable == 0 => Permission::Turn,
            Turn::Granted(bytes) => {
                lane.leave_turn(waiting);
                return Permission::Send(sendable.min(bytes));
            }
            Turn::None if *waiting == 0 && output.room() > 0 => {
                return Permission::Send(sendable.min(output.room()));
            }
            Turn::Waits { .. } | Turn::None => Permission::Turn,
        };
        // An exchange that waits for a window also waits for a turn. The turn comes when the window opens.
        if lane.turn == Turn::None {
            *waiting += 1;
        }
        let since = match lane.turn {
            Turn::Waits { since, .. } => since,
            _ => {
                *next_turn += 1;
                *next_turn
            }
        };
        lane.turn = Turn::Waits { since, needs_window: wants > 0 };
        lane.alarm.set(cx);
        // The driver gives turns.
        state.wake_driver();
        must_wait
    }
}
