//! Evidence: the facts that are remembered and joined, read from events. One file an event kind.
//!
//! A kind's file holds its fact, how the fact is read from an event, when an event can be rejected before it is read to its
//! end, its share of a host's room, and what an alert says of it. The three tables below are the only other places that name a
//! kind; `docs/adding-an-event.md` walks through them. Nothing here knows JSON, and nothing here knows techniques: what they
//! need of events comes in as [`Needs`].

pub mod connection;
pub mod file_write;
pub mod kind_info;
pub mod logoff;
pub mod logon;
pub mod needs;
pub mod own_addresses;
pub mod pipe;
pub mod privileges;
pub mod process_start;
pub mod service;
pub mod tracked;

pub use connection::Connection;
pub use file_write::{FileWrite, Writer};
pub use kind_info::{KindInfo, Related, Room};
pub use logoff::Logoff;
pub use logon::Logon;
pub use needs::Needs;
pub use own_addresses::OwnAddresses;
pub use pipe::Pipe;
pub use privileges::Privileges;
pub use process_start::{Named, Parent, ProcessStart};
pub use service::{Change, Mark, ServiceMark, ServiceSet};
pub use tracked::TrackedProcesses;

use crate::event::{Event, Provider};
use crate::normalize::guid;
use crate::normalize::time::Timestamp;
use crate::record::Field;
use crate::record::Fields;
use serde::{Deserialize, Deserializer, Serialize};
use std::net::IpAddr;

