//! Files written: Sysmon events 11 (any file) and 29 (an executable, whatever its name).

use super::{
    Context, Event, EventPrefilter, Evidence, EvidenceKind, Evident, Fact, Field, Fields, Found,
    KindInfo, Known, Named, Needs, optional, required, sum, text_bytes,
};
use crate::normalize::path::PathKey;
use crate::normalize::time::Timestamp;
use crate::record::Suffixes;
use once_cell::unsync::OnceCell;
use serde::{Deserialize, Serialize};

/// A file that was written.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct FileWrite {
    /// Path as it was logged.
    pub path: Box<str>,
    /// Path for joining.
    pub key: PathKey,
    /// Who wrote it.
    pub writer: Writer,
    /// Whether it is an executable whatever its name: event 29 says so, or it was run.
    #[serde(default)]
    pub is_executable: bool,
    /// The [`PathKey::stem_hash`] of its path; worked out when first asked for.
    #[serde(skip)]
    stem: OnceCell<Option<u64>>,
}

/// Who wrote a file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum Writer {
    /// The kernel's SMB server writes as `System`: the file came over the network (or through a loopback share).
    System,
    /// A process of the host itself, by its image.
    Process(Box<str>),
    /// The event names no process.
    Unknown,
}

/// Sysmon's event of a written file that is an executable, by what is in it.
const FILE_EXECUTABLE: u32 = 29;

/// Storage of files.
pub const KIND: KindInfo = KindInfo::shared(12, 4);

/// Extensions of files that Windows runs as programs. A file that came over SMB is kept whatever its name.
const PROGRAMS: [&str; 5] = ["exe", "com", "scr", "dll", "pif"];

/// Suffixes of paths of programs: their extensions, and what can follow an extension without changing which file is meant
/// (see [`PathKey`]).
const PROGRAM_SUFFIXES: [&str; 9] = ["exe", "com", "scr", "dll", "pif", ".", " ", "\"", "$data"];

impl FileWrite {
    /// A file that was written to `path`, as it was logged.
    pub fn new(path: Box<str>, writer: Writer, is_executable: bool) -> FileWrite {
        FileWrite {
            key: PathKey::new(&path),
            path,
            writer,
            is_executable,
            stem: OnceCell::new(),
        }
    }

    fn is_program(&self) -> bool {
        self.is_executable || PROGRAMS.contains(&self.key.extension())
    }

    /// The evidence that a file came over SMB at `time`, by this event, and was run, when nothing else of it is known any more.
    pub fn recalled(path: &str, key: &PathKey, time: Timestamp, event_id: u32) -> Evidence {
        Evidence {
            time,
            record_id: None,
            event_id,
            fact: Fact::FileWrite(FileWrite {
                path: path.into(),
                key: key.clone(),
                writer: Writer::System,
                is_executable: true,
                stem: OnceCell::new(),
            }),
        }
    }

    /// Whether it may be the file that a word of a command names, by its name alone. Each file is compared with all words of all
    /// commands near by, and most differ here: in a flood this is a third of the time (11 files, 8 commands, then logons).
    pub fn may_be(&self, named: &Named) -> bool {
        let own = *self.stem.get_or_init(|| self.key.stem_hash());
        own.is_none() || named.stem.is_none() || own == named.stem
    }

    /// Whether it came over SMB.
    pub fn is_over_smb(&self) -> bool {
        self.writer == Writer::System
    }
}

impl Evident for FileWrite {
    fn kind(&self) -> EvidenceKind {
        EvidenceKind::FileWrite
    }

    fn joins_like(&self, other: &Self, _: bool) -> bool {
        self.key == other.key && self.is_over_smb() == other.is_over_smb()
    }

    fn worth(&self) -> u8 {
        match (&self.writer, self.is_program()) {
            (Writer::System, true) => 4,
            (_, true) => 2,
            (_, false) => 1,
        }
    }

    fn heap_bytes(&self) -> usize {
        let writer = match &self.writer {
            Writer::Process(image) => text_bytes(image),
            Writer::System | Writer::Unknown => 0,
        };
        sum([
            text_bytes(&self.path),
            text_bytes(self.key.as_str()),
            writer,
        ])
    }

    fn summary(&self) -> String {
        let writer = match &self.writer {
            Writer::System => "System (over SMB)",
            Writer::Process(image) => image,
            Writer::Unknown => "an unknown process",
        };
        format!("{writer} wrote {}", self.path)
    }
}

/// Rejects files of event 11 that did not come over SMB and are not programs.
pub struct Prefilter {
    system: Suffixes,
    programs: Suffixes,
}

impl EventPrefilter for Prefilter {
    const KINDS: &'static [EvidenceKind] = &[EvidenceKind::FileWrite];

    const FIELDS: u64 = Field::Image.bit() | Field::TargetFilename.bit();

    fn new(_: &Needs) -> Prefilter {
        Prefilter {
            system: Suffixes::new(&["system"]),
            programs: Suffixes::new(&PROGRAM_SUFFIXES),
        }
    }

    fn rejects(&self, so_far: &Fields<'_>, _: &Known<'_>) -> bool {
        so_far.event_id() != Some(FILE_EXECUTABLE)
            && so_far.ends_with_none_of(Field::Image, &self.system)
            && so_far.ends_with_none_of(Field::TargetFilename, &self.programs)
    }
}

/// Reads a file that came over SMB, or a program.
pub(super) fn read(event: &Event<'_>, _: &Context<'_>) -> Found {
    let path = required(event, Field::TargetFilename)?;
    let writer = match optional(event, Field::Image) {
        Some(image) if image.eq_ignore_ascii_case("System") => Writer::System,
        Some(image) => Writer::Process(image),
        None => Writer::Unknown,
    };
    let file = FileWrite::new(path, writer, event.id == FILE_EXECUTABLE);
    if !file.is_over_smb() && !file.is_program() {
        return Ok(None);
    }
    Ok(Some(Fact::FileWrite(file)))
}
