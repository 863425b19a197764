//! Signals that end the program or make it reload.

use tokio::sync::mpsc;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Write what has arrived, save the state and end.
    ///
    /// On Unix SIGTERM and SIGINT; on Windows Ctrl-C, Ctrl-Break, the end of the console, of the session and of Windows.
    End,
    /// Read module and policy again. On Unix SIGHUP; there is no such signal on Windows.
    Reload,
}

/// What runs the program as a service and sends signals in place of the operating system.
pub struct Controller {
    /// What it asks for.
    pub requests: mpsc::UnboundedReceiver<Signal>,
    /// Called once, when inputs, module, state and output are open.
    pub ready: Box<dyn FnOnce() + Send>,
}

/// The signals that the program gets.
pub struct Signals(Sender);

enum Sender {
    System(System),
    Controller(mpsc::UnboundedReceiver<Signal>),
}

impl Signals {
    /// Starts to listen to the operating system: a signal that arrives from now on is kept until [`Signals::next`]. The error is a
    /// message for the operator.
    pub fn new() -> Result<Signals, String> {
        System::new()
            .map(|system| Signals(Sender::System(system)))
            .map_err(|error| format!("cannot listen for signals: {error}"))
    }

    /// The signals that a [`Controller`] sends.
    pub fn of(requests: mpsc::UnboundedReceiver<Signal>) -> Signals {
        Signals(Sender::Controller(requests))
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) -> Signal {
        match &mut self.0 {
            Sender::System(system) => system.next().await,
            Sender::Controller(requests) => match requests.recv().await {
                Some(signal) => signal,
                // The controller sends nothing more.
                None => std::future::pending().await,
            },
        }
    }

    /// Waits for a signal to end; ignores those to reload.
    pub async fn end(&mut self) {
        while self.next().await == Signal::Reload {}
    }
}

/// The signals of the operating system.
#[cfg(unix)]
struct System([tokio::signal::unix::Signal; 3]);

#[cfg(unix)]
impl System {
    fn new() -> std::io::Result<System> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(System([
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    async fn next(&mut self) -> Signal {
        let [terminate, interrupt, hangup] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => Signal::End,
            _ = interrupt.recv() => Signal::End,
            _ = hangup.recv() => Signal::Reload,
        }
    }
}

/// The events of the console that the program was started in. Windows ends the program about 5 s after an event other than Ctrl-C
/// and Ctrl-Break, whether it has written everything or not.
#[cfg(windows)]
struct System {
    c: tokio::signal::windows::CtrlC,
    r#break: tokio::signal::windows::CtrlBreak,
    close: tokio::signal::windows::CtrlClose,
    logoff: tokio::signal::windows::CtrlLogoff,
    shutdown: tokio::signal::windows::CtrlShutdown,
}

#[cfg(windows)]
impl System {
    fn new() -> std::io::Result<System> {
        use tokio::signal::windows;
        Ok(System {
            c: windows::ctrl_c()?,
            r#break: windows::ctrl_break()?,
            close: windows::ctrl_close()?,
            logoff: windows::ctrl_logoff()?,
            shutdown: windows::ctrl_shutdown()?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.c.recv() => {}
            _ = self.r#break.recv() => {}
            _ = self.close.recv() => {}
            _ = self.logoff.recv() => {}
            _ = self.shutdown.recv() => {}
        }
        Signal::End
    }
}
