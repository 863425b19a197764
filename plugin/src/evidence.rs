//! The normalised facts that are kept in memory and joined. Nothing here knows of JSON, and nothing of techniques.

use crate::event::{Event, Kind};
use crate::normalize::path::{self, PathKey};
use crate::normalize::time::Timestamp;
use crate::normalize::{address, command, guid, lower, lower_ascii};
use crate::pattern::{ends_agree, wildcard};
use crate::policy::{Match, Policy};
use crate::record::endings::Endings;
use crate::record::shapes::Field;
use crate::record::{Fields, MAX_TEXT, scan, text};
use crate::state::watch::Watch;
use once_cell::unsync::OnceCell;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::cell::Cell;
use std::net::IpAddr;

/// One fact, with when and where it was logged.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// When it was logged.
    pub time: Timestamp,
    /// Its number in its channel on the host.
    pub record_id: Option<u64>,
    /// What happened.
    pub fact: Fact,
}

/// What happened.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum Fact {
    /// An inbound connection from another machine (event 3).
    Connection(Connection),
    /// A file was written (event 11).
    FileWrite(FileWrite),
    /// A process was started (event 1).
    ProcessStart(Box<ProcessStart>),
    /// A service's program was set in the registry (event 13 on `ImagePath`).
    ServiceSet(ServiceSet),
    /// Another value of a service was set, which tells what was done to it (event 13).
    ServiceMark(ServiceMark),
    /// A named pipe was made or connected to (events 17 and 18).
    Pipe(Pipe),
    /// Somebody logged on over the network (Security event 4624, logon type 3).
    Logon(Box<Logon>),
}

/// See [`Fact::Connection`]. Sides are already told apart, whichever way round Sysmon wrote them.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Connection {
    /// The other machine.
    pub remote: IpAddr,
    /// Its port.
    pub remote_port: Option<u16>,
    /// The port it came to.
    pub local_port: u16,
    /// File name of the program that it came to, lower case.
    pub program: Box<str>,
    /// ProcessGuid of that program, normalised.
    pub entity_id: Option<Box<str>>,
}

/// See [`Fact::FileWrite`].
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct FileWrite {
    /// As it was logged.
    pub path: Box<str>,
    /// For joining.
    pub key: PathKey,
    /// Who wrote it.
    pub writer: Writer,
}

/// Who wrote a file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum Writer {
    /// The kernel's SMB server writes as `System`: the file came over the network (or through a loopback share).
    System,
    /// A process of the host itself.
    Process(Box<str>),
    /// Not told.
    Unknown,
}

/// See [`Fact::ProcessStart`].
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessStart {
    /// Program as it was logged.
    pub image: Box<str>,
    /// Program for joining.
    pub key: PathKey,
    /// Its command line.
    pub command_line: Option<Box<str>>,
    /// ProcessGuid, normalised.
    pub entity_id: Option<Box<str>>,
    /// Account it runs as.
    pub user: Option<Box<str>>,
    /// Its logon session.
    pub logon_id: Option<u64>,
    /// `OriginalFileName` of its version resource.
    pub original_file_name: Option<Box<str>>,
    /// `Hashes` as Sysmon writes them.
    pub hashes: Option<Box<str>>,
    /// Its parent.
    pub parent: Parent,
    /// The parent's program as it was logged.
    pub parent_image: Option<Box<str>>,
    /// The parent's ProcessGuid, normalised.
    pub parent_entity_id: Option<Box<str>>,
    /// What the whole of its command line says, where that was too long to be kept.
    #[serde(default)]
    pub long: Option<Box<LongLine>>,
    /// Its command line made [plain](command::plain); worked out when first asked for.
    #[serde(skip)]
    plain_line: OnceCell<Box<str>>,
    /// Whether its command line is one that only the tools of the chain it hangs on give; likewise.
    #[serde(skip)]
    pub typical: OnceCell<bool>,
}

/// See [`ProcessStart::long`].
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct LongLine {
    /// [Plain](command::plain), and only then cut: padding counts for nothing.
    pub plain: Box<str>,
    /// See [`ProcessStart::typical`].
    pub typical: bool,
}

impl ProcessStart {
    /// Its command line, [plain](command::plain).
    pub fn plain_line(&self) -> Option<&str> {
        if let Some(long) = &self.long {
            return Some(&long.plain);
        }
        let line = self.command_line.as_deref()?;
        Some(
            self.plain_line
                .get_or_init(|| command::plain(line, MAX_TEXT).into()),
        )
    }

    /// The command line to look for names in: as it was logged, or where that was cut, plain.
    pub fn words(&self) -> Option<&str> {
        self.long
            .as_ref()
            .map(|long| &*long.plain)
            .or(self.command_line.as_deref())
    }
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
    /// A program that can be told over DCOM to start others (`dcomexec.programs`).
    Dcom,
    /// A process that an incident is about.
    Watched,
    /// Some other program.
    Other,
}

/// See [`Fact::ServiceSet`].
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceSet {
    /// Name of the service.
    pub service: Box<str>,
    /// Its `ImagePath` as it was logged.
    pub command: Box<str>,
    /// The whole of it made [plain](command::plain), where it was too long to be kept.
    #[serde(default)]
    pub plain: Option<Box<str>>,
    /// The program in it.
    pub program: PathKey,
    /// How the service came to it, as far as is known: the other values stand in events of their own, before and after.
    pub change: Cell<Change>,
    /// The command as a pattern for the command line of its process; worked out when first asked for.
    #[serde(skip)]
    pub pattern: OnceCell<Box<str>>,
}

