//! The commands of operators: each goes to the part of control that carries the command out.

use super::Control;
use super::endpoints::Endpoints;
use crate::limits::CONTROL_QUEUE_MAX;
use crate::messages::Command;
use crate::net::Network;

impl<N: Network> Control<N> {
    pub(super) fn obey(&mut self, command: Command, endpoints: &Endpoints<N>) {
        match command {
            // One config at a time, in their order.
            Command::Apply(..) if self.waiting.len() >= CONTROL_QUEUE_MAX => {}
            Command::Apply(config, reply) if self.is_preparing => self.waiting.push_back((config, reply)),
            Command::Apply(config, reply) => self.prepare((config, reply)),
            // The caller may have given up waiting.
            Command::Ping(reply) => drop(reply.try_send(())),
            Command::Observe(reply) => self.observe(reply, endpoints),
            Command::Explanations(reply) => self.explanations(reply),
            Command::Metrics(question) => self.answer(question, endpoints),
            Command::HandOver(reply) => self.hand_over(reply),
            Command::NoteMemory { used, of_group } => self.note_memory(used, of_group),
            Command::NoteFailure(reason) => self.status.failure = Some((self.clock.now(), reason)),
            Command::ReopenLog(reply) => self.reopen_log(reply),
        }
    }
}
