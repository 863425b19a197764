//! The bounded queue between the inputs and the worker. While it is full the inputs wait, and do not read from their clients.

use std::sync::Arc;
use tokio::sync::mpsc;

/// Number of messages that may wait for the worker. Most have up to 256 KiB, and none has more than that and the longest line.
pub const CAPACITY: usize = 16;

/// What the worker gets.
pub enum Message {
    /// Whole lines. The last one may lack its newline.
    Lines {
        /// Name of the client, for messages.
        from: Arc<str>,
        /// Number of the first of these lines among the client's, from 1.
        first: u64,
        /// The lines.
        lines: Vec<u8>,
    },
    /// A line that is too long to be kept in memory. It is passed on while it arrives.
    Long {
        /// Name of the client, for messages.
        from: Arc<str>,
        /// Number of the line among the client's, from 1.
        line: u64,
        /// What has arrived of it.
        first: Vec<u8>,
        /// The rest.
        rest: mpsc::Receiver<Vec<u8>>,
        /// Whether it may be written without a newline if it arrives without one.
        may_be_open: bool,
    },
    /// Read module and policy again.
    Reload,
    /// Handle what is queued, then end.
    End(End),
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
