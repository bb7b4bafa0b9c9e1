//! The engine: a cloneable handle in front of one writer that owns the ledger.

use aggregates::answer::Answer;
use aggregates::command::CommandEnvelope;
use aggregates::rejection::{Denial, Rejection};

/// What became of a command. It is durable by the time it is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// What the ledger said.
    pub outcome: Outcome,
    /// The position of its last event; for a refusal or a command that changed nothing, the head it was decided on.
    pub position: u64,
    /// Whether this is the first answer to the key, given again.
    pub replayed: bool,
}

/// What the ledger said to a command.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Yes.
    Done {
        /// Whether any event came of it.
        changed: bool,
        /// The answer.
        answer: Answer,
    },
    /// No, by the rules.
    Refused(Rejection),
    /// Turned away before the rules were asked.
    Denied(Denial),
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The queue is full, or the store cannot be reached: nothing was done.
    #[error("too many commands are waiting; nothing was done, try again")]
    TooBusy,
    /// The commit failed and it is not known yet whether it happened.
    #[error("it is not known yet whether this was done; retry with the same key and learn it")]
    OutcomeUnknown,
    /// The node has stopped taking commands.
    #[error("this node takes no commands: {0}")]
    Stopped(String),
}

/// The handle: send a command, wait for its durable answer.
#[derive(Debug, Clone)]
pub struct Engine {}

impl Engine {
    /// Sends a command and waits until its answer is durable.
    ///
    /// # Errors
    /// See [`EngineError`]; only [`EngineError::TooBusy`] and [`EngineError::Stopped`] promise that nothing was done.
    pub async fn submit(&self, _envelope: CommandEnvelope) -> Result<Reply, EngineError> {
        todo!()
    }
    /// The position of the newest event this node knows to be committed; changes with every commit of this node.
    #[must_use]
    pub fn committed(&self) -> tokio::sync::watch::Receiver<u64> {
        todo!()
    }
    /// Why this node takes no commands, if so; for `/readyz`.
    #[must_use]
    pub fn stopped(&self) -> Option<String> {
        todo!()
    }
}
