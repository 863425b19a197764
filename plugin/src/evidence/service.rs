//! Values of services in the registry: Sysmon event 13.
//!
//! Two facts come of it: the program that a service was given (`ImagePath`), and marks: other values, which show whether the
//! service was created, started in another way or deleted.

use super::{
    Context, Event, EventPrefilter, EvidenceKind, Evident, Fact, Field, Fields, Found, KindInfo,
    Known, Missing, Needs, Related, optional_bytes, sum, text_bytes,
};
use crate::normalize::cmd::{self, Shape};
use crate::normalize::path::{self, PathKey};
use crate::normalize::{command, lower_ascii};
use crate::record::MAX_TEXT;
use crate::record::Suffixes;
use once_cell::unsync::OnceCell;
use serde::{Deserialize, Serialize};
use std::cell::Cell;

/// A service's program was set.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceSet {
    /// Name of the service.
    pub service: Box<str>,
    /// Its `ImagePath` as it was logged.
    pub command: Box<str>,
    /// The whole command [normalized](command::normalize), where it was too long to be kept as it was logged.
    pub normalized: Option<Box<str>>,
    /// The program in the command.
    pub program: PathKey,
    /// The [shape](cmd::shape) of the whole command.
    pub shape: Shape,
    /// The marks of the service that were logged beside it so far, as a set of bits.
    marks: Cell<u8>,
    /// The command as a pattern for the command line of its process; worked out when first asked for, see `chain::service`.
    #[serde(skip)]
    pub pattern: OnceCell<Box<str>>,
}

/// How a service got its command, by the values that were written beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Only the command was written: the service existed before, or the other values were not logged.
    Changed,
    /// Some of what CreateService writes was written with it. ChangeServiceConfig may write that, too.
    PerhapsCreated,
    /// `Type`, `Start` and `ObjectName` were written with it: the service is new.
    Created,
}

/// Another value of a service was set.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceMark {
    /// Name of the service.
    pub service: Box<str>,
    /// What the value shows.
    pub mark: Mark,
}

/// What a value of a service shows about what was done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mark {
    /// `Type`, of a service that has a program
    Type,
    /// `Type`, of a driver
    Driver,
    /// `Start`, but not that the service is disabled.
    Start,
    /// `ObjectName`: the account.
    ObjectName,
    /// `DisplayName`
    DisplayName,
    /// `DeleteFlag`, or `Start` set to disabled, as DeleteService does.
    Deleted,
}

/// Storage of programs of services. Marks logged near by show whether the service is new.
pub const SET: KindInfo = KindInfo {
    related: Some(Related {
        kind: EvidenceKind::ServiceMark,
        within: |windows| windows.service_created.0,
    }),
    ..KindInfo::shared(8, 6)
};

/// Storage of marks.
pub const MARK: KindInfo = KindInfo {
    related: Some(Related {
        kind: EvidenceKind::ServiceSet,
        within: |windows| windows.service_created.0,
    }),
    ..KindInfo::shared(6, 5)
};

impl ServiceSet {
    /// Whether this is the service of that name.
    pub fn is_service(&self, name: &str) -> bool {
        self.service.eq_ignore_ascii_case(name)
    }

    /// How the service got its command, as far as the marks seen so far show it.
    pub fn change(&self) -> Change {
        const CREATED: u8 = Mark::Type.bit() | Mark::Start.bit() | Mark::ObjectName.bit();
        match self.marks.get() {
            0 => Change::Changed,
            marks if marks & CREATED == CREATED => Change::Created,
            _ => Change::PerhapsCreated,
        }
    }

    /// Whether it is a driver, which the kernel loads: the service controller starts no program for it. Where `Type` was not logged,
    /// by the extension that drivers have.
    pub fn is_driver(&self) -> bool {
        let marks = self.marks.get();
        let is_known = marks & Mark::Type.bit() != 0;
        marks & Mark::Driver.bit() == Mark::Driver.bit()
            || !is_known && self.program.extension() == "sys"
    }

    /// Takes in what a mark of the same service shows. It is kept in the fact, because marks need not be remembered as long.
    fn learn(&self, mark: &ServiceMark) {
        if self.is_service(&mark.service) {
            self.marks.set(self.marks.get() | mark.mark.bit());
        }
    }
}

impl Mark {
    /// The mark as a set; the mark of deletion is no part of a creation.
    const fn bit(self) -> u8 {
        match self {
            Mark::Type => 1,
            Mark::Start => 2,
            Mark::ObjectName => 4,
            Mark::DisplayName => 8,
            Mark::Driver => 16 | Mark::Type.bit(),
            Mark::Deleted => 0,
        }
    }
}

impl Evident for ServiceSet {
    fn kind(&self) -> EvidenceKind {
        EvidenceKind::ServiceSet
    }

    fn joins_like(&self, other: &Self, _: bool) -> bool {
        self.is_service(&other.service) && self.command == other.command
    }

    fn worth(&self) -> u8 {
        4
    }

    fn heap_bytes(&self) -> usize {
        // The command as it was logged, and as a pattern.
        let command = sum([text_bytes(&self.command), optional_bytes(&self.normalized)]);
        sum([
            text_bytes(&self.service),
            command,
            command,
            text_bytes(self.program.as_str()),
        ])
    }

