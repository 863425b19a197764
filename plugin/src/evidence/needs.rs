//! What the techniques in use need of events, put together once when the filter starts.

use crate::settings::{ConnectionSettings, Patterns};

/// What the techniques in use need of events. Each technique adds its own; nothing else here knows which these are.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// Which connections count.
    pub connection: ConnectionSettings,
    /// Programs that can be controlled over DCOM: their children are wanted, and so are connections to their dynamic ports. By
    /// file name in lower case.
    pub dcom_servers: Vec<String>,
    /// Whether processes are wanted whoever started them.
    pub any_parent: bool,
    /// Pipe names that are wanted, in lower case and with `*` for any run of characters.
    pub pipes: Vec<String>,
    /// Commands of remote execution tools, as the service controller starts them.
    pub service_commands: Patterns,
    /// Commands of remote execution tools, as WMI or a DCOM server starts them.
    pub com_commands: Patterns,
}

impl Needs {
    /// Whether connections to a dynamic port of this program count.
    pub fn listens(&self, program: &str) -> bool {
        let programs = self.connection.dynamic_programs.iter();
        let mut programs = programs.chain(&self.dcom_servers);
        programs.any(|name| name == program)
    }
}
