//! Named pipes: Sysmon events 17 (made) and 18 (connected to).

use super::{
    Context, Event, EventPrefilter, EvidenceKind, Evident, Fact, Field, Fields, Found, KindInfo,
    Known, Needs, optional_bytes, process_guid, required, sum, text_bytes,
};
use crate::normalize::lower;
use crate::normalize::path::PathKey;
use crate::settings::wildcard::{ends_agree, wildcard};
use serde::{Deserialize, Serialize};

/// A pipe that was made or connected to.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Pipe {
    /// Name as it was logged.
    pub name: Box<str>,
    /// Name for matching: in lower case, without the leading backslash.
    pub key: Box<str>,
    /// Program that made it or connected to it.
    pub image: PathKey,
    /// ProcessGuid of that program, normalized.
    pub process_guid: Option<Box<str>>,
}

/// Storage of pipes.
pub const KIND: KindInfo = KindInfo::shared(3, 3);

impl Pipe {
    /// The machine that PsExec names in the pipe (`\\PSEXESVC-<HOST>-<pid>-stdin`, whatever its service is called).
    pub fn other_machine(&self) -> Option<&str> {
        let mut suffixes = ["-stdin", "-stdout", "-stderr"].iter();
        let stem = suffixes.find_map(|suffix| self.key.strip_suffix(suffix))?;
        let (stem, _pid) = stem.rsplit_once('-')?;
        let (_service, host) = stem.split_once('-')?;
        Some(host)
    }
}

impl Evident for Pipe {
    fn kind(&self) -> EvidenceKind {
        EvidenceKind::Pipe
    }

    fn joins_like(&self, other: &Self, _: bool) -> bool {
        self.key == other.key && self.process_guid == other.process_guid
    }

    fn worth(&self) -> u8 {
        3
    }

    fn heap_bytes(&self) -> usize {
        sum([
            text_bytes(&self.name),
            text_bytes(&self.key),
            text_bytes(self.image.as_str()),
            optional_bytes(&self.process_guid),
        ])
    }

    /// The program that made it is what it identifies: the same as the program's start does.
    fn process_guid(&self) -> Option<&str> {
        self.process_guid.as_deref()
    }

    fn summary(&self) -> String {
        format!("pipe {} was opened by {}", self.name, self.image.as_str())
    }
}

/// Rejects pipes whose name no technique is interested in.
pub struct Prefilter {
    patterns: Vec<String>,
}

impl EventPrefilter for Prefilter {
    const KINDS: &'static [EvidenceKind] = &[EvidenceKind::Pipe];

    const FIELDS: u64 = Field::PipeName.bit();

    fn new(needs: &Needs) -> Prefilter {
        Prefilter {
            patterns: needs.pipes.clone(),
        }
    }

    fn rejects(&self, so_far: &Fields<'_>, _: &Known<'_>) -> bool {
        let any = |is_match: &dyn Fn(&str) -> bool| self.patterns.iter().any(|text| is_match(text));
        // The first and last characters tell most names from the wanted ones.
        if let Some((first, last)) = so_far.first_and_last(Field::PipeName)
            && !any(&|pattern| ends_agree(pattern, Some(first), Some(last)))
        {
            return true;
        }
        let key = so_far.text(Field::PipeName).map(|name| key(&name));
        key.is_some_and(|key| !any(&|pattern| wildcard(pattern, &key)))
    }
}

/// A pipe's name for matching.
fn key(name: &str) -> String {
    lower(name.trim_start_matches('\\'))
}

/// Reads a pipe.
pub(super) fn read(event: &Event<'_>, _: &Context<'_>) -> Found {
    let name = required(event, Field::PipeName)?;
    let image = event.fields.text(Field::Image).unwrap_or_default();
    Ok(Some(Fact::Pipe(Pipe {
        key: key(&name).into(),
        name,
        image: PathKey::new(&image),
        process_guid: process_guid(event, Field::ProcessGuid),
    })))
}
