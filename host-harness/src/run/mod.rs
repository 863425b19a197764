//! `run`: the module between two streams of JSON lines, for shippers other than Fluent Bit.
//!
//! ```text
//! input   (a task for each client)   bytes -> batches of whole lines    waits while the queue is full
//! queue   (bounded)
//! worker  (one thread)               lines -> supervisor -> writer      waits while the output accepts nothing
//! output
//! ```
//!
//! * [`options`] is the command line as types, [`file_url`] the paths in its URLs.
//! * [`signals`] gets requests to end and to reload, from the operating system or a service controller.
//! * [`input`] listens, and cuts what clients send into lines.
//! * [`queue`] holds the batches that wait for the worker.
//! * [`worker`] passes the lines through the module, and saves the module's state.
//! * [`supervisor`] calls the module and restarts it from its last snapshot.
//! * [`writer`] formats lines and alerts, [`output`] writes them.
//! * [`snapshot_file`] keeps a snapshot on disk.
//! * [`metrics`] counts, and serves the counts.

pub mod file_url;
pub mod input;
pub mod metrics;
pub mod options;
pub mod output;
pub mod queue;
pub mod signals;
pub mod snapshot_file;
pub mod supervisor;
mod throttled_log;
pub mod worker;
pub mod writer;

use input::{LongLines, Source};
use metrics::Metrics;
use options::{Input, Options};
use queue::{End, Message};
use signals::{Controller, Signal, Signals};
use std::sync::Arc;
use std::time::Duration;
use supervisor::Load;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use worker::Worker;

/// How long clients are read at most once the program is asked to end; half of `--drain` if that is less.
const LAST_READS: Duration = Duration::from_secs(2);

const WORKER_PANICKED: &str =
    "the worker thread panicked; this is a bug: please report the message above";

/// Runs until the inputs end or a signal asks the program to end: a signal of the operating system, or of `controller` if there is
/// one. Returns false if lines were passed on unexamined, or an input could not be read. The error is a message for the operator.
pub fn run(options: Options, load: Load, controller: Option<Controller>) -> Result<bool, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let result = runtime.block_on(serve(options, load, controller));
    // A read of standard input cannot be cancelled.
    runtime.shutdown_background();
    result
}

async fn serve(
    options: Options,
    load: Load,
    controller: Option<Controller>,
) -> Result<bool, String> {
    let metrics = Arc::new(Metrics::new());
    // A signal that arrives from here on is kept until it is asked for.
    let (mut signals, report_ready) = match controller {
        Some(controller) => (Signals::of(controller.requests), Some(controller.ready)),
        None => (Signals::new()?, None),
    };
    let stdin_inputs = options
        .inputs
        .iter()
        .filter(|input| **input == Input::Stdin);
    if stdin_inputs.count() > 1 {
        return Err("--input: standard input can be read only once".to_owned());
    }
    // Everything is opened before the first record is read, so that a mistake costs no record.
    let mut sources = Vec::new();
    for input in &options.inputs {
        sources.push(Source::open(input, &options.limits).await?);
    }
    let (queue, receiver) = queue::channel();
    if let Some(address) = options.metrics {
        metrics::serve(address, Arc::clone(&metrics), queue.downgrade()).await?;
    }
    let options = Arc::new(options);
    let (ready, done) = start_worker(&options, load, receiver, &metrics)?;
    tokio::pin!(ready);
    let mut ended_early = false;
    let ready = tokio::select! {
        ready = &mut ready => ready,
        // Clients that have connected are still read, unless the worker does not get ready: its output may be a named pipe
        // without a reader.
        () = signals.end() => {
            ended_early = true;
            match tokio::time::timeout(options.drain, ready).await {
                Ok(ready) => ready,
                Err(_) => return Ok(true),
            }
        }
    };
    ready.unwrap_or_else(|_| Err(WORKER_PANICKED.to_owned()))?;
    if let Some(report_ready) = report_ready {
        report_ready();
    }
    Serving {
        options,
        queue,
        done,
        signals,
        all_read: true,
    }
    .until_end(sources, metrics, ended_early)
    .await
}

/// The result of the worker: the number of lines that were passed on unexamined, or a message for the operator.
type Worked = Result<u64, String>;

/// Gets the worker's report that it is ready, or a message for the operator.
type Ready = oneshot::Receiver<Result<(), String>>;

/// Gets the worker's result when it ends.
type Done = oneshot::Receiver<Worked>;

