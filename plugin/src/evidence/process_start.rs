//! Processes started: Sysmon event 1.

use super::{
    ALLOCATION, Context, Event, EventPrefilter, EvidenceKind, Evident, Fact, Field, Fields, Found,
    KindInfo, Known, Needs, logon, optional, optional_bytes, process_guid, required, sum,
    text_bytes,
};
use crate::json::text;
use crate::normalize::cmd::{self, Shape};
use crate::normalize::path::PathKey;
use crate::normalize::{command, guid};
use crate::record::MAX_TEXT;
use crate::record::Suffixes;
use once_cell::unsync::OnceCell;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::cell::Cell;

/// A process that was started.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessStart {
    /// Program as it was logged.
    pub image: Box<str>,
    /// Program for joining.
    pub key: PathKey,
    /// Its command line, cut to 1 KiB.
    pub command_line: Option<Box<str>>,
    /// ProcessGuid, normalized.
    pub process_guid: Option<Box<str>>,
    /// Account that it runs as.
    pub user: Option<Box<str>>,
    /// Its logon session.
    pub logon_id: Option<u64>,
    /// `OriginalFileName` of its version resource.
    pub original_file_name: Option<Box<str>>,
    /// `Hashes` as Sysmon writes them.
    pub hashes: Option<Box<str>>,
    /// What started it.
    pub parent: Parent,
    /// The parent's program as it was logged.
    pub parent_image: Option<Box<str>>,
    /// The parent's ProcessGuid, normalized.
    pub parent_process_guid: Option<Box<str>>,
    /// What the whole command line shows, where it is too long to be kept.
    pub long: Option<Box<LongLine>>,
    /// Whether many such programs are started legitimately, so that it gives way to others when room is short.
    #[serde(skip)]
    pub is_common: Cell<bool>,
    /// The paths in its command line that can name what it runs; filled by `chain::service` before it is stored, where the
    /// interpreter's stack has room for it.
    #[serde(skip)]
    pub named: OnceCell<Box<[Named]>>,
    /// Its command line [normalized](command::normalize); worked out when first asked for.
    #[serde(skip)]
    normalized_line: OnceCell<Box<str>>,
    /// Whether its command line is one of a remote execution tool; worked out when first asked for.
    #[serde(skip)]
    pub is_tool_command: OnceCell<bool>,
    /// The [shape](cmd::shape) of its whole command line. Not worked out when it is needed, because that is where most of the
    /// interpreter's stack is in use.
    pub shape: Shape,
}

/// A path in a command line that can name what it runs.
#[derive(Debug, PartialEq)]
pub struct Named {
    /// The path.
    pub path: PathKey,
    /// Its [`PathKey::stem_hash`].
    pub stem: Option<u64>,
}

/// A command line of more than 1 KiB.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct LongLine {
    /// [Normalized](command::normalize) before it was cut to 1 KiB, so that padding does not hide a command.
    pub normalized: Box<str>,
    /// Whether the whole line matches the policy's patterns for commands of remote execution tools.
    pub is_tool_command: bool,
}

/// What started a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Parent {
    /// The service controller.
    Services,
    /// Sysmon could not tell (protected `services.exe`, old versions).
    Unknown,
    /// WMI's provider host.
    Wmi,
    /// A program that can be controlled over DCOM.
    Dcom,
    /// A tracked process, see [`TrackedProcesses`](super::TrackedProcesses).
    Tracked,
    /// Any other program.
    Other,
}

/// Storage of processes started by the service controller.
pub const BY_SERVICES: KindInfo = KindInfo::shared(8, 8);

/// Storage of processes started by WMI or over DCOM.
pub const BY_COM: KindInfo = KindInfo::shared(6, 7);

/// Storage of children of tracked processes.
pub const BY_TRACKED: KindInfo = KindInfo::shared(4, 2);

impl ProcessStart {
    /// Its command line, [normalized](command::normalize).
    pub fn normalized_line(&self) -> Option<&str> {
        if let Some(long) = &self.long {
            return Some(&long.normalized);
        }
        let line = self.command_line.as_deref()?;
        let normalize = || command::normalize(line, MAX_TEXT).into();
        Some(self.normalized_line.get_or_init(normalize))
    }

