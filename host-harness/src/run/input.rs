//! Inputs: standard input, TCP and Unix sockets. The bytes of each client become batches of whole lines, in their order.

use super::metrics::Metrics;
use super::options::{Input, Limits};
use super::queue::{Lines, Message};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// When to stop reading: `None` until the program is asked to end, then the latest moment to read.
pub type Stop = watch::Receiver<Option<Instant>>;

/// Bytes that are read at a time, and about the largest size of a batch.
const CHUNK: usize = 256 * 1024;

/// How long a client may be silent, once the program is asked to end, before it counts as done: what it sent earlier may still
/// be on its way.
const LAST_READ: Duration = Duration::from_millis(100);

/// About how much of a line is kept in memory, in bytes, if there is room. Its rest is skipped.
const LONGEST_LINE: usize = 16 * 1024 * 1024;

/// Room for all lines together that are longer than `--max-line`, in [`CHUNK`]s: 64 MiB.
const ROOM: usize = 256;

/// Pause after a client could not be accepted.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The room for lines that are longer than `--max-line`, of all clients together. Nobody waits for it: a line for which there is none
/// is cut. So a line without an end takes neither all memory nor the place of other clients.
#[derive(Clone)]
pub struct LongLines(Arc<Semaphore>);

impl Default for LongLines {
    fn default() -> LongLines {
        LongLines(Arc::new(Semaphore::new(ROOM)))
    }
}

impl LongLines {
    /// Extends `room` to `bytes` of a line. Returns false if there is no room for that.
    fn make_room(&self, room: &mut Option<OwnedSemaphorePermit>, bytes: usize) -> bool {
        if bytes > LONGEST_LINE {
            return false;
        }
        let has = room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let lacks = bytes.div_ceil(CHUNK).saturating_sub(has);
        if lacks == 0 {
            return true;
        }
        let lacks = u32::try_from(lacks).unwrap_or(u32::MAX);
        match (Arc::clone(&self.0).try_acquire_many_owned(lacks), room) {
            (Err(_), _) => return false,
            (Ok(more), Some(room)) => room.merge(more),
            (Ok(more), none) => *none = Some(more),
        }
        true
    }
}

/// An open input.
pub struct Source {
    name: String,
    limits: Limits,
    kind: Kind,
}

enum Kind {
    Stdin,
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(tokio::net::UnixListener, std::path::PathBuf),
}

