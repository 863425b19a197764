//! The bounded queue between the inputs and the worker. While it is full the inputs wait, and do not read from their clients.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// Number of messages that may wait for the worker. Most have up to 256 KiB, and none has more than that and the longest line.
pub const CAPACITY: usize = 16;

/// What the worker gets.
pub enum Message {
    /// Lines of a client.
    Lines(Lines),
    /// Read module and policy again.
    Reload,
    /// Handle what is queued, then end.
    End(End),
}

/// Lines of a client, in their order.
pub struct Lines {
    /// Name of the client, for messages.
    pub from: Arc<str>,
    /// Number of the first of these lines among the client's, from 1.
    pub first: u64,
    /// The lines. The last one may lack its newline.
    pub bytes: Vec<u8>,
    /// Whether this is one line of which the rest is skipped.
    pub is_cut: bool,
    /// The room that a long line among them takes, until they are written.
    pub room: Option<OwnedSemaphorePermit>,
}

/// Why the worker ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The inputs have ended: there will be no more records.
    Input,
    /// A signal asked for it: more records come after a restart.
    Signal,
}

/// Creates the queue.
pub fn channel() -> (mpsc::Sender<Message>, mpsc::Receiver<Message>) {
    mpsc::channel(CAPACITY)
}

/// Number of messages that wait in the queue.
pub fn length(queue: &mpsc::Sender<Message>) -> usize {
    queue.max_capacity() - queue.capacity()
}
