//! Reads several logs at a time, in the order of their records' times.

use super::related::{Log, Places};
use crate::input::{self, Item};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;

/// How many logs are open at a time. Where more of a group overlap, further ones are read when one of these ends.
const MAX_OPEN: usize = 64;

/// About how many bytes a log is read ahead.
const AHEAD: usize = 64 * 1024;

/// What comes from a log.
pub enum Step {
    /// An item.
    Item(Item),
    /// Its end, or why it cannot be read: a message for the operator.
    End(Result<(), String>),
}

/// Passes the items of `logs`, which are in the order of their beginnings, to `take` in the order of their times, each with the index
/// of its log. `take` returns false to stop. `default_host` is the host of records that name none.
///
/// The items of one log stay in their order. One without a time belongs to the item before it.
pub fn read(
    files: &[PathBuf],
    logs: &[Log],
    default_host: &str,
    take: &mut dyn FnMut(usize, Step) -> bool,
) {
    std::thread::scope(|scope| {
        let mut waiting = logs.iter().peekable();
        let mut open: Vec<Feed> = Vec::new();
        loop {
            while open.len() < MAX_OPEN
                && let Some(log) =
                    waiting.next_if(|log| open.iter().all(|feed| log.from <= feed.time))
            {
                open.push(Feed::start(scope, log, &files[log.index], default_host));
            }
            // Of several with one time the log that begins first.
            let Some(index) = (0..open.len()).min_by_key(|index| open[*index].time) else {
                return;
            };
            let feed = &mut open[index];
            let (log, step) = (feed.log, feed.step());
            let is_end = matches!(step, Step::End(_));
            if is_end {
                open.remove(index);
            }
            if !take(log, step) {
                return;
            }
        }
    });
}

/// Items and their times, in milliseconds.
type Batch = Vec<(i64, Item)>;

/// A log that is being read, by a thread of its own.
struct Feed {
    log: usize,
    /// The time of the next item.
    time: i64,
    batch: std::vec::IntoIter<(i64, Item)>,
    next: Option<Item>,
    batches: Receiver<Result<Batch, String>>,
    end: Result<(), String>,
}

impl Feed {
    fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        log: &Log,
        path: &'scope Path,
        default_host: &'scope str,
    ) -> Feed {
        let (send, batches) = sync_channel(1);
        let from = log.from;
        scope.spawn(move || send_items(path, from, default_host, &send));
        let mut feed = Feed {
            log: log.index,
            time: from,
            batch: Vec::new().into_iter(),
            next: None,
            batches,
            end: Ok(()),
        };
        feed.advance();
        feed
    }

    /// The next item, or the end.
    fn step(&mut self) -> Step {
        match self.next.take() {
            Some(item) => {
                self.advance();
                Step::Item(item)
            }
            None => Step::End(std::mem::replace(&mut self.end, Ok(()))),
        }
    }

    fn advance(&mut self) {
        loop {
            if let Some((time, item)) = self.batch.next() {
                self.time = time;
                self.next = Some(item);
                return;
            }
            match self.batches.recv() {
                Ok(Ok(batch)) => self.batch = batch.into_iter(),
                Ok(Err(message)) => self.end = Err(message),
                // The thread has ended.
                Err(_) => return,
            }
        }
    }
}

/// Reads a log whose first event is at `from`, and sends its items.
fn send_items(
    path: &Path,
    from: i64,
    default_host: &str,
    send: &SyncSender<Result<Batch, String>>,
) {
    let mut places = Places::new(default_host);
    let (mut batch, mut bytes, mut time) = (Vec::new(), 0usize, from);
    let result = input::read(path, &mut |item| {
        if let Item::Record(_, record) = &item {
            time = places.of(record).map_or(time, |(_, ms)| ms);
            bytes += record.len();
        }
        batch.push((time, item));
        // Lines that are no records have no length here.
        if bytes < AHEAD && batch.len() < AHEAD / 64 {
            return true;
        }
        bytes = 0;
        // It fails if nobody reads on.
        send.send(Ok(std::mem::take(&mut batch))).is_ok()
    });
    let _sent = send.send(Ok(batch));
    if let Err(message) = result {
        let _sent = send.send(Err(message));
    }
}