/// Declares the facts: for each its variant and its type.
macro_rules! facts {
    ($($(#[$doc:meta])* $variant:ident($type:ty),)*) => {
        /// What happened.
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        pub enum Fact {
            $($(#[$doc])* #[serde(deserialize_with = "apart")] $variant($type),)*
        }

        impl Fact {
            /// The kind that it is stored as.
            pub fn kind(&self) -> EvidenceKind {
                match self { $(Fact::$variant(fact) => fact.kind(),)* }
            }

            /// How much it is worth when room is short; the larger, the longer it stays. At most 255.
            pub fn worth(&self) -> u8 {
                match self { $(Fact::$variant(fact) => fact.worth(),)* }
            }

            fn heap_bytes(&self) -> usize {
                match self { $(Fact::$variant(fact) => fact.heap_bytes(),)* }
            }

            fn joins_like(&self, other: &Fact, is_same_record: bool) -> bool {
                match (self, other) {
                    $((Fact::$variant(a), Fact::$variant(b)) => a.joins_like(b, is_same_record),)*
                    _ => false,
                }
            }

            /// What an alert says of it, in one line.
            pub fn summary(&self) -> String {
                match self { $(Fact::$variant(fact) => fact.summary(),)* }
            }

            /// The normalized ProcessGuid of the process that it identifies, if it does.
            pub fn process_guid(&self) -> Option<&str> {
                match self { $(Fact::$variant(fact) => fact.process_guid(),)* }
            }

            fn label(&self) -> &str {
                match self { $(Fact::$variant(fact) => fact.label(),)* }
            }

            /// Takes in what related evidence says about this fact, see [`KindInfo::related`].
            pub fn relate(&self, other: &Fact) {
                match self { $(Fact::$variant(fact) => fact.relate(other),)* }
            }
        }
    };
}

facts! {
    /// An inbound connection from another machine.
    Connection(Connection),
    /// A file was written.
    FileWrite(FileWrite),
    /// A process was started.
    ProcessStart(Box<ProcessStart>),
    /// A service's program was set in the registry.
    ServiceSet(ServiceSet),
    /// Another value of a service was set, which shows what was done to the service.
    ServiceMark(ServiceMark),
    /// A named pipe was made or connected to.
    Pipe(Pipe),
    /// Somebody logged on over the network.
    Logon(Box<Logon>),
    /// A logon session has the rights of an administrator.
    Privileges(Privileges),
    /// A logon session ended.
    Logoff(Logoff),
}

/// Reads a fact from a snapshot in a function of its own: together all of them would take too much of the interpreter's stack.
#[inline(never)]
fn apart<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::deserialize(deserializer)
}

/// Declares which events are read, by which file of this folder.
macro_rules! events {
    ($($module:ident: $($provider:ident $id:literal),+;)*) => {
        /// The provider whose events of this id are read; `None` for other ids.
        pub fn provider_of(event_id: u32) -> Option<Provider> {
            match event_id {
                $($($id => Some(Provider::$provider),)+)*
                _ => None,
            }
        }

        /// The ids of all events that are read, each with the kinds of evidence that can come of it.
        pub const EVENT_IDS: &[(u32, &[EvidenceKind])] = &[$($(($id, $module::Prefilter::KINDS),)+)*];

        /// The early rejection of every event kind, prepared for what the techniques in use need.
        pub struct Prefilters {
            $($module: $module::Prefilter,)*
        }

        impl Prefilters {
            /// Prepares all of them.
            pub fn new(needs: &Needs) -> Prefilters {
                Prefilters { $($module: $module::Prefilter::new(needs),)* }
            }

            /// The [set](Field::bit) of fields by which, together, [`Prefilters::rejects`] can reject an event of this id.
            pub fn fields(event_id: u32) -> u64 {
                match event_id {
                    $($($id => $module::Prefilter::FIELDS,)+)*
                    _ => 0,
                }
            }

            /// Whether the fields known so far already show that an event of this id is [irrelevant](Reading::Irrelevant).
            /// `false` when in doubt.
            pub fn rejects(&self, event_id: u32, so_far: &Fields<'_>, known: &Known<'_>) -> bool {
                match event_id {
                    $($($id => self.$module.rejects(so_far, known),)+)*
                    _ => false,
                }
            }
        }

        fn read_fact(event: &Event<'_>, context: &Context<'_>) -> Found {
            match event.id {
                $($($id => $module::read(event, context),)+)*
                _ => Ok(None),
            }
        }
    };
}

events! {
    process_start: Sysmon 1;
    connection: Sysmon 3;
    file_write: Sysmon 11, Sysmon 29;
    service: Sysmon 13;
    pipe: Sysmon 17, Sysmon 18;
    logon: Security 4624;
    logoff: Security 4634;
    privileges: Security 4672;
}

/// Declares the kinds of evidence that a host stores.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident: $info:expr,)*) => {
        /// The kinds of evidence. A host stores each with a share of its room, so that none can push out another.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum EvidenceKind {
            $($(#[$doc])* $kind,)*
        }

        impl EvidenceKind {
            /// All kinds.
            pub const ALL: &[EvidenceKind] = &[$(EvidenceKind::$kind,)*];

            /// How many kinds there are.
            pub const COUNT: usize = EvidenceKind::ALL.len();

            /// The sum of the shares of all kinds.
            #[allow(clippy::arithmetic_side_effects)] // evaluated by the compiler, which refuses an overflow
            pub const SHARES: usize = 0 $(+ EvidenceKind::$kind.info().share())*;

            /// How the kind is stored.
            pub const fn info(self) -> &'static KindInfo {
                match self { $(EvidenceKind::$kind => $info,)* }
            }
        }
    };
}

kinds! {
    /// Inbound connections.
    Connection: &connection::KIND,
    /// Connections of programs to their own machine's shares.
    SelfConnection: &connection::SELF,
    /// Files written.
    FileWrite: &file_write::KIND,
    /// Processes started by the service controller, or by an unknown parent.
    ProcessStart: &process_start::BY_SERVICES,
    /// Processes started by WMI, or by a program that can be controlled over DCOM.
    ComStart: &process_start::BY_COM,
    /// Processes started by a tracked process.
    Child: &process_start::BY_TRACKED,
    /// Programs of services.
    ServiceSet: &service::SET,
    /// Other values of services.
    ServiceMark: &service::MARK,
    /// Named pipes.
    Pipe: &pipe::KIND,
    /// Logons over the network, as long as their sessions last.
    Logon: &logon::KIND,
    /// Logon sessions with the rights of an administrator.
    Privileges: &privileges::KIND,
    /// Ends of logon sessions.
    Logoff: &logoff::KIND,
}

/// What every fact has to answer.
pub trait Evident {
    /// The kind that it is stored as.
    fn kind(&self) -> EvidenceKind;

    /// Whether a technique would join both to the same evidence. `is_same_record`: both were logged under one record id, or
    /// both without one.
    fn joins_like(&self, other: &Self, is_same_record: bool) -> bool;

    /// How much it is worth when room is short; the larger, the longer it stays.
    fn worth(&self) -> u8;

    /// Roughly the memory that it takes beside itself, in bytes, with the allocator's overhead.
    fn heap_bytes(&self) -> usize;

    /// What an alert says of it, in one line.
    fn summary(&self) -> String;

    /// The normalized ProcessGuid of the process that it identifies, if it does.
    fn process_guid(&self) -> Option<&str> {
        None
    }

    /// What identifies it beside its time, where it has neither ProcessGuid nor record id.
    fn label(&self) -> &str {
        ""
    }

    /// Takes in what related evidence says about it, see [`KindInfo::related`].
    fn relate(&self, _other: &Fact) {}
}

impl<T: Evident> Evident for Box<T> {
    fn kind(&self) -> EvidenceKind {
        (**self).kind()
    }

    fn joins_like(&self, other: &Self, is_same_record: bool) -> bool {
        (**self).joins_like(other, is_same_record)
    }

    fn worth(&self) -> u8 {
        (**self).worth()
    }

    fn heap_bytes(&self) -> usize {
        size_of::<T>().saturating_add((**self).heap_bytes())
    }

    fn summary(&self) -> String {
        (**self).summary()
    }

    fn process_guid(&self) -> Option<&str> {
        (**self).process_guid()
    }

    fn label(&self) -> &str {
        (**self).label()
    }

    fn relate(&self, other: &Fact) {
        (**self).relate(other);
    }
}

/// Rejects events before they are read to their end. One for each file of this folder.
pub trait EventPrefilter {
    /// The kinds of evidence that can come of the event.
    const KINDS: &'static [EvidenceKind];

    /// The [set](Field::bit) of fields by which, together, an event can be rejected.
    const FIELDS: u64;

    /// Prepares it for what the techniques in use need.
    fn new(needs: &Needs) -> Self;

    /// Whether the fields known so far already show that the event is irrelevant. `false` when in doubt.
    fn rejects(&self, so_far: &Fields<'_>, known: &Known<'_>) -> bool;
}

/// What is known while an event is still being read.
pub struct Known<'k> {
    /// The processes whose children are wanted.
    pub tracked: &'k TrackedProcesses,
    /// Whether the event's host is known to have an address.
    pub owns: &'k dyn Fn(IpAddr) -> bool,
}

