//! Where records come from: standard input, TCP, a Unix socket. Each client's bytes become batches of whole lines, in order.

use super::metrics::Metrics;
use super::worker::Message;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// An input as it is written on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// `-`
    Stdin,
    /// `tcp://127.0.0.1:9000`; only loopback.
    Tcp(SocketAddr),
    /// `unix:///run/psexec-filter.sock`
    Unix(PathBuf),
}

impl FromStr for Input {
    type Err = String;

    fn from_str(text: &str) -> Result<Input, String> {
        if text == "-" {
            return Ok(Input::Stdin);
        }
        if let Some(address) = text.strip_prefix("tcp://") {
            return loopback(address).map(Input::Tcp);
        }
        match text.strip_prefix("unix://") {
            Some(path) if path.starts_with('/') => Ok(Input::Unix(path.into())),
            _ => Err("expected `-`, `tcp://127.0.0.1:PORT` or `unix:///PATH`".to_owned()),
        }
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Input::Stdin => f.write_str("stdin"),
            Input::Tcp(address) => write!(f, "tcp://{address}"),
            Input::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// An address of this machine alone. Whatever else is refused: there is no encryption here and nobody is asked who he is.
pub fn loopback(text: &str) -> Result<SocketAddr, String> {
    let text = text
        .strip_prefix("localhost")
        .map_or_else(|| text.to_owned(), |port| format!("127.0.0.1{port}"));
    let address: SocketAddr = text
        .parse()
        .map_err(|_| format!("`{text}` is no address; expected for example 127.0.0.1:9000"))?;
    if address.ip().is_loopback() {
        return Ok(address);
    }
    Err(format!(
        "{address} can be reached from other machines, and this program knows neither TLS nor passwords; listen on \
         127.0.0.1:{port} and put a TLS proxy in front of it (stunnel, nginx `stream`, HAProxy)",
        port = address.port()
    ))
}

/// Bounds on what comes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A longer line goes through unexamined, in bytes.
    pub line: usize,
    /// Clients of one input at a time; further ones wait to be accepted.
    pub clients: usize,
    /// Mode of a Unix socket.
    pub socket_mode: u32,
}

/// Bytes asked for at a time, and about what a batch has at most.
const CHUNK: usize = 256 * 1024;

/// How long a client is given for what may be on its way once the program is told to end.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// An input that is ready to be read.
pub struct Source {
    name: String,
    limits: Limits,
    kind: Kind,
}

enum Kind {
    Stdin,
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(tokio::net::UnixListener, PathBuf),
}

impl Input {
    /// Opens it. The error is a message for people.
    pub async fn open(&self, limits: &Limits) -> Result<Source, String> {
        let cannot = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => format!(
                "{self}: somebody else listens there already; stop that or choose another address"
            ),
            _ => format!("{self}: cannot listen there: {error}"),
        };
        let kind = match self {
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
                tracing::info!("listening on {self}");
                Kind::Unix(listener, path.clone())
            }
            #[cfg(not(unix))]
            Input::Unix(_) => {
                return Err(format!(
                    "{self}: there are no Unix sockets here; use tcp://127.0.0.1:PORT"
                ));
            }
        };
        Ok(Source {
            name: self.to_string(),
            limits: *limits,
            kind,
        })
    }
}

/// Binds a socket that nobody can connect to before it has its mode.
#[cfg(unix)]
fn bind_unix(path: &PathBuf, mode: u32) -> io::Result<tokio::net::UnixListener> {
    use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
    // What a program that was killed left behind is in the way, unless somebody answers there.
    if std::fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket()) {
        match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path)?
            }
            Err(error) => return Err(error),
        }
    }
    // Made where nobody else comes, then put in place.
    let mut private = path.clone().into_os_string();
    private.push(format!(".{}", std::process::id()));
    let private = PathBuf::from(private);
    std::fs::DirBuilder::new().mode(0o700).create(&private)?;
    let hidden = private.join("socket");
    let bound = std::os::unix::net::UnixListener::bind(&hidden).and_then(|listener| {
        std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(mode))?;
        std::fs::rename(&hidden, path)?;
        Ok(listener)
    });
    let _nothing_left = std::fs::remove_file(&hidden);
    std::fs::remove_dir(&private)?;
    let listener = bound?;
    listener.set_nonblocking(true)?;
    tokio::net::UnixListener::from_std(listener)
}

type Stream = Box<dyn AsyncRead + Send + Unpin>;

impl Kind {
    /// The next client, if clients there are.
    async fn accept(&self, name: &str) -> io::Result<(Stream, String)> {
        match self {
            Kind::Stdin => std::future::pending().await,
            Kind::Tcp(listener) => listener
                .accept()
                .await
                .map(|(stream, peer)| (Box::new(stream) as Stream, format!("tcp://{peer}"))),
            #[cfg(unix)]
            Kind::Unix(listener, _) => listener
                .accept()
                .await
                .map(|(stream, _)| (Box::new(stream) as Stream, name.to_owned())),
        }
    }
}