impl Source {
    /// Opens an input. The error is a message for the operator.
    pub async fn open(input: &Input, limits: &Limits) -> Result<Source, String> {
        let cannot = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => format!(
                "{input}: another program listens there already; stop it or choose another address"
            ),
            _ => format!("{input}: cannot listen there: {error}"),
        };
        let kind = match input {
            Input::Stdin => Kind::Stdin,
            Input::Tcp(address) => {
                let listener = TcpListener::bind(address).await.map_err(cannot)?;
                tracing::info!(
                    "listening on tcp://{}",
                    listener.local_addr().map_err(cannot)?
                );
                Kind::Tcp(listener)
            }
            #[cfg(unix)]
            Input::Unix(path) => {
                let listener = bind_unix(path, limits.socket_mode).map_err(cannot)?;
                tracing::info!("listening on {input}");
                Kind::Unix(listener, path.clone())
            }
            #[cfg(not(unix))]
            Input::Unix(_) => {
                return Err(format!(
                    "{input}: this platform has no Unix sockets; use tcp://127.0.0.1:PORT"
                ));
            }
        };
        Ok(Source {
            name: input.to_string(),
            limits: *limits,
            kind,
        })
    }

    /// Reads until the end of the input, or until `stop`. Returns false if reading standard input failed; errors of single
    /// clients are counted and logged.
    pub async fn serve(
        self,
        queue: mpsc::Sender<Message>,
        mut stop: Stop,
        metrics: Arc<Metrics>,
        long_lines: LongLines,
    ) -> bool {
        let Source { name, limits, kind } = self;
        // A client of TCP has an address of its own.
        let client = |peer: Option<SocketAddr>, last_may_be_open: bool| Client {
            name: peer
                .map_or_else(|| name.clone(), |peer| format!("tcp://{peer}"))
                .into(),
            longest: limits.line,
            long_lines: long_lines.clone(),
            queue: queue.clone(),
            metrics: Arc::clone(&metrics),
            last_may_be_open,
        };
        if matches!(kind, Kind::Stdin) {
            return client(None, true)
                .read(tokio::io::stdin(), stop, None)
                .await;
        }
        let places = Arc::new(Semaphore::new(limits.clients));
        let mut clients = JoinSet::new();
        let mut was_full = false;
        loop {
            // Removes the results of clients that have ended.
            while clients.try_join_next().is_some() {}
            if places.available_permits() == 0 && !std::mem::replace(&mut was_full, true) {
                tracing::warn!(
                    "{name}: {} clients are connected, as many as --max-clients allows; further ones wait",
                    limits.clients
                );
            }
            let next = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (kind.accept().await, place.ok())
            };
            tokio::select! {
                () = stopped(&mut stop) => break,
                (accepted, place) = next => match accepted {
                    Ok((stream, peer)) => {
                        clients.spawn(client(peer, false).read(stream, stop.clone(), place));
                    }
                    // There are too many open files, or the client left at once. Later clients may succeed.
                    Err(error) => {
                        tracing::warn!("{name}: a client could not be accepted: {error}; waiting for others");
                        tokio::time::sleep(ACCEPT_RETRY).await;
                    }
                },
            }
        }
        // Clients that connected before the signal may have sent all their records already.
        while let Ok(Ok((stream, peer))) =
            tokio::time::timeout_at(last_moment(&stop), kind.accept()).await
        {
            clients.spawn(client(peer, false).read(stream, stop.clone(), None));
        }
        while clients.join_next().await.is_some() {}
        #[cfg(unix)]
        if let Kind::Unix(_, path) = kind {
            let _removed = std::fs::remove_file(path);
        }
        true
    }
}

/// Waits until the program is asked to end.
async fn stopped(stop: &mut Stop) {
    let _ = stop.wait_for(Option::is_some).await;
}

/// Until when to wait for data that may be on its way: [`LAST_READ`] from now, but not longer than `stop` allows.
fn last_moment(stop: &Stop) -> Instant {
    let soon = Instant::now() + LAST_READ;
    stop.borrow().map_or(soon, |end| end.min(soon))
}

/// Binds a Unix socket so that nobody can connect before it has its mode.
#[cfg(unix)]
fn bind_unix(path: &std::path::Path, mode: u32) -> io::Result<tokio::net::UnixListener> {
    use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
    // A socket file that a killed program left is removed; one on which a program listens is in use.
    if std::fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket()) {
        match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path)?
            }
            Err(error) => return Err(error),
        }
    }
    // Created in a private folder, then moved into place.
    let mut private = path.as_os_str().to_owned();
    private.push(format!(".{}", std::process::id()));
    let private = std::path::PathBuf::from(private);
    std::fs::DirBuilder::new().mode(0o700).create(&private)?;
    let hidden = private.join("socket");
    let bound = std::os::unix::net::UnixListener::bind(&hidden).and_then(|listener| {
        std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(mode))?;
        std::fs::rename(&hidden, path)?;
        Ok(listener)
    });
    let _removed = std::fs::remove_file(&hidden);
    std::fs::remove_dir(&private)?;
    let listener = bound?;
    listener.set_nonblocking(true)?;
    tokio::net::UnixListener::from_std(listener)
}

type Stream = Box<dyn AsyncRead + Send + Unpin>;

impl Kind {
    /// Waits for the next client; for ever on standard input. Returns the client's stream and its address, if it has one.
    async fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        match self {
            Kind::Stdin => std::future::pending().await,
            Kind::Tcp(listener) => listener
                .accept()
                .await
                .map(|(stream, peer)| (Box::new(stream) as Stream, Some(peer))),
            #[cfg(unix)]
            Kind::Unix(listener, _) => listener
                .accept()
                .await
                .map(|(stream, _)| (Box::new(stream) as Stream, None)),
        }
    }
}