/// How a service came to its command. Ordered by how much is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Change {
    /// Only the command was written: it existed before.
    Changed,
    /// `Start` was written with it. CreateService does that, and so may a change.
    PerhapsCreated,
    /// It is new: what only CreateService writes stands beside the command.
    Created,
}

/// See [`Fact::ServiceMark`].
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceMark {
    /// Name of the service.
    pub service: Box<str>,
    /// What its value says.
    pub mark: Mark,
}

/// What a value of a service says about what was done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mark {
    /// `Type`, `ObjectName` or `DisplayName`: written when a service is created.
    Created,
    /// `Start`: written when it is created, and by some ways to change it.
    Start,
    /// `DeleteFlag`, or `Start` set to disabled, as DeleteService does.
    Gone,
}

/// See [`Fact::Logon`].
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Logon {
    /// Where from.
    pub remote: IpAddr,
    /// The account.
    pub user: Box<str>,
    /// Its domain.
    pub domain: Option<Box<str>>,
    /// Its logon session.
    pub logon_id: Option<u64>,
    /// The name that the other machine gave itself.
    pub workstation: Option<Box<str>>,
}

/// See [`Fact::Pipe`].
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Pipe {
    /// Whether it was connected to (event 18), not made (event 17).
    pub connected: bool,
    /// Name as it was logged.
    pub name: Box<str>,
    /// Name for matching: lower case, without the leading backslash.
    pub key: Box<str>,
    /// Program that made or connected it.
    pub image: PathKey,
    /// Its ProcessGuid, normalised.
    pub entity_id: Option<Box<str>>,
}

/// What an event comes to.
pub enum Outcome {
    /// A fact worth keeping.
    Fact(Evidence),
    /// Complete, but of no use to any chain.
    Irrelevant,
    /// Lacks what its kind must have.
    Incomplete,
}

/// The kinds of facts: a host keeps each on a shelf of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)] // the variants of Fact, process starts by their parent
pub enum Shelf {
    Connection,
    FileWrite,
    /// By the service controller, or by nobody knows whom.
    ProcessStart,
    /// By WMI, or a program that takes orders over DCOM.
    ComStart,
    /// By a process that an incident is about.
    Child,
    ServiceSet,
    ServiceMark,
    Pipe,
    Logon,
}

impl Shelf {
    /// How many shelves there are.
    pub const COUNT: usize = Shelf::Logon as usize + 1;

    /// The kinds of events whose facts stand on it.
    pub fn kinds(self) -> &'static [Kind] {
        match self {
            Shelf::Connection => &[Kind::NetworkConnect],
            Shelf::FileWrite => &[Kind::FileCreate],
            Shelf::ProcessStart | Shelf::ComStart | Shelf::Child => &[Kind::ProcessCreate],
            Shelf::ServiceSet | Shelf::ServiceMark => &[Kind::RegistryValueSet],
            Shelf::Pipe => &[Kind::PipeCreated, Kind::PipeConnected],
            Shelf::Logon => &[Kind::Logon],
        }
    }
}

/// Extensions of files that Windows runs as programs. A file that came over SMB is kept whatever its name.
const PROGRAMS: [&str; 5] = ["exe", "com", "scr", "dll", "pif"];

/// The same, and what may stand behind them without changing the file (see [`PathKey`]).
const PROGRAM_ENDINGS: [&str; 9] = ["exe", "com", "scr", "dll", "pif", ".", " ", "\"", "$data"];

/// Ends of the `TargetObject` of values that matter.
const SERVICE_VALUES: [&str; 6] = [
    "\\imagepath",
    "\\start",
    "\\type",
    "\\objectname",
    "\\displayname",
    "\\deleteflag",
];

/// What can be said of events by a look at a few of their fields, which is long before they are read to the end.
pub struct Sieve {
    /// Ends of the `ParentImage` of processes that matter.
    parents: Endings,
    /// Whether processes matter whoever their parent is.
    any_parent: bool,
    /// Patterns of the pipes that matter.
    pipes: Vec<String>,
    /// The `Image` of files that came over SMB.
    system: Endings,
    /// [`PROGRAM_ENDINGS`].
    programs: Endings,
    /// [`SERVICE_VALUES`].
    service_values: Endings,
}

impl Sieve {
    /// What the policy makes of it.
    pub fn new(policy: &Policy) -> Sieve {
        // "?" is how old Sysmon writes that there is none.
        let mut parents: Vec<String> = ["services.exe", "wmiprvse.exe", "?", "-", "null", "(null)"]
            .map(str::to_owned)
            .to_vec();
        if policy.dcomexec.enabled {
            parents.extend(policy.dcomexec.programs.iter().cloned());
        }
        Sieve {
            parents: Endings::new(&parents),
            any_parent: policy.psexec.enabled && policy.psexec.r#match == Match::DistinctCodes,
            pipes: policy.psexec.pipes.clone(),
            system: Endings::new(&["system"]),
            programs: Endings::new(&PROGRAM_ENDINGS),
            service_values: Endings::new(&SERVICE_VALUES),
        }
    }

