//! `run`: the module between two streams of JSON lines, for shippers other than Fluent Bit.
//!
//! ```text
//! input  (one task a client)    bytes -> whole lines            back-pressure: it reads no more while the queue is full
//! queue  (bounded)              batches of lines
//! worker (one thread)           module -> output                 blocks while the output does
//! ```
//!
//! * [`input`] listens, and cuts what comes into lines.
//! * [`worker`] puts the lines through the module, watches over the module, and saves what it remembers.
//! * [`examiner`] is the module with its deadline, its snapshot and its second life.
//! * [`output`] writes, and waits for an output that takes nothing.
//! * [`state_file`] keeps a snapshot on disk.
//! * [`metrics`] counts, and serves the counts.

pub mod examiner;
pub mod input;
pub mod metrics;
pub mod output;
pub mod state_file;
pub mod worker;

use crate::engine::Engine;
use input::{Input, Limits};
use metrics::Metrics;
use output::Output;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use worker::{Ended, Message, Worker};

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emit {
    /// Every line that came, those that completed a chain with the alert inside.
    Records,
    /// Only the alerts, one a line.
    Alerts,
    /// Every line, and behind one that completed a chain the alert once more on a line of its own.
    Both,
}

/// How `run` runs.
pub struct Options {
    /// Where records come from.
    pub inputs: Vec<Input>,
    /// Bounds on what comes.
    pub limits: Limits,
    /// Where they go.
    pub output: Output,
    /// What is written.
    pub emit: Emit,
    /// Where a snapshot of what the module remembers is kept.
    pub state: Option<PathBuf>,
    /// How often a snapshot is taken; without a file it is what a module that died is started again from.
    pub state_interval: Duration,
    /// So long without a record, and alerts that wait for one go without.
    pub idle: Duration,
    /// How long what is left may take once the program is told to end.
    pub drain: Duration,
    /// Where counts are served.
    pub metrics: Option<SocketAddr>,
}

/// A module that is ready, and what its policy says that the host must know.
pub struct Loaded {
    /// The module.
    pub engine: Box<dyn Engine>,
    /// `alert.key`, for alerts that are left without a record.
    pub key: String,
    /// Starts the same module once more, without memories.
    pub again: Box<dyn Fn() -> Result<Box<dyn Engine>, String>>,
}

/// Reads module and policy from where the command line says, anew each time. The error is a message for people.
pub type Load = Box<dyn Fn() -> Result<Loaded, String> + Send>;

/// Batches that may wait for the worker. Most have up to 256 KiB, none more than the longest line and that.
const QUEUE: usize = 16;

/// How long clients are read once the program is told to end.
const LAST_READS: Duration = Duration::from_secs(2);

/// Runs until the input ends or the program is told to end. False if records were passed on unexamined. The error is a
/// message for people.
pub fn run(options: Options, load: Load) -> Result<bool, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    let result = runtime.block_on(serve(options, load));
    // A read of standard input cannot be called back.
    runtime.shutdown_background();
    result
}