    /// The command line to look for names in: as it was logged, or normalized where it was too long to be kept.
    pub fn words(&self) -> Option<&str> {
        let long = self.long.as_ref().map(|long| &*long.normalized);
        long.or(self.command_line.as_deref())
    }

    /// Its command line; its program where no command line was logged.
    pub fn command(&self) -> &str {
        self.command_line.as_deref().unwrap_or(&self.image)
    }

    /// Whether it runs as LocalSystem, LocalService or NetworkService. These have the same logon sessions everywhere, while
    /// their names are localized. A process of a service without a session counts as one.
    pub fn is_service_account(&self) -> bool {
        match self.logon_id {
            Some(id) => matches!(id, 0x3e7 | 0x3e4 | 0x3e5),
            None => matches!(self.parent, Parent::Services | Parent::Unknown),
        }
    }
}

impl Evident for ProcessStart {
    fn kind(&self) -> EvidenceKind {
        match self.parent {
            Parent::Services | Parent::Unknown | Parent::Other => EvidenceKind::ProcessStart,
            Parent::Wmi | Parent::Dcom => EvidenceKind::ComStart,
            Parent::Tracked => EvidenceKind::Child,
        }
    }

    fn joins_like(&self, other: &Self, is_same_record: bool) -> bool {
        match (&self.process_guid, &other.process_guid) {
            (Some(a), Some(b)) => a == b,
            _ => self.key == other.key && is_same_record,
        }
    }

    fn worth(&self) -> u8 {
        match self.parent {
            _ if self.is_common.get() => 1,
            Parent::Dcom | Parent::Other => 4,
            _ => 5,
        }
    }

    fn heap_bytes(&self) -> usize {
        let long = self.long.as_ref().map_or(0, |long| {
            sum([
                text_bytes(&long.normalized),
                size_of::<LongLine>(),
                ALLOCATION,
            ])
        });
        sum([
            text_bytes(&self.image),
            text_bytes(self.key.as_str()),
            // As it was logged, normalized, and as paths.
            optional_bytes(&self.command_line).saturating_mul(3),
            optional_bytes(&self.process_guid),
            optional_bytes(&self.user),
            optional_bytes(&self.original_file_name),
            optional_bytes(&self.hashes),
            optional_bytes(&self.parent_image),
            optional_bytes(&self.parent_process_guid),
            long,
        ])
    }

    fn summary(&self) -> String {
        let image = self.parent_image.as_deref().unwrap_or_default();
        let parent = match self.parent {
            Parent::Unknown => "an unknown parent".to_owned(),
            _ => PathKey::new(image).file_name().to_owned(),
        };
        format!("{parent} started {}", self.image)
    }

    /// What a tracked process started stands for that process.
    fn process_guid(&self) -> Option<&str> {
        match self.parent {
            Parent::Tracked => self.parent_process_guid.as_deref(),
            _ => self.process_guid.as_deref(),
        }
    }

    fn label(&self) -> &str {
        self.key.as_str()
    }
}

/// Suffixes of the `ParentImage` of processes that matter. `?` is how old Sysmon writes that there is none.
const PARENTS: [&str; 6] = ["services.exe", "wmiprvse.exe", "?", "-", "null", "(null)"];

/// Rejects processes whose parent is neither the service controller, WMI, a DCOM server nor tracked.
pub struct Prefilter {
    parents: Suffixes,
    any_parent: bool,
}

impl EventPrefilter for Prefilter {
    const KINDS: &'static [EvidenceKind] = &[
        EvidenceKind::ProcessStart,
        EvidenceKind::ComStart,
        EvidenceKind::Child,
    ];

    const FIELDS: u64 = Field::ParentImage.bit() | Field::ParentProcessGuid.bit();

    fn new(needs: &Needs) -> Prefilter {
        let mut parents = PARENTS.to_vec();
        parents.extend(needs.dcom_servers.iter().map(String::as_str));
        Prefilter {
            parents: Suffixes::new(&parents),
            any_parent: needs.any_parent,
        }
    }

    fn rejects(&self, so_far: &Fields<'_>, known: &Known<'_>) -> bool {
        if self.any_parent || !so_far.ends_with_none_of(Field::ParentImage, &self.parents) {
            return false;
        }
        if known.tracked.is_empty() {
            return true;
        }
        let parent = so_far.text(Field::ParentImage);
        if parent.is_some_and(|parent| known.tracked.has_program(&parent)) {
            return false;
        }
        let raw = so_far.raw_string(Field::ParentProcessGuid);
        if let Some(parent) = raw.and_then(guid::strip_braces) {
            return !known.tracked.contains(parent);
        }
        let parent = so_far.text(Field::ParentProcessGuid);
        parent.is_some_and(|parent| {
            let parent = guid::normalize(&parent);
            parent.is_none_or(|parent| !known.tracked.contains(parent.as_bytes()))
        })
    }
}