    /// The [set](Field::bit) of fields by which, together, [`Sieve::rules_out`] can rule out an event of this kind.
    pub fn deciding(kind: Kind) -> u64 {
        match kind {
            Kind::ProcessCreate => Field::ParentImage.bit() | Field::ParentProcessGuid.bit(),
            Kind::FileCreate => Field::Image.bit() | Field::TargetFilename.bit(),
            Kind::RegistryValueSet => Field::TargetObject.bit(),
            Kind::Logon => Field::LogonType.bit() | Field::IpAddress.bit(),
            Kind::NetworkConnect => {
                Field::Protocol.bit()
                    | Field::Initiated.bit()
                    | Field::SourceIp.bit()
                    | Field::Computer.bit()
            }
            Kind::PipeCreated | Kind::PipeConnected => Field::PipeName.bit(),
        }
    }

    /// Whether the fields known so far already make an event of this kind [irrelevant](Outcome::Irrelevant). Most are.
    /// `false` when in doubt. `owns` tells whether the event's host is known to have an address.
    pub fn rules_out(
        &self,
        kind: Kind,
        so_far: &Fields<'_>,
        watch: &Watch,
        owns: &impl Fn(IpAddr) -> bool,
    ) -> bool {
        match kind {
            Kind::ProcessCreate => {
                if self.any_parent || !so_far.ends_with_none(Field::ParentImage, &self.parents) {
                    return false;
                }
                // A child of a watched process is wanted; which its parent is may not be told.
                if watch.is_empty() {
                    return true;
                }
                if let Some(parent) = so_far
                    .raw_string(Field::ParentProcessGuid)
                    .and_then(guid::bare)
                {
                    return !watch.holds(parent);
                }
                let parent = so_far.text(Field::ParentProcessGuid);
                parent.is_some_and(|parent| {
                    guid::normalize(&parent).is_none_or(|parent| !watch.holds(parent.as_bytes()))
                })
            }
            Kind::FileCreate => {
                so_far.ends_with_none(Field::Image, &self.system)
                    && so_far.ends_with_none(Field::TargetFilename, &self.programs)
            }
            Kind::RegistryValueSet => {
                so_far.ends_with_none(Field::TargetObject, &self.service_values)
            }
            Kind::Logon => {
                so_far.number(Field::LogonType).is_some_and(|logon_type| logon_type != NETWORK_LOGON)
                    // Not over TCP/IP, or from the host itself as it is mostly written. (By its other addresses, too; but whose
                    // event it is may be told better by what is still to come.)
                    || so_far.is(Field::IpAddress, "-")
                    || so_far.is(Field::IpAddress, "::1")
                    || so_far.is(Field::IpAddress, "127.0.0.1")
            }
            Kind::NetworkConnect => match so_far.truth(Field::Initiated) {
                // Outbound ones tell the host's own addresses: once.
                Some(true) => so_far
                    .address(Field::SourceIp)
                    .is_some_and(|ip| !address::is_remote(ip) || owns(ip)),
                Some(false) => is_udp(so_far),
                None => false,
            },
            Kind::PipeCreated | Kind::PipeConnected => {
                // Most can be told by their ends from the names that matter.
                if let Some((first, last)) = so_far.first_and_last(Field::PipeName)
                    && !self
                        .pipes
                        .iter()
                        .any(|pattern| ends_agree(pattern, Some(first), Some(last)))
                {
                    return true;
                }
                let key = so_far.text(Field::PipeName).map(|name| pipe_key(&name));
                key.is_some_and(|key| !self.pipes.iter().any(|pattern| wildcard(pattern, &key)))
            }
        }
    }
}

/// Logon type of a 4624 that comes over the network.
const NETWORK_LOGON: u32 = 3;

impl Evidence {
    /// Reads the fact out of an event. `own` tells the host's own addresses, `watch` whose children matter.
    pub fn from_event(
        event: &Event<'_>,
        own: &OwnAddresses,
        watch: &Watch,
        policy: &Policy,
    ) -> Outcome {
        let fact = match event.kind {
            Kind::NetworkConnect => connection(event, own, policy),
            Kind::FileCreate => file_write(event),
            Kind::ProcessCreate => process_start(event, watch, policy),
            Kind::RegistryValueSet => service_set(event),
            Kind::PipeCreated | Kind::PipeConnected => pipe(event),
            Kind::Logon => logon(event, own),
        };
        match fact {
            Ok(Some(fact)) => Outcome::Fact(Evidence {
                time: event.time,
                record_id: event.record_id,
                fact,
            }),
            Ok(None) => Outcome::Irrelevant,
            Err(Missing) => Outcome::Incomplete,
        }
    }

    /// The shelf it stands on.
    pub fn shelf(&self) -> Shelf {
        match &self.fact {
            Fact::Connection(_) => Shelf::Connection,
            Fact::FileWrite(_) => Shelf::FileWrite,
            Fact::ProcessStart(start) => match start.parent {
                Parent::Services | Parent::Unknown | Parent::Other => Shelf::ProcessStart,
                Parent::Wmi | Parent::Dcom => Shelf::ComStart,
                Parent::Watched => Shelf::Child,
            },
            Fact::ServiceSet(_) => Shelf::ServiceSet,
            Fact::ServiceMark(_) => Shelf::ServiceMark,
            Fact::Pipe(_) => Shelf::Pipe,
            Fact::Logon(_) => Shelf::Logon,
        }
    }

