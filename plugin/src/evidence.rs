//! The normalised facts that are kept in memory and joined. Nothing here knows of JSON, and nothing of techniques.

use crate::event::{Event, Kind};
use crate::normalize::path::{self, PathKey};
use crate::normalize::time::Timestamp;
use crate::normalize::{address, guid};
use crate::policy::{ConnectionPolicy, Policy};
use crate::record::Fields;
use crate::record::shapes::Field;
use std::net::IpAddr;

/// One fact, with when and where it was logged.
#[derive(Debug, PartialEq)]
pub struct Evidence {
    /// When it was logged.
    pub time: Timestamp,
    /// Its number in the host's Sysmon channel.
    pub record_id: Option<u64>,
    /// What happened.
    pub fact: Fact,
}

/// What happened.
#[derive(Debug, PartialEq)]
pub enum Fact {
    /// An inbound connection from another machine (event 3).
    Connection(Connection),
    /// A file was written (event 11).
    FileWrite(FileWrite),
    /// A process was started (event 1).
    ProcessStart(Box<ProcessStart>),
    /// A service's program was set in the registry (event 13 on `ImagePath`).
    ServiceSet(ServiceSet),
    /// A named pipe was made or connected to (events 17 and 18).
    Pipe(Pipe),
}

/// See [`Fact::Connection`]. Sides are already told apart, whichever way round Sysmon wrote them.
#[derive(Debug, PartialEq)]
pub struct Connection {
    /// The other machine.
    pub remote: IpAddr,
    /// Its port.
    pub remote_port: Option<u16>,
    /// The port it came to.
    pub local_port: u16,
}

/// See [`Fact::FileWrite`].
#[derive(Debug, PartialEq)]
pub struct FileWrite {
    /// As it was logged.
    pub path: Box<str>,
    /// For joining.
    pub key: PathKey,
    /// Who wrote it.
    pub writer: Writer,
}

/// Who wrote a file.
#[derive(Debug, PartialEq)]
pub enum Writer {
    /// The kernel's SMB server writes as `System`: the file came over the network (or through a loopback share).
    System,
    /// A process of the host itself.
    Process(Box<str>),
    /// Not told.
    Unknown,
}

/// See [`Fact::ProcessStart`].
#[derive(Debug, PartialEq)]
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
}

/// What started a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent {
    /// The service controller.
    Services,
    /// Sysmon could not tell (protected `services.exe`, old versions).
    Unknown,
    /// Some other program.
    Other,
}

/// See [`Fact::ServiceSet`].
#[derive(Debug, PartialEq)]
pub struct ServiceSet {
    /// Name of the service.
    pub service: Box<str>,
    /// Its `ImagePath` as it was logged.
    pub command: Box<str>,
    /// The program in it.
    pub program: PathKey,
}

/// See [`Fact::Pipe`].
#[derive(Debug, PartialEq)]
pub struct Pipe {
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
#[allow(missing_docs)] // one for one the variants of Fact
pub enum Shelf {
    Connection,
    FileWrite,
    ProcessStart,
    ServiceSet,
    Pipe,
}

impl Shelf {
    /// How many shelves there are.
    pub const COUNT: usize = Shelf::Pipe as usize + 1;

    /// The shelf of the facts that events of a kind hold.
    pub fn of(kind: Kind) -> Shelf {
        match kind {
            Kind::NetworkConnect => Shelf::Connection,
            Kind::FileCreate => Shelf::FileWrite,
            Kind::ProcessCreate => Shelf::ProcessStart,
            Kind::RegistryValueSet => Shelf::ServiceSet,
            Kind::PipeCreated | Kind::PipeConnected => Shelf::Pipe,
        }
    }
}

/// Extensions of files that Windows runs as programs. A file that came over SMB is kept whatever its name.
const PROGRAMS: [&str; 5] = ["exe", "com", "scr", "dll", "pif"];

/// The same, and what may stand behind them without changing the file (see [`PathKey`]).
const PROGRAM_ENDINGS: [&str; 9] = ["exe", "com", "scr", "dll", "pif", ".", " ", "\"", "$data"];

/// Whether the fields known so far already make an event of this kind [irrelevant](Outcome::Irrelevant). Most events are,
/// and this is known long before they are read to the end. `false` when in doubt.
pub fn is_surely_irrelevant(kind: Kind, so_far: &Fields<'_>) -> bool {
    match kind {
        Kind::ProcessCreate => {
            // Whatever does not end like this has a parent, and another one. ("?" is how old Sysmon writes none.)
            so_far.ends_with(Field::ParentImage, &["services.exe", "?", "-", "null", "(null)"]) == Some(false)
        }
        Kind::FileCreate => {
            so_far.ends_with(Field::Image, &["system"]) == Some(false)
                && so_far.ends_with(Field::TargetFilename, &PROGRAM_ENDINGS) == Some(false)
        }
        Kind::RegistryValueSet => so_far.ends_with(Field::TargetObject, &["imagepath"]) == Some(false),
        Kind::NetworkConnect | Kind::PipeCreated | Kind::PipeConnected => false,
    }
}

impl Evidence {
    /// Reads the fact out of an event. `own` tells the host's own addresses.
    pub fn from_event(event: &Event<'_>, own: &OwnAddresses, policy: &Policy) -> Outcome {
        let fact = match event.kind {
            Kind::NetworkConnect => connection(event, own, &policy.connection),
            Kind::FileCreate => file_write(event),
            Kind::ProcessCreate => process_start(event),
            Kind::RegistryValueSet => service_set(event),
            Kind::PipeCreated | Kind::PipeConnected => pipe(event),
        };
        match fact {
            Ok(Some(fact)) => Outcome::Fact(Evidence { time: event.time, record_id: event.record_id, fact }),
            Ok(None) => Outcome::Irrelevant,
            Err(Missing) => Outcome::Incomplete,
        }
    }