/// The service controller as a [`PathKey`], on whatever drive.
const CONTROLLER_KEY: &str = r"?:\windows\system32\services.exe";

/// What started a process whose parent has this ProcessGuid, and the parent's program as it was logged.
fn parent_of(
    event: &Event<'_>,
    process_guid: Option<&str>,
    context: &Context<'_>,
) -> (Parent, Option<Box<str>>) {
    let image = optional(event, Field::ParentImage).filter(|image| &**image != "?");
    let is_guid_tracked = |guid: &str| context.tracked.contains(guid.as_bytes());
    let is_program_tracked = |image: &str| context.tracked.has_program(image);
    let is_tracked = process_guid.is_some_and(is_guid_tracked)
        || image.as_deref().is_some_and(is_program_tracked);
    let is_dcom_server = |name: &str| context.needs.dcom_servers.iter().any(|known| known == name);
    let parent = match image.as_deref().map(PathKey::new) {
        Some(key) if key.matches_text(CONTROLLER_KEY) => Parent::Services,
        _ if is_tracked => Parent::Tracked,
        None => Parent::Unknown,
        Some(key) if key.file_name() == "wmiprvse.exe" => Parent::Wmi,
        Some(key) if is_dcom_server(key.file_name()) => Parent::Dcom,
        Some(_) => Parent::Other,
    };
    (parent, image)
}

/// Reads a process start.
pub(super) fn read(event: &Event<'_>, context: &Context<'_>) -> Found {
    let image = required(event, Field::Image)?;
    let parent_process_guid = process_guid(event, Field::ParentProcessGuid);
    let (parent, parent_image) = parent_of(event, parent_process_guid.as_deref(), context);
    let (command_line, whole) = line(event, Field::CommandLine).unzip();
    let kept = command_line.as_deref().unwrap_or(&image);
    let shape = cmd::shape(whole.as_ref().and_then(Option::as_deref).unwrap_or(kept));
    let long = whole.flatten().map(|whole| {
        let commands = match parent {
            Parent::Wmi | Parent::Dcom => &context.needs.com_commands,
            _ => &context.needs.service_commands,
        };
        Box::new(LongLine {
            is_tool_command: commands.hit(&whole),
            normalized: command::normalize(&whole, MAX_TEXT).into(),
        })
    });
    Ok(Some(Fact::ProcessStart(Box::new(ProcessStart {
        key: PathKey::new(&image),
        image,
        command_line: command_line.map(Into::into),
        long,
        process_guid: process_guid(event, Field::ProcessGuid),
        user: optional(event, Field::User),
        logon_id: logon::session(event, Field::LogonId),
        original_file_name: optional(event, Field::OriginalFileName),
        hashes: optional(event, Field::Hashes),
        parent,
        parent_image,
        parent_process_guid,
        is_common: Cell::new(false),
        named: OnceCell::new(),
        normalized_line: OnceCell::new(),
        is_tool_command: OnceCell::new(),
        shape,
    }))))
}

/// A command line as far as it is kept, and the whole line if that is longer.
pub(super) fn line<'e>(
    event: &'e Event<'_>,
    field: Field,
) -> Option<(String, Option<Cow<'e, str>>)> {
    let whole = event.fields.text_up_to(field, command::MAX_LINE)?;
    // Some producers (Wazuh, a few exports) leave XML's entities in.
    let whole = if whole.contains('&') {
        Cow::Owned(text::resolve_entities(&whole))
    } else {
        whole
    };
    if whole.len() <= MAX_TEXT {
        return Some((whole.into_owned(), None));
    }
    let kept = text::truncate_str(&whole, MAX_TEXT).to_owned();
    Some((kept, Some(whole)))
}