async fn serve(options: Options, load: Load) -> Result<bool, String> {
    let metrics = Arc::new(Metrics::new());
    // From here on a signal waits until it can be heeded.
    let mut signals = Signals::new()?;
    if options
        .inputs
        .iter()
        .filter(|input| **input == Input::Stdin)
        .count()
        > 1
    {
        return Err("--input: standard input can be read once only".to_owned());
    }
    // Whatever is wrong is said before the first record is taken.
    let mut sources = Vec::new();
    for input in &options.inputs {
        sources.push(input.open(&options.limits).await?);
    }
    let endless = options.inputs.iter().any(|input| *input != Input::Stdin);
    let (send, receive) = mpsc::channel(QUEUE);
    if let Some(address) = options.metrics {
        metrics::serve(address, Arc::clone(&metrics), send.downgrade()).await?;
    }
    let options = Arc::new(options);
    let (done, mut ended) = tokio::sync::oneshot::channel();
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let work = {
        let (options, metrics, runtime) = (
            Arc::clone(&options),
            Arc::clone(&metrics),
            tokio::runtime::Handle::current(),
        );
        // The module stays on this thread: an interpreter's cannot be moved.
        move || match Worker::new(&options, load, receive, metrics) {
            Ok(worker) => {
                let _waiting = ready.send(Ok(()));
                let _waiting = done.send(worker.work(&runtime));
            }
            Err(message) => {
                let _waiting = ready.send(Err(message));
            }
        }
    };
    let thread = std::thread::Builder::new()
        .name("worker".to_owned())
        .spawn(work);
    thread.map_err(|error| format!("cannot start a thread: {error}"))?;
    tokio::pin!(is_ready);
    let mut told_early = false;
    let ready = tokio::select! {
        ready = &mut is_ready => ready,
        // Who has connected by now is still heard, unless the output is a pipe without a reader: that is waited for.
        () = signals.end() => {
            told_early = true;
            match tokio::time::timeout(options.drain, is_ready).await {
                Ok(ready) => ready,
                Err(_) => return Ok(true),
            }
        }
    };
    ready.unwrap_or_else(|_| Err(DIED.to_owned()))?;

    let (stop, stopped) = watch::channel(None);
    let mut readers = JoinSet::new();
    for source in sources {
        readers.spawn(source.serve(send.clone(), stopped.clone(), Arc::clone(&metrics)));
    }
    let mut all_read = true;
    let told_to_end = loop {
        if told_early {
            break true;
        }
        tokio::select! {
            result = &mut ended => return finish(result.ok(), all_read, false),
            signal = signals.next() => match signal {
                Signal::End => break true,
                Signal::Reload => {
                    let sender = send.clone();
                    tokio::spawn(async move { sender.send(Message::Reload).await });
                }
            },
            // Only what can end is waited for: with a listener there may always be another client.
            read = readers.join_next(), if !endless => match read {
                Some(read) => all_read &= read.unwrap_or(false),
                None => break false,
            },
        }
    };
    let mut deadline = Instant::now() + options.drain;
    if told_to_end {
        tracing::info!("told to end: what has come is passed on first");
        // What a client does not send by then it has not sent.
        let _receivers = stop.send(Some(Instant::now() + LAST_READS.min(options.drain / 2)));
        let all = async { while readers.join_next().await.is_some() {} };
        let _elapsed = tokio::time::timeout_at(deadline, all).await;
    }
    let close = async {
        let _gone = send.send(Message::End { told: told_to_end }).await;
        ended.await.ok()
    };
    tokio::pin!(close);
    if !told_to_end {
        // The input has ended; the output may take its time, unless somebody loses patience.
        tokio::select! {
            result = &mut close => return finish(result, all_read, false),
            () = signals.end() => deadline = Instant::now() + options.drain,
        }
    }
    match tokio::time::timeout_at(deadline, close).await {
        Ok(result) => finish(result, all_read, true),
        Err(_) => Err(format!(
            "the output did not take what was left within {} s: it is lost, {} batches of records at least",
            options.drain.as_secs(),
            QUEUE - send.capacity() + 1
        )),
    }
}

fn finish(
    result: Option<Result<Ended, String>>,
    all_read: bool,
    told_to_end: bool,
) -> Result<bool, String> {
    match result {
        Some(Ok(ended)) => Ok(told_to_end || all_read && ended.unexamined == 0),
        Some(Err(message)) => Err(message),
        None => Err(DIED.to_owned()),
    }
}

const DIED: &str = "the worker died; this is a bug: please report what stands above";

enum Signal {
    End,
    #[cfg_attr(not(unix), expect(dead_code))]
    Reload,
}

/// What the system tells the program.
struct Signals {
    #[cfg(unix)]
    streams: [tokio::signal::unix::Signal; 3],
}

impl Signals {
    /// Waits until the program is told to end.
    async fn end(&mut self) {
        while let Signal::Reload = self.next().await {}
    }
}

#[cfg(unix)]
impl Signals {
    fn new() -> Result<Signals, String> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen =
            |kind| signal(kind).map_err(|error| format!("cannot listen for signals: {error}"));
        Ok(Signals {
            streams: [
                listen(SignalKind::terminate())?,
                listen(SignalKind::interrupt())?,
                listen(SignalKind::hangup())?,
            ],
        })
    }

    async fn next(&mut self) -> Signal {
        let [terminate, interrupt, hangup] = &mut self.streams;
        tokio::select! {
            _ = terminate.recv() => Signal::End,
            _ = interrupt.recv() => Signal::End,
            _ = hangup.recv() => Signal::Reload,
        }
    }
}

#[cfg(not(unix))]
impl Signals {
    fn new() -> Result<Signals, String> {
        Ok(Signals {})
    }

    async fn next(&mut self) -> Signal {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        Signal::End
    }
}