    /// The shelf it stands on.
    pub fn shelf(&self) -> Shelf {
        match self.fact {
            Fact::Connection(_) => Shelf::Connection,
            Fact::FileWrite(_) => Shelf::FileWrite,
            Fact::ProcessStart(_) => Shelf::ProcessStart,
            Fact::ServiceSet(_) => Shelf::ServiceSet,
            Fact::Pipe(_) => Shelf::Pipe,
        }
    }

    /// Whether a chain would join both to the same things.
    pub fn joins_like(&self, other: &Evidence) -> bool {
        match (&self.fact, &other.fact) {
            (Fact::Connection(a), Fact::Connection(b)) => a.remote == b.remote,
            (Fact::FileWrite(a), Fact::FileWrite(b)) => a.key == b.key && (a.writer == Writer::System) == (b.writer == Writer::System),
            (Fact::ProcessStart(a), Fact::ProcessStart(b)) => match (&a.entity_id, &b.entity_id) {
                (Some(a), Some(b)) => a == b,
                _ => a.key == b.key && self.record_id == other.record_id,
            },
            (Fact::ServiceSet(a), Fact::ServiceSet(b)) => a.service.eq_ignore_ascii_case(&b.service) && a.command == b.command,
            (Fact::Pipe(a), Fact::Pipe(b)) => a.key == b.key && a.entity_id == b.entity_id,
            _ => false,
        }
    }

    /// How much it is worth when room is short; the larger, the longer it stays.
    pub fn value(&self) -> u8 {
        match &self.fact {
            Fact::Connection(_) => 0,
            Fact::FileWrite(file) => match (&file.writer, PROGRAMS.contains(&file.key.extension())) {
                (Writer::System, true) => 4,
                (_, true) => 2,
                (_, false) => 1,
            },
            Fact::Pipe(_) => 3,
            Fact::ServiceSet(_) => 4,
            Fact::ProcessStart(_) => 5,
        }
    }

    /// Roughly the memory it takes, in bytes, the allocator's overhead included.
    pub fn bytes(&self) -> usize {
        let text = |text: &str| text.len().saturating_add(ALLOCATION);
        let option = |value: &Option<Box<str>>| value.as_deref().map_or(0, text);
        let more = match &self.fact {
            Fact::Connection(_) => 0,
            Fact::FileWrite(file) => {
                let writer = if let Writer::Process(image) = &file.writer { text(image) } else { 0 };
                text(&file.path).saturating_add(text(file.key.as_str())).saturating_add(writer)
            }
            Fact::ProcessStart(start) => [
                size_of::<ProcessStart>(),
                text(&start.image),
                text(start.key.as_str()),
                option(&start.command_line),
                option(&start.entity_id),
                option(&start.user),
                option(&start.original_file_name),
                option(&start.hashes),
                option(&start.parent_image),
                option(&start.parent_entity_id),
            ]
            .into_iter()
            .fold(0, usize::saturating_add),
            Fact::ServiceSet(set) => text(&set.service).saturating_add(text(&set.command)).saturating_add(text(set.program.as_str())),
            Fact::Pipe(pipe) => text(&pipe.name)
                .saturating_add(text(&pipe.key))
                .saturating_add(text(pipe.image.as_str()))
                .saturating_add(option(&pipe.entity_id)),
        };
        size_of::<Evidence>().saturating_add(ALLOCATION).saturating_add(more)
    }
}

/// What dlmalloc adds to an allocation: its header, and up to 15 bytes of rounding.
pub const ALLOCATION: usize = 20;

/// The addresses a host is known to have: the near side of its own connections. The latest four.
#[derive(Debug, Default)]
pub struct OwnAddresses {
    known: [Option<IpAddr>; 4],
    next: u8,
}

impl OwnAddresses {
    /// Whether the host has this address.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.known.contains(&Some(ip))
    }

