//! Inputs: standard input, TCP and Unix sockets. The bytes of each client become batches of whole lines, in their order.

use super::metrics::Metrics;
use super::options::{Input, Limits};
use super::queue::Message;
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

/// Pause after a client could not be accepted.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

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
    ) -> bool {
        let Source { name, limits, kind } = self;
        // A client of TCP has an address of its own.
        let client = |peer: Option<SocketAddr>, last_may_be_open: bool| Client {
            name: peer
                .map_or_else(|| name.clone(), |peer| format!("tcp://{peer}"))
                .into(),
            longest: limits.line,
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
        // Takes the rest of a line that is too long to be kept.
        let mut through: Option<mpsc::Sender<Vec<u8>>> = None;
        loop {
            let start = held.len();
            held.reserve(CHUNK.min(self.longest));
            let read = self.read_some(stream, &mut held, stop).await;
            let ended = !matches!(read, Ok(1..));
            let mut from = start;
            if let Some(long) = through.take() {
                let end = memchr::memchr(b'\n', &held).map(|at| at + 1);
                let rest = held.split_off(end.unwrap_or(held.len()));
                let chunk = std::mem::replace(&mut held, rest);
                // The worker may have given up on a line that stalled. What arrives of it later is a line of its own.
                let taken = long.send(chunk.clone()).await.is_ok();
                if !taken {
                    held.splice(0..0, chunk);
                } else if end.is_none() && !ended {
                    through = Some(long);
                    continue;
                } else {
                    line += 1;
                }
                from = 0;
            }
            if let Some(at) = memchr::memrchr(b'\n', &held[from..]) {
                let rest = held.split_off(from + at + 1);
                let lines = std::mem::replace(&mut held, rest);
                let count = memchr::memchr_iter(b'\n', &lines).count() as u64;
                if !self
                    .send(Message::Lines {
                        from: Arc::clone(&self.name),
                        first: line,
                        lines,
                    })
                    .await
                {
                    return Ok(());
                }
                line += count;
            }
            if ended {
                if !held.is_empty() {
                    if !self.last_may_be_open {
                        self.metrics.unfinished_lines.inc();
                        held.push(b'\n');
                    }
                    self.send(Message::Lines {
                        from: Arc::clone(&self.name),
                        first: line,
                        lines: held,
                    })
                    .await;
                }
                return read.map(|_| ());
            }
            if held.len() > self.longest {
                let (send, receive) = mpsc::channel(2);
                let first = std::mem::take(&mut held);
                if !self
                    .send(Message::Long {
                        from: Arc::clone(&self.name),
                        line,
                        first,
                        rest: receive,
                        may_be_open: self.last_may_be_open,
                    })
                    .await
                {
                    return Ok(());
                }
                through = Some(send);
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

    /// Waits for room in the queue. Returns false if the worker has ended.
    async fn send(&self, message: Message) -> bool {
        self.queue.send(message).await.is_ok()
    }
}