    /// Whether a chain would join both to the same things.
    pub fn joins_like(&self, other: &Evidence) -> bool {
        match (&self.fact, &other.fact) {
            (Fact::Connection(a), Fact::Connection(b)) => {
                a.remote == b.remote && a.program == b.program && a.entity_id == b.entity_id
            }
            (Fact::FileWrite(a), Fact::FileWrite(b)) => {
                a.key == b.key && (a.writer == Writer::System) == (b.writer == Writer::System)
            }
            (Fact::ProcessStart(a), Fact::ProcessStart(b)) => match (&a.entity_id, &b.entity_id) {
                (Some(a), Some(b)) => a == b,
                _ => a.key == b.key && self.record_id == other.record_id,
            },
            (Fact::ServiceSet(a), Fact::ServiceSet(b)) => {
                a.service.eq_ignore_ascii_case(&b.service) && a.command == b.command
            }
            (Fact::ServiceMark(a), Fact::ServiceMark(b)) => {
                a.mark == b.mark && a.service.eq_ignore_ascii_case(&b.service)
            }
            (Fact::Pipe(a), Fact::Pipe(b)) => a.key == b.key && a.entity_id == b.entity_id,
            (Fact::Logon(a), Fact::Logon(b)) => {
                a.logon_id == b.logon_id && a.remote == b.remote && a.user == b.user
            }
            _ => false,
        }
    }

    /// How much it is worth when room is short; the larger, the longer it stays.
    pub fn value(&self) -> u8 {
        match &self.fact {
            Fact::Connection(_) => 0,
            Fact::FileWrite(file) => match (&file.writer, PROGRAMS.contains(&file.key.extension()))
            {
                (Writer::System, true) => 4,
                (_, true) => 2,
                (_, false) => 1,
            },
            Fact::Pipe(_) => 3,
            Fact::ServiceSet(_) | Fact::ServiceMark(_) => 4,
            Fact::Logon(_) => 1,
            Fact::ProcessStart(start) => match start.parent {
                Parent::Dcom | Parent::Other => 4,
                _ => 5,
            },
        }
    }

    /// Roughly the memory it takes, in bytes, the allocator's overhead included.
    pub fn bytes(&self) -> usize {
        let text = |text: &str| text.len().saturating_add(ALLOCATION);
        let option = |value: &Option<Box<str>>| value.as_deref().map_or(0, text);
        let more = match &self.fact {
            Fact::Connection(connection) => {
                text(&connection.program).saturating_add(option(&connection.entity_id))
            }
            Fact::FileWrite(file) => {
                let writer = if let Writer::Process(image) = &file.writer {
                    text(image)
                } else {
                    0
                };
                text(&file.path)
                    .saturating_add(text(file.key.as_str()))
                    .saturating_add(writer)
            }
            Fact::ProcessStart(start) => [
                size_of::<ProcessStart>(),
                text(&start.image),
                text(start.key.as_str()),
                // As it is, and plain.
                option(&start.command_line).saturating_mul(2),
                option(&start.entity_id),
                option(&start.user),
                option(&start.original_file_name),
                option(&start.hashes),
                option(&start.parent_image),
                option(&start.parent_entity_id),
                start.long.as_ref().map_or(0, |long| {
                    text(&long.plain)
                        .saturating_add(size_of::<LongLine>().saturating_add(ALLOCATION))
                }),
            ]
            .into_iter()
            .fold(0, usize::saturating_add),
            // The command as it is, and as a pattern.
            Fact::ServiceSet(set) => {
                let command = text(&set.command).saturating_add(option(&set.plain));
                text(&set.service)
                    .saturating_add(command.saturating_mul(2))
                    .saturating_add(text(set.program.as_str()))
            }
            Fact::ServiceMark(mark) => text(&mark.service),
            Fact::Logon(logon) => [
                size_of::<Logon>(),
                text(&logon.user),
                option(&logon.domain),
                option(&logon.workstation),
            ]
            .into_iter()
            .fold(0, usize::saturating_add),
            Fact::Pipe(pipe) => text(&pipe.name)
                .saturating_add(text(&pipe.key))
                .saturating_add(text(pipe.image.as_str()))
                .saturating_add(option(&pipe.entity_id)),
        };
        size_of::<Evidence>()
            .saturating_add(ALLOCATION)
            .saturating_add(more)
    }
}

/// What dlmalloc adds to an allocation: its header, and up to 15 bytes of rounding.
pub const ALLOCATION: usize = 20;

/// The addresses a host is known to have: the near side of its own connections. The latest four.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct OwnAddresses {
    known: [Option<IpAddr>; 4],
    next: u8,
}