/// What is known when a fact is read out of an event.
pub struct Context<'c> {
    /// The host's own addresses.
    pub own: &'c OwnAddresses,
    /// The processes whose children are wanted.
    pub tracked: &'c TrackedProcesses,
    /// What the techniques in use need.
    pub needs: &'c Needs,
}

/// One fact, with when and where it was logged.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// When it was logged.
    pub time: Timestamp,
    /// Its number in its channel on the host.
    pub record_id: Option<u64>,
    /// Id of the event that it was read from: one fact may come from several events.
    pub event_id: u32,
    /// What happened.
    pub fact: Fact,
}

/// What reading an event gives.
pub enum Reading {
    /// A fact.
    Evidence(Evidence),
    /// The event is complete, but no technique can use it.
    Irrelevant,
    /// The event lacks a field that its kind must have.
    Incomplete,
}

impl Evidence {
    /// Reads the fact out of an event.
    pub fn read(event: &Event<'_>, context: &Context<'_>) -> Reading {
        match read_fact(event, context) {
            Ok(Some(fact)) => Reading::Evidence(Evidence {
                time: event.time,
                record_id: event.record_id,
                event_id: event.id,
                fact,
            }),
            Ok(None) => Reading::Irrelevant,
            Err(Missing) => Reading::Incomplete,
        }
    }

    /// The kind that it is stored as.
    pub fn kind(&self) -> EvidenceKind {
        self.fact.kind()
    }

    /// Whether a technique would join both to the same evidence.
    pub fn joins_like(&self, other: &Evidence) -> bool {
        self.fact
            .joins_like(&other.fact, self.record_id == other.record_id)
    }

    /// Roughly the memory that it takes, in bytes, with the allocator's overhead.
    pub fn bytes(&self) -> usize {
        size_of::<Evidence>()
            .saturating_add(ALLOCATION)
            .saturating_add(self.fact.heap_bytes())
    }

    /// What identifies it on its host, the same after a restart or in a replay: its ProcessGuid, else its record id, else its
    /// time and label.
    pub fn identity(&self) -> String {
        if let Some(process_guid) = self.fact.process_guid() {
            return format!("entity:{process_guid}");
        }
        if let Some(record_id) = self.record_id {
            return format!("record:{record_id}");
        }
        format!("time:{}:{}", self.time.ms, self.fact.label())
    }
}

/// What dlmalloc adds to an allocation, in bytes: its header, and up to 15 bytes of rounding.
pub const ALLOCATION: usize = 20;

/// The memory of a text, in bytes.
fn text_bytes(text: &str) -> usize {
    text.len().saturating_add(ALLOCATION)
}

/// The memory of a text that may be absent, in bytes.
fn optional_bytes(text: &Option<Box<str>>) -> usize {
    text.as_deref().map_or(0, text_bytes)
}

/// The sum of sizes in bytes.
fn sum<const N: usize>(sizes: [usize; N]) -> usize {
    sizes.into_iter().fold(0, usize::saturating_add)
}

/// The event lacks a field that its kind must have.
struct Missing;

/// A fact, nothing that any technique can use, or an event that lacks a field.
type Found = Result<Option<Fact>, Missing>;

fn required(event: &Event<'_>, field: Field) -> Result<Box<str>, Missing> {
    event.fields.text(field).map(Into::into).ok_or(Missing)
}

fn optional(event: &Event<'_>, field: Field) -> Option<Box<str>> {
    event.fields.text(field).map(Into::into)
}

/// A ProcessGuid, normalized.
fn process_guid(event: &Event<'_>, field: Field) -> Option<Box<str>> {
    let raw = event.fields.raw_string(field);
    let normalized = match raw.and_then(guid::strip_braces) {
        Some(guid) => guid::normalize_bytes(guid),
        None => guid::normalize(&event.fields.text(field)?),
    };
    normalized.map(Into::into)
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
