//! Signals that end the program or make it reload.

/// What a signal asks for.
pub enum Signal {
    /// SIGTERM or SIGINT: write what has arrived and end.
    End,
    /// SIGHUP: read module and policy again.
    #[cfg_attr(not(unix), expect(dead_code))]
    Reload,
}

/// The signals that the program listens for.
pub struct Signals {
    #[cfg(unix)]
    streams: [tokio::signal::unix::Signal; 3],
}

impl Signals {
    /// Waits for a signal to end; ignores those to reload.
    pub async fn end(&mut self) {
        while let Signal::Reload = self.next().await {}
    }
}

#[cfg(unix)]
impl Signals {
    /// Starts to listen: a signal that arrives from now on is kept until [`Signals::next`]. The error is a message for the
    /// operator.
    pub fn new() -> Result<Signals, String> {
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

    /// Waits for the next signal.
    pub async fn next(&mut self) -> Signal {
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
    /// Starts to listen for Ctrl-C.
    pub fn new() -> Result<Signals, String> {
        Ok(Signals {})
    }

    /// Waits for Ctrl-C.
    pub async fn next(&mut self) -> Signal {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        Signal::End
    }
}