impl OwnAddresses {
    /// Whether the host has this address.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.known.contains(&Some(ip))
    }

    /// Learns from an event in which the near side is certain: an outbound connection, whose source it is. Tells whether
    /// an older address was forgotten for it.
    pub fn learn(&mut self, event: &Event<'_>) -> bool {
        if event.kind != Kind::NetworkConnect || event.fields.truth(Field::Initiated) != Some(true)
        {
            return false;
        }
        let Some(ip) = event
            .fields
            .address(Field::SourceIp)
            .filter(|ip| address::is_remote(*ip))
        else {
            return false;
        };
        if self.contains(ip) {
            return false;
        }
        let slot = usize::from(self.next)
            .checked_rem(self.known.len())
            .unwrap_or_default();
        self.next = self.next.wrapping_add(1);
        self.known
            .get_mut(slot)
            .and_then(|place| place.replace(ip))
            .is_some()
    }
}

struct Missing;

/// A fact, nothing of use, or an event that lacks what it must have.
type Found = Result<Option<Fact>, Missing>;

fn required(event: &Event<'_>, field: Field) -> Result<Box<str>, Missing> {
    event.fields.text(field).map(Into::into).ok_or(Missing)
}

fn optional(event: &Event<'_>, field: Field) -> Option<Box<str>> {
    event.fields.text(field).map(Into::into)
}

/// A command line as much as is kept of it, and the whole if that is more.
fn line<'e>(event: &'e Event<'_>, field: Field) -> Option<(String, Option<Cow<'e, str>>)> {
    let whole = event.fields.text_up_to(field, command::MAX_LINE)?;
    // Some producers (Wazuh, a few exports) leave XML's entities in.
    let whole = if whole.contains('&') {
        Cow::Owned(text::unentity(&whole))
    } else {
        whole
    };
    if whole.len() <= MAX_TEXT {
        return Some((whole.into_owned(), None));
    }
    Some((text::cut_str(&whole, MAX_TEXT).to_owned(), Some(whole)))
}

fn entity_id(event: &Event<'_>, field: Field) -> Option<Box<str>> {
    let id = match event.fields.raw_string(field).and_then(guid::bare) {
        Some(bare) => guid::settle(bare),
        None => guid::normalize(&event.fields.text(field)?),
    };
    id.map(Into::into)
}

fn is_udp(fields: &Fields<'_>) -> bool {
    // Mostly it is TCP, which takes fewer steps to see.
    !fields.is(Field::Protocol, "tcp")
        && fields
            .text(Field::Protocol)
            .is_some_and(|protocol| protocol.eq_ignore_ascii_case("udp"))
}

fn connection(event: &Event<'_>, own: &OwnAddresses, policy: &Policy) -> Found {
    let fields = event.fields;
    match fields.truth(Field::Initiated) {
        Some(true) => return Ok(None),
        Some(false) => {}
        None => return Err(Missing),
    }
    if is_udp(fields) {
        return Ok(None);
    }
    let source = (
        fields.address(Field::SourceIp).ok_or(Missing)?,
        fields.port(Field::SourcePort).ok_or(Missing)?,
    );
    let destination = (
        fields.address(Field::DestinationIp).ok_or(Missing)?,
        fields.port(Field::DestinationPort).ok_or(Missing)?,
    );
    // Before about 2020 Sysmon wrote the local side of inbound connections as the source. The service port tells the
    // sides apart; where none is a service port, the host's own address does; else the new order is assumed.
    let service = |port: u16| policy.connection.ports.contains(&port);
    let swapped = match (service(source.1), service(destination.1)) {
        (true, false) => true,
        (false, false) => own.contains(source.0) && !own.contains(destination.0),
        _ => false,
    };
    let (remote, local) = if swapped {
        (destination, source)
    } else {
        (source, destination)
    };
    let from_elsewhere =
        address::is_remote(remote.0) && remote.0 != local.0 && !own.contains(remote.0);
    let to_service = service(local.1);
    if !from_elsewhere || !(to_service || local.1 >= policy.connection.dynamic_from) {
        return Ok(None);
    }
    let program = fields
        .text(Field::Image)
        .map(|image| PathKey::new(&image).file_name().to_owned())
        .unwrap_or_default();
    if !to_service && !policy.dynamic_programs().any(|name| name == program) {
        return Ok(None);
    }
    Ok(Some(Fact::Connection(Connection {
        remote: remote.0,
        remote_port: Some(remote.1),
        local_port: local.1,
        program: program.into(),
        entity_id: entity_id(event, Field::ProcessGuid),
    })))
}

fn file_write(event: &Event<'_>) -> Found {
    let path = required(event, Field::TargetFilename)?;
    let writer = match optional(event, Field::Image) {
        Some(image) if image.eq_ignore_ascii_case("System") => Writer::System,
        Some(image) => Writer::Process(image),
        None => Writer::Unknown,
    };
    let key = PathKey::new(&path);
    if writer != Writer::System && !PROGRAMS.contains(&key.extension()) {
        return Ok(None);
    }
    Ok(Some(Fact::FileWrite(FileWrite { path, key, writer })))
}

/// The service controller as Sysmon names it, and how that stands in a record.
const CONTROLLER: &str = r"C:\Windows\System32\services.exe";
const CONTROLLER_JSON: &[u8] = br"C:\\Windows\\System32\\services.exe";

/// The same as a [key](PathKey), on whatever drive.
const CONTROLLER_KEY: &str = r"?:\windows\system32\services.exe";