impl Source {
    /// Reads until the end of the input, or until `stop` says so. False if it could not be read to its end.
    pub async fn serve(
        self,
        queue: mpsc::Sender<Message>,
        mut stop: watch::Receiver<Option<Instant>>,
        metrics: Arc<Metrics>,
    ) -> bool {
        let Source { name, limits, kind } = self;
        let client = |name: String, last_may_be_open: bool| {
            let (queue, metrics) = (queue.clone(), Arc::clone(&metrics));
            Client {
                name: name.into(),
                limit: limits.line,
                queue,
                metrics,
                last_may_be_open,
            }
        };
        if matches!(kind, Kind::Stdin) {
            return client(name, true)
                .read(tokio::io::stdin(), stop, None)
                .await;
        }
        let places = Arc::new(Semaphore::new(limits.clients));
        let mut clients = JoinSet::new();
        let mut was_full = false;
        loop {
            // Those that have ended are let go.
            while clients.try_join_next().is_some() {}
            if places.available_permits() == 0 && !std::mem::replace(&mut was_full, true) {
                tracing::warn!(
                    "{name}: {} clients are connected; further ones wait (--max-clients)",
                    limits.clients
                );
            }
            let next = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (kind.accept(&name).await, place.ok())
            };
            tokio::select! {
                () = told(&mut stop) => break,
                (accepted, place) = next => match accepted {
                    Ok((stream, name)) => {
                        clients.spawn(client(name, false).read(stream, stop.clone(), place));
                    }
                    // Out of descriptors, or a client that left at once: later ones may be better off.
                    Err(error) => {
                        tracing::warn!("a client could not be accepted: {error}");
                        tokio::time::sleep(LAST_WORDS).await;
                    }
                },
            }
        }
        // Who has connected by now has perhaps sent all that he had to send.
        while let Ok(Ok((stream, name))) =
            tokio::time::timeout_at(last_moment(&stop), kind.accept(&name)).await
        {
            clients.spawn(client(name, false).read(stream, stop.clone(), None));
        }
        while clients.join_next().await.is_some() {}
        #[cfg(unix)]
        if let Kind::Unix(_, path) = kind {
            let _gone = std::fs::remove_file(path);
        }
        // What became of a client is told to the client.
        true
    }
}

/// Waits until the program is told to end.
async fn told(stop: &mut watch::Receiver<Option<Instant>>) {
    let _ = stop.wait_for(Option::is_some).await;
}

/// Until when what may be on its way is waited for now; past once the time for that is over.
fn last_moment(stop: &watch::Receiver<Option<Instant>>) -> Instant {
    let soon = Instant::now() + LAST_WORDS;
    stop.borrow().map_or(soon, |end| end.min(soon))
}

/// One that sends lines.
struct Client {
    name: Arc<str>,
    limit: usize,
    queue: mpsc::Sender<Message>,
    metrics: Arc<Metrics>,
    /// Whether a last line without its newline leaves as it came. Of several clients it would run into the next one's line.
    last_may_be_open: bool,
}

impl Client {
    async fn read(
        self,
        mut stream: impl AsyncRead + Unpin,
        mut stop: watch::Receiver<Option<Instant>>,
        _place: Option<OwnedSemaphorePermit>,
    ) -> bool {
        self.metrics.connections.inc();
        self.metrics.clients.inc();
        let result = self.read_lines(&mut stream, &mut stop).await;
        self.metrics.clients.dec();
        if let Err(error) = &result {
            self.metrics.client_errors.inc();
            // Of connections there may be many that break.
            if self.last_may_be_open {
                tracing::error!("{}: cannot be read any further: {error}", self.name);
            } else {
                tracing::debug!("{}: cannot be read any further: {error}", self.name);
            }
        }
        result.is_ok()
    }

    async fn read_lines(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
        stop: &mut watch::Receiver<Option<Instant>>,
    ) -> io::Result<()> {
        let mut line = 1u64;
        let mut held: Vec<u8> = Vec::new();
        // The rest of a line that is too long to be held goes straight through here.
        let mut through: Option<mpsc::Sender<Vec<u8>>> = None;
        loop {
            let start = held.len();
            held.reserve(CHUNK.min(self.limit));
            let read = self.read_some(stream, &mut held, stop).await;
            let ended = !matches!(read, Ok(1..));
            let mut from = start;
            if let Some(long) = through.take() {
                let end = memchr::memchr(b'\n', &held).map(|at| at + 1);
                let rest = held.split_off(end.unwrap_or(held.len()));
                let chunk = std::mem::replace(&mut held, rest);
                // Its reader may have given up on a line that stalled; what comes of it later is a line of its own.
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
            if held.len() > self.limit {
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

    /// Reads what is at hand; 0 at the end, and when told to end and nothing more comes.
    async fn read_some(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
        into: &mut Vec<u8>,
        stop: &mut watch::Receiver<Option<Instant>>,
    ) -> io::Result<usize> {
        if stop.borrow().is_none() {
            tokio::select! {
                biased;
                read = stream.read_buf(into) => return read,
                () = told(stop) => {}
            }
        }
        tokio::time::timeout_at(last_moment(stop), stream.read_buf(into))
            .await
            .unwrap_or(Ok(0))
    }

    async fn send(&self, message: Message) -> bool {
        self.queue.send(message).await.is_ok()
    }
}
