//! Inbound connections from other machines, and connections of a program to its own machine's shares: Sysmon event 3.

use super::{
    Context, Event, EventPrefilter, EvidenceKind, Evident, Fact, Field, Fields, Found, KindInfo,
    Known, Missing, Needs, optional_bytes, process_guid, sum, text_bytes,
};
use crate::normalize::address;
use crate::normalize::path::PathKey;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr};

/// A connection. Its sides are normalized, whichever way round Sysmon wrote them. Also one of a program of the host to the host's own
/// shares, as PsExec makes when it is used on the machine itself: its remote address is then a loopback address.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Connection {
    /// Address of the other machine.
    pub remote: IpAddr,
    /// Port of the other machine.
    pub remote_port: Option<u16>,
    /// Port on the host that was connected to.
    pub local_port: u16,
    /// File name of the program that listens there, in lower case; of the program that connected, if that is one of the host.
    pub program: Box<str>,
    /// ProcessGuid of that program, normalized.
    pub process_guid: Option<Box<str>>,
}

/// There are many connections, and each is worth little: they have the largest share and are evicted first.
pub const KIND: KindInfo = KindInfo::shared(16, 0);

impl Connection {
    /// Whether it is a connection of the host to itself.
    pub fn is_to_itself(&self) -> bool {
        self.remote.is_loopback()
    }
}

impl Evident for Connection {
    fn kind(&self) -> EvidenceKind {
        if self.is_to_itself() {
            EvidenceKind::SelfConnection
        } else {
            EvidenceKind::Connection
        }
    }

    fn joins_like(&self, other: &Self, _: bool) -> bool {
        self.remote == other.remote
            && self.program == other.program
            && self.process_guid == other.process_guid
    }

    fn worth(&self) -> u8 {
        0
    }

    fn heap_bytes(&self) -> usize {
        sum([
            text_bytes(&self.program),
            optional_bytes(&self.process_guid),
        ])
    }

    fn summary(&self) -> String {
        if self.is_to_itself() {
            return format!("{} connected to this machine's own shares", self.program);
        }
        format!("{} connected to port {}", self.remote, self.local_port)
    }
}

/// Storage of connections to itself.
pub const SELF: KindInfo = KindInfo::shared(1, 0);

/// Rejects outbound connections that show no new address of the host and do not go to its own shares, and UDP.
pub struct Prefilter;

impl EventPrefilter for Prefilter {
    const KINDS: &'static [EvidenceKind] =
        &[EvidenceKind::Connection, EvidenceKind::SelfConnection];

    const FIELDS: u64 = Field::Protocol.bit()
        | Field::Initiated.bit()
        | Field::SourceIp.bit()
        | Field::DestinationPort.bit()
        | Field::Computer.bit();

    fn new(_: &Needs) -> Prefilter {
        Prefilter
    }

    fn rejects(&self, so_far: &Fields<'_>, known: &Known<'_>) -> bool {
        match so_far.truth(Field::Initiated) {
            Some(true) => {
                let is_to_share = so_far.port(Field::DestinationPort).is_none_or(is_smb);
                let source = so_far.address(Field::SourceIp);
                let is_known = |ip| !address::is_remote(ip) || (known.owns)(ip);
                !is_to_share && source.is_some_and(is_known)
            }
            Some(false) => is_udp(so_far),
            None => false,
        }
    }
}

fn is_udp(fields: &Fields<'_>) -> bool {
    // Nearly all are TCP, which takes fewer steps to recognize.
    !fields.is(Field::Protocol, "tcp")
        && fields
            .text(Field::Protocol)
            .is_some_and(|protocol| protocol.eq_ignore_ascii_case("udp"))
}

fn is_smb(port: u16) -> bool {
    matches!(port, 139 | 445)
}

/// The connection of a named program to the host's own shares. The kernel's own connections (`System`) are not: it connects for
/// whoever uses a path, even for the output of a command that came from elsewhere.
fn to_itself(event: &Event<'_>, context: &Context<'_>) -> Option<Fact> {
    let fields = event.fields;
    let destination = fields.address(Field::DestinationIp)?;
    let is_self = !address::is_remote(destination)
        || context.own.contains(destination)
        || fields.address(Field::SourceIp) == Some(destination);
    let program = PathKey::new(&fields.text(Field::Image)?);
    let program = program.file_name();
    let local_port = fields
        .port(Field::DestinationPort)
        .filter(|port| is_smb(*port))?;
    if !is_self || program == "system" {
        return None;
    }
    Some(Fact::Connection(Connection {
        remote: IpAddr::V4(Ipv4Addr::LOCALHOST),
        remote_port: None,
        local_port,
        program: program.into(),
        process_guid: process_guid(event, Field::ProcessGuid),
    }))
}

/// Whether this is the program that listens on a service port in every Windows: the kernel for SMB, a service host for RPC.
fn listens_on(program: &str, port: u16) -> bool {
    match port {
        139 | 445 => program == "system",
        135 => program == "svchost.exe",
        _ => false,
    }
}

/// Reads an inbound TCP connection from another machine to a port that counts.
pub(super) fn read(event: &Event<'_>, context: &Context<'_>) -> Found {
    let (fields, own, needs) = (event.fields, context.own, context.needs);
    match fields.truth(Field::Initiated) {
        Some(true) => return Ok(to_itself(event, context)),
        Some(false) => {}
        None => return Err(Missing),
    }
    if is_udp(fields) {
        return Ok(None);
    }
    let side = |ip, port| Some((fields.address(ip)?, fields.port(port)?));
    let source = side(Field::SourceIp, Field::SourcePort).ok_or(Missing)?;
    let destination = side(Field::DestinationIp, Field::DestinationPort).ok_or(Missing)?;
    // Before about 2020 Sysmon wrote the local side of inbound connections as the source. The port of the other machine is that
    // machine's to choose, so a port alone shows nothing: the sides are swapped if the program is the one that listens on that port,
    // or if one side is known to be the host's own address.
    let image = fields.text(Field::Image);
    let program = image.map(|image| PathKey::new(&image).file_name().to_owned());
    let program = program.unwrap_or_default();
    let is_service = |port: u16| needs.connection.is_service_port(port);
    let is_swapped = match (own.contains(source.0), own.contains(destination.0)) {
        (true, false) => true,
        (false, true) => false,
        _ => listens_on(&program, source.1) && !is_service(destination.1),
    };
    let (remote, local) = if is_swapped {
        (destination, source)
    } else {
        (source, destination)
    };
    let is_from_elsewhere =
        address::is_remote(remote.0) && remote.0 != local.0 && !own.contains(remote.0);
    let is_to_service = is_service(local.1);
    if !is_from_elsewhere || !(is_to_service || needs.connection.is_dynamic_port(local.1)) {
        return Ok(None);
    }
    if !is_to_service && !needs.listens(&program) {
        return Ok(None);
    }
    Ok(Some(Fact::Connection(Connection {
        remote: remote.0,
        remote_port: Some(remote.1),
        local_port: local.1,
        program: program.into(),
        process_guid: process_guid(event, Field::ProcessGuid),
    })))
}