    fn summary(&self) -> String {
        format!("service {} was set to {}", self.service, self.command)
    }

    fn label(&self) -> &str {
        &self.service
    }

    fn relate(&self, other: &Fact) {
        if let Fact::ServiceMark(mark) = other {
            self.learn(mark);
        }
    }
}

impl Evident for ServiceMark {
    fn kind(&self) -> EvidenceKind {
        EvidenceKind::ServiceMark
    }

    fn joins_like(&self, other: &Self, _: bool) -> bool {
        self.mark == other.mark && self.service.eq_ignore_ascii_case(&other.service)
    }

    fn worth(&self) -> u8 {
        4
    }

    fn heap_bytes(&self) -> usize {
        text_bytes(&self.service)
    }

    fn summary(&self) -> String {
        format!("service {}: {:?}", self.service, self.mark)
    }

    fn relate(&self, other: &Fact) {
        if let Fact::ServiceSet(set) = other {
            set.learn(self);
        }
    }
}

/// Suffixes of the `TargetObject` of values that matter.
const SERVICE_VALUES: [&str; 6] = [
    "\\imagepath",
    "\\start",
    "\\type",
    "\\objectname",
    "\\displayname",
    "\\deleteflag",
];

/// Rejects other values of the registry.
pub struct Prefilter {
    values: Suffixes,
}

impl EventPrefilter for Prefilter {
    const KINDS: &'static [EvidenceKind] = &[EvidenceKind::ServiceSet, EvidenceKind::ServiceMark];

    const FIELDS: u64 = Field::TargetObject.bit();

    fn new(_: &Needs) -> Prefilter {
        Prefilter {
            values: Suffixes::new(&SERVICE_VALUES),
        }
    }

    fn rejects(&self, so_far: &Fields<'_>, _: &Known<'_>) -> bool {
        so_far.ends_with_none_of(Field::TargetObject, &self.values)
    }
}

/// Services are under `HKLM\System\CurrentControlSet\Services\` or, in old Sysmon, `\REGISTRY\MACHINE\…\services\`.
const SERVICES: &str = r"\services\";

/// Reads a value of a service.
pub(super) fn read(event: &Event<'_>, _: &Context<'_>) -> Found {
    let target = event.fields.text(Field::TargetObject).ok_or(Missing)?;
    // Lower case in ASCII keeps offsets: the name is shown as it was written.
    let lower_case = lower_ascii(&target);
    let mut values = SERVICE_VALUES.iter();
    let Some((value, key)) =
        values.find_map(|value| Some((value, lower_case.strip_suffix(value)?)))
    else {
        return Ok(None);
    };
    let above = key.get(..path::name_start(key)).unwrap_or_default();
    // Keys below a service may have one of these values, too; they are not services.
    if above
        .find(SERVICES)
        .map(|at| at.saturating_add(SERVICES.len()))
        != Some(above.len())
    {
        return Ok(None);
    }
    let service = target.get(above.len()..key.len()).unwrap_or_default();
    if service.is_empty() {
        return Ok(None);
    }
    let mark = match *value {
        "\\imagepath" => return read_command(event, service),
        "\\deleteflag" => Mark::Deleted,
        "\\start" if number(event)? == Some(DISABLED) => Mark::Deleted,
        "\\start" => Mark::Start,
        "\\type" if number(event)?.is_some_and(is_driver) => Mark::Driver,
        "\\type" => Mark::Type,
        "\\objectname" => Mark::ObjectName,
        _ => Mark::DisplayName,
    };
    Ok(Some(Fact::ServiceMark(ServiceMark {
        service: service.into(),
        mark,
    })))
}

fn read_command(event: &Event<'_>, service: &str) -> Found {
    let (command, long) = super::process_start::line(event, Field::Details).ok_or(Missing)?;
    let shape = cmd::shape(long.as_deref().unwrap_or(&command));
    Ok(Some(Fact::ServiceSet(ServiceSet {
        shape,
        service: service.into(),
        program: path::program(&command),
        normalized: long.map(|long| command::normalize(&long, MAX_TEXT).into()),
        command: command.into(),
        marks: Cell::new(0),
        pattern: OnceCell::new(),
    })))
}

/// SERVICE_DISABLED, which DeleteService writes to `Start` first.
const DISABLED: u32 = 4;

/// Whether a service of this `Type` is a driver: SERVICE_KERNEL_DRIVER, SERVICE_FILE_SYSTEM_DRIVER, SERVICE_ADAPTER or
/// SERVICE_RECOGNIZER_DRIVER.
fn is_driver(service_type: u32) -> bool {
    matches!(service_type, 1 | 2 | 4 | 8)
}

/// The number that a value was set to: `DWORD (0x00000004)`, or the number alone as Elastic writes it. `None` for anything else.
fn number(event: &Event<'_>) -> Result<Option<u32>, Missing> {
    let details = event.fields.text(Field::Details).ok_or(Missing)?;
    let inner = details
        .strip_prefix("DWORD (")
        .and_then(|rest| rest.strip_suffix(')'));
    let number = inner.unwrap_or(&details);
    Ok(match number.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => number.parse().ok(),
    })
}