/// What started a process whose parent has this ProcessGuid, and the parent's program as it was logged.
fn parent_of(
    event: &Event<'_>,
    entity_id: Option<&str>,
    watch: &Watch,
    policy: &Policy,
) -> (Parent, Option<Box<str>>) {
    // Most that matter have this parent, written like this: it need not be worked out.
    if event
        .fields
        .raw_string(Field::ParentImage)
        .is_some_and(|raw| scan::is_same(raw, CONTROLLER_JSON))
    {
        return (Parent::Services, Some(CONTROLLER.into()));
    }
    let image = optional(event, Field::ParentImage).filter(|image| &**image != "?");
    let parent = match image.as_deref().map(PathKey::new) {
        Some(key) if key.matches_text(CONTROLLER_KEY) => Parent::Services,
        _ if entity_id.is_some_and(|parent| watch.holds(parent.as_bytes())) => Parent::Watched,
        None => Parent::Unknown,
        Some(key) if key.file_name() == "wmiprvse.exe" => Parent::Wmi,
        Some(key)
            if policy
                .dcomexec
                .programs
                .iter()
                .any(|program| program == key.file_name()) =>
        {
            Parent::Dcom
        }
        Some(_) => Parent::Other,
    };
    (parent, image)
}

fn process_start(event: &Event<'_>, watch: &Watch, policy: &Policy) -> Found {
    let image = required(event, Field::Image)?;
    let parent_entity_id = entity_id(event, Field::ParentProcessGuid);
    let (parent, parent_image) = parent_of(event, parent_entity_id.as_deref(), watch, policy);
    let (command_line, whole) = line(event, Field::CommandLine).unzip();
    let long = whole.flatten().map(|whole| {
        let commands = if matches!(parent, Parent::Wmi | Parent::Dcom) {
            &policy.wmiexec.commands
        } else {
            &policy.smbexec.commands
        };
        Box::new(LongLine {
            typical: commands.hit(&whole),
            plain: command::plain(&whole, MAX_TEXT).into(),
        })
    });
    Ok(Some(Fact::ProcessStart(Box::new(ProcessStart {
        key: PathKey::new(&image),
        image,
        command_line: command_line.map(Into::into),
        long,
        entity_id: entity_id(event, Field::ProcessGuid),
        user: optional(event, Field::User),
        logon_id: logon_id(event, Field::LogonId),
        original_file_name: optional(event, Field::OriginalFileName),
        hashes: optional(event, Field::Hashes),
        parent,
        parent_image,
        parent_entity_id,
        plain_line: OnceCell::new(),
        typical: OnceCell::new(),
    }))))
}