/// Starts the worker thread. Returns what it reports when it is ready, and when it ends.
fn start_worker(
    options: &Arc<Options>,
    load: Load,
    receiver: mpsc::Receiver<Message>,
    metrics: &Arc<Metrics>,
) -> Result<(Ready, Done), String> {
    let (report_done, done) = oneshot::channel();
    let (report_ready, ready) = oneshot::channel();
    let (options, metrics) = (Arc::clone(options), Arc::clone(metrics));
    let runtime = tokio::runtime::Handle::current();
    // The module is loaded on this thread and stays there: WAMR's instances cannot be moved to another one.
    let work = move || match Worker::new(&options, load, receiver, metrics) {
        Ok(worker) => {
            let _sent = report_ready.send(Ok(()));
            let _sent = report_done.send(worker.work(&runtime));
        }
        Err(message) => {
            let _sent = report_ready.send(Err(message));
        }
    };
    std::thread::Builder::new()
        .name("worker".to_owned())
        .spawn(work)
        .map_err(|error| format!("cannot start the worker thread: {error}"))?;
    Ok((ready, done))
}

/// What is needed while records pass.
struct Serving {
    options: Arc<Options>,
    queue: mpsc::Sender<Message>,
    done: Done,
    signals: Signals,
    /// Whether all inputs that have ended could be read to their end.
    all_read: bool,
}

impl Serving {
    /// Reads the inputs until they end or a signal asks the program to end, then waits for the worker.
    async fn until_end(
        mut self,
        sources: Vec<Source>,
        metrics: Arc<Metrics>,
        ended_early: bool,
    ) -> Result<bool, String> {
        let (stop, stopped) = watch::channel(None);
        let mut readers = JoinSet::new();
        let long_lines = LongLines::default();
        for source in sources {
            let (queue, metrics) = (self.queue.clone(), Arc::clone(&metrics));
            readers.spawn(source.serve(queue, stopped.clone(), metrics, long_lines.clone()));
        }
        let end = if ended_early {
            End::Signal
        } else {
            match self.read(&mut readers).await {
                Ok(end) => end,
                Err(worked) => return result(worked, self.all_read, End::Input),
            }
        };
        let Serving {
            options,
            queue,
            done,
            mut signals,
            all_read,
        } = self;
        let drain = options.drain;
        let mut deadline = Instant::now() + drain;
        if end == End::Signal {
            tracing::info!("asked to end: lines that have arrived are written first");
            let _receivers = stop.send(Some(Instant::now() + LAST_READS.min(drain / 2)));
            let all_ended = async { while readers.join_next().await.is_some() {} };
            let _elapsed = tokio::time::timeout_at(deadline, all_ended).await;
        }
        let close = async {
            let _sent = queue.send(Message::End(end)).await;
            done.await.ok()
        };
        tokio::pin!(close);
        if end == End::Input {
            // The output may take any time, until a signal asks to end.
            tokio::select! {
                worked = &mut close => return result(worked, all_read, end),
                () = signals.end() => deadline = Instant::now() + drain,
            }
        }
        match tokio::time::timeout_at(deadline, close).await {
            Ok(worked) => result(worked, all_read, End::Signal),
            Err(_) => Err(format!(
                "the output did not accept all lines within {} s (--drain): at least {} batches of lines are lost",
                drain.as_secs(),
                queue::length(&queue) + 1
            )),
        }
    }

    /// Waits until the inputs end or a signal asks to end. The error is the result of the worker, if that ended before.
    async fn read(&mut self, readers: &mut JoinSet<bool>) -> Result<End, Option<Worked>> {
        let listens = self.options.listens();
        loop {
            tokio::select! {
                worked = &mut self.done => return Err(worked.ok()),
                signal = self.signals.next() => match signal {
                    Signal::End => return Ok(End::Signal),
                    Signal::Reload => {
                        let queue = self.queue.clone();
                        tokio::spawn(async move { queue.send(Message::Reload).await });
                    }
                },
                read = readers.join_next(), if !listens => match read {
                    Some(read) => self.all_read &= read.unwrap_or(false),
                    None => return Ok(End::Input),
                },
            }
        }
    }
}

/// The result of `run`. After a signal, lines that were passed on unexamined are not a failure.
fn result(worked: Option<Worked>, all_read: bool, end: End) -> Result<bool, String> {
    match worked {
        Some(Ok(unexamined)) => Ok(end == End::Signal || all_read && unexamined == 0),
        Some(Err(message)) => Err(message),
        None => Err(WORKER_PANICKED.to_owned()),
    }
}
