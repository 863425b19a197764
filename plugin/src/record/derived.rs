//! Values that some producers keep in parts, or under the name of another field.

use super::fields::{Fields, MAX_TEXT};
use super::producers::Field;
use std::borrow::Cow;

/// Fields, and the fields that state the same. The Elastic Common Schema has one name for the remote end of any event; Security 4624
/// has another name for it than Sysmon.
const ALIASES: [(Field, Field); 2] = [
    (Field::IpAddress, Field::SourceIp),
    (Field::IpPort, Field::SourcePort),
];

/// How Sysmon's `Hashes` writes each hash.
const HASHES: [(&str, Field); 4] = [
    ("SHA1=", Field::Sha1),
    ("MD5=", Field::Md5),
    ("SHA256=", Field::Sha256),
    ("IMPHASH=", Field::Imphash),
];

/// Gives fields that were not found the values of fields that state the same.
pub fn copy_aliases(fields: &mut Fields<'_>) {
    for (field, alias) in ALIASES {
        if !fields.has(field) {
            fields.set(field, fields.place(alias));
        }
    }
}

impl Fields<'_> {
    /// The value as text, cut to [`MAX_TEXT`]; `None` if there is none, in any of the ways in which producers write that.
    ///
    /// `User` and `Hashes` are put together from other fields if the record does not state them.
    pub fn text(&self, field: Field) -> Option<Cow<'_, str>> {
        self.text_at(self.place(field), MAX_TEXT)
            .or_else(|| derived_text(self, field).map(Cow::Owned))
    }
}

/// The text of a field that the record does not state as one value. What does the work is never inlined, because most fields are not
/// derived.
#[inline(always)]
fn derived_text(fields: &Fields<'_>, field: Field) -> Option<String> {
    match field {
        Field::User => user(fields),
        Field::Hashes => hashes(fields),
        _ => None,
    }
}

#[cold]
#[inline(never)]
fn user(fields: &Fields<'_>) -> Option<String> {
    let name = fields.text_up_to(Field::TargetUserName, MAX_TEXT)?;
    Some(match fields.text_up_to(Field::TargetDomainName, MAX_TEXT) {
        Some(domain) => format!("{domain}\\{name}"),
        None => name.into_owned(),
    })
}

#[cold]
#[inline(never)]
fn hashes(fields: &Fields<'_>) -> Option<String> {
    let known = HASHES.iter().filter_map(|(name, field)| {
        let hash = fields.text_up_to(*field, MAX_TEXT)?;
        Some(format!("{name}{}", hash.to_uppercase()))
    });
    Some(known.collect::<Vec<_>>().join(",")).filter(|hashes| !hashes.is_empty())
}