/// A logon session as producers write it: hexadecimal, or (Elastic's and some others) decimal.
fn logon_id(event: &Event<'_>, field: Field) -> Option<u64> {
    if let Some(raw) = event.fields.raw_string(field)
        && let Some(id) = hexadecimal(raw)
    {
        return Some(id);
    }
    let text = event.fields.text(field)?;
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// The number that `raw` is as Sysmon and the Security channel write it.
fn hexadecimal(raw: &[u8]) -> Option<u64> {
    let digits = raw
        .strip_prefix(b"0x")
        .filter(|digits| (1..=16).contains(&digits.len()))?;
    digits.iter().try_fold(0u64, |id, digit| {
        Some(id << 4 | u64::from(char::from(*digit).to_digit(16)?))
    })
}

fn logon(event: &Event<'_>, own: &OwnAddresses) -> Found {
    if event.fields.number(Field::LogonType).ok_or(Missing)? != NETWORK_LOGON {
        return Ok(None);
    }
    // "-" is written for logons that did not come over TCP/IP.
    let Some(remote) = event
        .fields
        .address(Field::IpAddress)
        .filter(|ip| address::is_remote(*ip) && !own.contains(*ip))
    else {
        return Ok(None);
    };
    Ok(Some(Fact::Logon(Box::new(Logon {
        remote,
        user: required(event, Field::TargetUserName)?,
        domain: optional(event, Field::TargetDomainName),
        logon_id: logon_id(event, Field::TargetLogonId),
        workstation: optional(event, Field::WorkstationName),
    }))))
}

/// Services stand under `HKLM\System\CurrentControlSet\Services\` or, in old Sysmon, `\REGISTRY\MACHINE\…\services\`.
const SERVICES: &str = r"\services\";

fn service_set(event: &Event<'_>) -> Found {
    let target = event.fields.text(Field::TargetObject).ok_or(Missing)?;
    // ASCII folding keeps offsets: the name is shown as it was written.
    let folded = lower_ascii(&target);
    let Some((name, key)) = SERVICE_VALUES
        .iter()
        .find_map(|name| Some((name, folded.strip_suffix(name)?)))
    else {
        return Ok(None);
    };
    let above = key.get(..path::name_start(key)).unwrap_or_default();
    // Below a service may be other keys of that name: those are no services.
    let mut places = above.as_bytes().windows(SERVICES.len()).enumerate();
    let first = places.find(|(_, place)| scan::is_same(place, SERVICES.as_bytes()));
    if first.is_none_or(|(at, _)| at.saturating_add(SERVICES.len()) != above.len()) {
        return Ok(None);
    }
    let Some(service) = target
        .get(above.len()..key.len())
        .filter(|service| !service.is_empty())
    else {
        return Ok(None);
    };
    let mark = match *name {
        "\\imagepath" => {
            let (command, long) = line(event, Field::Details).ok_or(Missing)?;
            return Ok(Some(Fact::ServiceSet(ServiceSet {
                service: service.into(),
                program: path::program(&command),
                plain: long.map(|long| command::plain(&long, MAX_TEXT).into()),
                command: command.into(),
                change: Cell::new(Change::Changed),
                pattern: OnceCell::new(),
            })));
        }
        "\\deleteflag" => Mark::Gone,
        // 4 is SERVICE_DISABLED, which DeleteService sets first. Elastic writes the number alone.
        "\\start"
            if matches!(
                &*event.fields.text(Field::Details).ok_or(Missing)?,
                "DWORD (0x00000004)" | "0x00000004" | "4"
            ) =>
        {
            Mark::Gone
        }
        "\\start" => Mark::Start,
        _ => Mark::Created,
    };
    Ok(Some(Fact::ServiceMark(ServiceMark {
        service: service.into(),
        mark,
    })))
}

/// A pipe's name for matching.
fn pipe_key(name: &str) -> String {
    lower(name.trim_start_matches('\\'))
}

fn pipe(event: &Event<'_>) -> Found {
    let name = required(event, Field::PipeName)?;
    let key = pipe_key(&name).into();
    let image = PathKey::new(&event.fields.text(Field::Image).unwrap_or_default());
    Ok(Some(Fact::Pipe(Pipe {
        connected: event.kind == Kind::PipeConnected,
        name,
        key,
        image,
        entity_id: entity_id(event, Field::ProcessGuid),
    })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::HostNames;
    use crate::record::testing::All;
    use crate::record::{Reader, read};
    use proptest::sample::select;

    const IMAGES: &[&str] = &[
        "System",
        r"C:\Windows\services.exe",
        r"C:\Windows\System32\wbem\WMIPRVSE.EXE",
        r"C:\Windows\System32\services.exe",
        r"C:\Windows\System32\mmc.exe",
        r"C:\x\x.txt",
        r"C:\x\x.exe",
        "?",
        "-",
        "",
    ];
    const VALUES: &[&str] = &[
        r"\Services\s\ImagePath",
        r"\Services\s\Start",
        r"\services\s\start",
        r"\Services\s\x",
        r"\x\Start",
        "",
    ];
    const PIPES: &[&str] = &[
        r"\psexesvc",
        r"\PSEXESVC-PC-1-stdin",
        r"\paexec",
        r"\x-STDERR",
        r"\x-in",
        r"\\remcom_x",
        "psexesvc",
        "-",
        "",
    ];
    const WATCHED: &str = "3f1a2b4c-5cd2-66e5-a907-000000004100";
    const PARENTS: &[&str] = &[
        r#""{3F1A2B4C-5CD2-66E5-A907-000000004100}""#,
        r#""3f1a2b4c-5cd2-66e5-a907-000000004100""#,
        r#""{3f1a2b4c-5cd2-66e5-a907-00000000410\u0030}""#,
        r#"" {3f1a2b4c-5cd2-66e5-a907-000000004100}""#,
        r#""{3f1a2b4c-5cd2-66e5-a907-000000004101}""#,
        r#""{00000000-0000-0000-0000-000000000000}""#,
        r#""-""#,
        "null",
    ];
    const ADDRESSES: &[&str] = &["10.9.9.9", "10.55.1.77", "127.0.0.1", "::1", "-", ""];

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(4000))]

        /// What the sieve leaves early would have been of no use, and would have taught nothing.
        #[test]
        fn the_sieve_leaves_out_nothing_of_use(
            id in select(&[1, 3, 11, 13, 17, 18, 4624][..]),
            initiated in select(&["true", "false", ""][..]),
            protocol in select(&["tcp", "udp", "UDP", "-"][..]),
            addresses in (select(ADDRESSES), select(ADDRESSES)),
            ports in select(&[(445, 50_211), (50_211, 445), (443, 443)][..]),
            image in select(IMAGES),
            value in select(VALUES),
            pipe in select(PIPES),
            logon_type in select(&["3", "2", "-"][..]),
            parent in select(PARENTS),
            watches: bool,
            known: bool,
        ) {
            let provider = if id == 4624 { SECURITY_PROVIDER } else { SYSMON_PROVIDER };
            let record = serde_json::json!({
                "EventID": id, "ProviderName": provider, "Computer": "PC1", "EventTime": "2024-09-14T09:52:33Z",
                "Initiated": initiated, "Protocol": protocol, "SourceIp": addresses.0, "SourcePort": ports.0,
                "DestinationIp": addresses.1, "DestinationPort": ports.1, "Image": image, "ParentImage": image,
                "TargetFilename": image, "TargetObject": format!("HKLM{value}"), "Details": "cmd", "PipeName": pipe,
                "LogonType": logon_type, "IpAddress": addresses.0, "TargetUserName": "alice",
            });
            let record = record.to_string().replacen('{', &format!(r#"{{"ParentProcessGuid":{parent},"#), 1);
            let fields = read(record.as_bytes(), &mut Reader::default(), &All).expect("it is JSON").expect("it has an id");
            let event = Event::new(&fields, None, &HostNames::default()).unwrap_or_else(|reject| panic!("{reject:?}: {record}"));
            let mut own = OwnAddresses::default();
            if known {
                own.known[0] = address::parse("10.9.9.9");
            }
            let (policy, mut watch) = (Policy::default(), Watch::default());
            if watches {
                watch.add(WATCHED, 1);
            }
            let owns = |ip| own.contains(ip);
            if Sieve::new(&policy).rules_out(event.kind, &fields, &watch, &owns) {
                if let Outcome::Fact(evidence) = Evidence::from_event(&event, &own, &watch, &policy) {
                    let is_used = match &evidence.fact {
                        Fact::Pipe(pipe) => policy.psexec.pipes.iter().any(|pattern| wildcard(pattern, &pipe.key)),
                        Fact::ProcessStart(start) => start.parent != Parent::Other,
                        _ => true,
                    };
                    proptest::prop_assert!(!is_used, "{}", record);
                }
                let before = own.known;
                own.learn(&event);
                proptest::prop_assert_eq!(before, own.known, "{}", record);
            }
        }
    }

    /// Looks at the event that a record is.
    fn with_event(record: &str, look: impl FnOnce(&Event<'_>)) {
        let fields = read(record.as_bytes(), &mut Reader::default(), &All)
            .expect("it is JSON")
            .expect("it has an id");
        look(
            &Event::new(&fields, None, &HostNames::default())
                .unwrap_or_else(|reject| panic!("{reject:?}: {record}")),
        );
    }

    fn fact_of(event: &Event<'_>) -> Option<Fact> {
        match Evidence::from_event(
            event,
            &OwnAddresses::default(),
            &Watch::default(),
            &Policy::default(),
        ) {
            Outcome::Fact(evidence) => Some(evidence.fact),
            Outcome::Irrelevant | Outcome::Incomplete => None,
        }
    }

    #[test]
    fn the_service_controller_is_one_however_it_is_written() {
        for parent in [
            r"C:\\Windows\\System32\\services.exe",
            r"c:\\WINDOWS\\system32\\Services.exe",
            r"C:\\Windows\\System32\/services.exe",
        ] {
            let record = format!(
                r#"{{"EventID":1,"ProviderName":"{SYSMON_PROVIDER}","Computer":"PC1","EventTime":"2024-09-14T09:52:33Z","Image":"C:\\a.exe","ParentImage":"{parent}"}}"#
            );
            with_event(&record, |event| {
                let Some(Fact::ProcessStart(start)) = fact_of(event) else {
                    panic!("{record}")
                };
                assert_eq!(start.parent, Parent::Services, "{parent}");
                assert_eq!(
                    start.parent_image.as_deref(),
                    event.fields.text(Field::ParentImage).as_deref(),
                    "{parent}"
                );
            });
        }
    }

    #[test]
    fn a_logon_session_is_read_in_every_form() {
        for (id, want) in [
            ("0x3e7", Some(0x3e7)),
            ("0x0", Some(0)),
            ("0X3E7", Some(0x3e7)),
            ("999", Some(999)),
            ("0xffffffffffffffff", Some(u64::MAX)),
            ("0x10000000000000000", None),
            (r"0\u0078\u0033e7", Some(0x3e7)),
            ("0x", None),
            ("0x-1", None),
            ("-", None),
        ] {
            let record = format!(
                r#"{{"EventID":4624,"ProviderName":"{SECURITY_PROVIDER}","Computer":"PC1","EventTime":"2024-09-14T09:52:33Z","LogonType":3,"IpAddress":"10.9.9.9","TargetUserName":"alice","TargetLogonId":"{id}"}}"#
            );
            with_event(&record, |event| {
                assert_eq!(logon_id(event, Field::TargetLogonId), want, "{id}")
            });
        }
    }

    #[test]
    fn a_service_stands_right_below_the_first_key_of_services() {
        for (target, service) in [
            (
                r"HKLM\System\CurrentControlSet\Services\PSEXESVC\Start",
                Some("PSEXESVC"),
            ),
            (
                r"\REGISTRY\MACHINE\SYSTEM\ControlSet001\services\x\START",
                Some("x"),
            ),
            (
                r"HKLM\System\CurrentControlSet\Services\services\Start",
                Some("services"),
            ),
            (
                r"HKLM\System\CurrentControlSet\Services\BTHPORT\Parameters\Services\y\Start",
                None,
            ),
            (
                r"HKLM\System\CurrentControlSet\Services\services\x\Start",
                None,
            ),
            (r"HKLM\System\CurrentControlSet\Services\\Start", None),
            (r"HKLM\System\CurrentControlSet\Services\Start", None),
            (r"HKLM\Software\x\Start", None),
        ] {
            let record = serde_json::json!({
                "EventID": 13, "ProviderName": SYSMON_PROVIDER, "Computer": "PC1", "EventTime": "2024-09-14T09:52:33Z",
                "Image": "System", "TargetObject": target, "Details": "DWORD (0x00000003)",
            });
            with_event(&record.to_string(), |event| {
                let found = match fact_of(event) {
                    Some(Fact::ServiceMark(mark)) => Some(mark.service),
                    _ => None,
                };
                assert_eq!(found.as_deref(), service, "{target}");
            });
        }
    }

    const SYSMON_PROVIDER: &str = "Microsoft-Windows-Sysmon";
    const SECURITY_PROVIDER: &str = "Microsoft-Windows-Security-Auditing";
}