/// A client that sends lines.
struct Client {
    name: Arc<str>,
    /// Longest line that is examined, in bytes.
    longest: usize,
    long_lines: LongLines,
    queue: mpsc::Sender<Message>,
    metrics: Arc<Metrics>,
    /// Whether a last line without a newline stays without one. With several clients the next line could be another's.
    last_may_be_open: bool,
}

impl Client {
    /// Reads to the end of the stream, or until `stop`. Returns false if reading failed. `_place` is held until then.
    async fn read(
        self,
        mut stream: impl AsyncRead + Unpin,
        mut stop: Stop,
        _place: Option<OwnedSemaphorePermit>,
    ) -> bool {
        self.metrics.connections.inc();
        self.metrics.clients.inc();
        let result = self.read_lines(&mut stream, &mut stop).await;
        self.metrics.clients.dec();
        if let Err(error) = &result {
            self.metrics.client_errors.inc();
            let message = format_args!("{}: cannot be read further: {error}", self.name);
            // Only standard input is alone; connections that break may be many.
            if self.last_may_be_open {
                tracing::error!("{message}");
            } else {
                tracing::debug!("{message}");
            }
        }
        result.is_ok()
    }

    /// Cuts the stream into batches of whole lines.
    async fn read_lines(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
        stop: &mut Stop,
    ) -> io::Result<()> {
        let mut line = 1u64;
        let mut held: Vec<u8> = Vec::new();
        let mut room = None;
        // Whether what comes belongs to a line that was cut.
        let mut is_skipping = false;
        loop {
            let mut new = held.len();
            // Exactly, because all room that there is would be read into.
            held.reserve_exact(CHUNK.min(self.longest));
            let read = self.read_some(stream, &mut held, stop).await;
            let has_ended = !matches!(read, Ok(1..));
            if is_skipping {
                let end = memchr::memchr(b'\n', &held);
                let skipped = end.map_or(held.len(), |at| at + 1);
                self.metrics.skipped_bytes.inc_by(skipped as u64);
                held.drain(..skipped);
                is_skipping = end.is_none();
                line += u64::from(end.is_some());
                new = 0;
            }
            if let Some(at) = memchr::memrchr(b'\n', &held[new..]) {
                let rest = held.split_off(new + at + 1);
                let bytes = std::mem::replace(&mut held, rest);
                let first = line;
                line += memchr::memchr_iter(b'\n', &bytes).count() as u64;
                if !self.send(first, bytes, room.take(), false).await {
                    return Ok(());
                }
            }
            if has_ended {
                if !held.is_empty() {
                    if !self.last_may_be_open {
                        self.metrics.unfinished_lines.inc();
                        held.push(b'\n');
                    }
                    self.send(line, held, room, false).await;
                }
                return read.map(|_| ());
            }
            if held.len() > self.longest && !self.long_lines.make_room(&mut room, held.len()) {
                let mut bytes = std::mem::take(&mut held);
                bytes.push(b'\n');
                if !self.send(line, bytes, room.take(), true).await {
                    return Ok(());
                }
                is_skipping = true;
            }
        }
    }

    /// Waits for data and reads it. Returns 0 at the end of the stream, and if nothing arrives for [`LAST_READ`] after the
    /// program was asked to end.
    async fn read_some(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
        into: &mut Vec<u8>,
        stop: &mut Stop,
    ) -> io::Result<usize> {
        if stop.borrow().is_none() {
            tokio::select! {
                biased;
                read = stream.read_buf(into) => return read,
                () = stopped(stop) => {}
            }
        }
        tokio::time::timeout_at(last_moment(stop), stream.read_buf(into))
            .await
            .unwrap_or(Ok(0))
    }

    /// Waits for a place in the queue. Returns false if the worker has ended.
    async fn send(
        &self,
        first: u64,
        bytes: Vec<u8>,
        room: Option<OwnedSemaphorePermit>,
        is_cut: bool,
    ) -> bool {
        let lines = Lines {
            from: Arc::clone(&self.name),
            first,
            bytes,
            is_cut,
            room,
        };
        self.queue.send(Message::Lines(lines)).await.is_ok()
    }
}