    /// Learns from an event in which the near side is certain: an outbound connection, whose source it is.
    pub fn learn(&mut self, event: &Event<'_>) {
        if event.kind != Kind::NetworkConnect || event.fields.truth(Field::Initiated) != Some(true) {
            return;
        }
        let Some(ip) = event.fields.address(Field::SourceIp).filter(|ip| address::is_remote(*ip)) else { return };
        if self.contains(ip) {
            return;
        }
        let slot = usize::from(self.next).checked_rem(self.known.len()).unwrap_or_default();
        if let Some(place) = self.known.get_mut(slot) {
            *place = Some(ip);
        }
        self.next = self.next.wrapping_add(1);
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

fn entity_id(event: &Event<'_>, field: Field) -> Option<Box<str>> {
    guid::normalize(&event.fields.text(field)?).map(Into::into)
}

fn port(event: &Event<'_>, field: Field) -> Option<u16> {
    u16::try_from(event.fields.number(field)?).ok()
}

fn connection(event: &Event<'_>, own: &OwnAddresses, policy: &ConnectionPolicy) -> Found {
    let fields = event.fields;
    match fields.truth(Field::Initiated) {
        Some(true) => return Ok(None),
        Some(false) => {}
        None => return Err(Missing),
    }
    if fields.text(Field::Protocol).is_some_and(|protocol| protocol.eq_ignore_ascii_case("udp")) {
        return Ok(None);
    }
    let source = (fields.address(Field::SourceIp).ok_or(Missing)?, port(event, Field::SourcePort).ok_or(Missing)?);
    let destination = (fields.address(Field::DestinationIp).ok_or(Missing)?, port(event, Field::DestinationPort).ok_or(Missing)?);
    // Before about 2020 Sysmon wrote the local side of inbound connections as the source. The service port tells the
    // sides apart; where none is a service port, the host's own address does; else the new order is assumed.
    let service = |port: u16| policy.ports.contains(&port);
    let swapped = match (service(source.1), service(destination.1)) {
        (true, false) => true,
        (false, false) => own.contains(source.0) && !own.contains(destination.0),
        _ => false,
    };
    let (remote, local) = if swapped { (destination, source) } else { (source, destination) };
    let from_elsewhere = address::is_remote(remote.0) && remote.0 != local.0 && !own.contains(remote.0);
    let dynamic = || {
        local.1 >= policy.dynamic_from
            && fields.text(Field::Image).is_some_and(|image| {
                let image = PathKey::new(&image);
                policy.dynamic_programs.iter().any(|program| program == image.file_name())
            })
    };
    if !from_elsewhere || !(service(local.1) || dynamic()) {
        return Ok(None);
    }
    Ok(Some(Fact::Connection(Connection { remote: remote.0, remote_port: Some(remote.1), local_port: local.1 })))
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

fn process_start(event: &Event<'_>) -> Found {
    let image = required(event, Field::Image)?;
    let parent_image = optional(event, Field::ParentImage).filter(|image| &**image != "?");
    let parent_key = parent_image.as_deref().map(PathKey::new);
    let parent = match &parent_key {
        None => Parent::Unknown,
        Some(key) if key.matches(&PathKey::new(r"%SystemRoot%\System32\services.exe")) => Parent::Services,
        Some(_) => Parent::Other,
    };
    if parent == Parent::Other {
        return Ok(None);
    }
    Ok(Some(Fact::ProcessStart(Box::new(ProcessStart {
        key: PathKey::new(&image),
        image,
        command_line: optional(event, Field::CommandLine),
        entity_id: entity_id(event, Field::ProcessGuid),
        user: optional(event, Field::User),
        original_file_name: optional(event, Field::OriginalFileName),
        hashes: optional(event, Field::Hashes),
        parent,
        parent_image,
        parent_entity_id: entity_id(event, Field::ParentProcessGuid),
    }))))
}

/// Services stand under `HKLM\System\CurrentControlSet\Services\` or, in old Sysmon, `\REGISTRY\MACHINE\…\services\`.
const SERVICES: &str = r"\services\";

/// The value that names a service's program.
const IMAGE_PATH: &str = r"\imagepath";

fn service_set(event: &Event<'_>) -> Found {
    let target = required(event, Field::TargetObject)?;
    // ASCII folding keeps offsets: the name is shown as it was written.
    let folded = target.to_ascii_lowercase();
    let Some(at) = folded.find(SERVICES).map(|at| at.saturating_add(SERVICES.len())) else { return Ok(None) };
    let end = target.len().saturating_sub(IMAGE_PATH.len());
    if !folded.ends_with(IMAGE_PATH) {
        return Ok(None);
    }
    let Some(service) = target.get(at..end).filter(|service| !service.contains('\\')) else { return Ok(None) };
    let command = required(event, Field::Details)?;
    Ok(Some(Fact::ServiceSet(ServiceSet { service: service.into(), program: path::program(&command), command })))
}

fn pipe(event: &Event<'_>) -> Found {
    let name = required(event, Field::PipeName)?;
    let key = name.trim_start_matches('\\').to_lowercase().into();
    let image = PathKey::new(&event.fields.text(Field::Image).unwrap_or_default());
    Ok(Some(Fact::Pipe(Pipe { name, key, image, entity_id: entity_id(event, Field::ProcessGuid) })))
}
