//! Values that some producers keep in parts, or under the name of another.

use super::Fields;
use super::shapes::Field;

/// The Elastic Common Schema has one name for the far side of any event; Security 4624 calls it otherwise than Sysmon.
const STAND_INS: [(Field, Field); 2] = [
    (Field::IpAddress, Field::SourceIp),
    (Field::IpPort, Field::SourcePort),
];

/// The hashes in the words of Sysmon's `Hashes`.
const HASHES: [(&str, Field); 4] = [
    ("SHA1=", Field::Sha1),
    ("MD5=", Field::Md5),
    ("SHA256=", Field::Sha256),
    ("IMPHASH=", Field::Imphash),
];

/// Lets the fields that are missing be stated by those that mean the same.
pub fn stand_in(fields: &mut Fields<'_>) {
    for (field, other) in STAND_INS {
        if !fields.has(field) {
            fields.set(field, fields.place(other));
        }
    }
}

/// The text of a field that was not found in one piece. What does the work stands apart: most fields are never in pieces.
#[inline(always)]
pub fn text(fields: &Fields<'_>, field: Field) -> Option<String> {
    match field {
        Field::User => user(fields),
        Field::Hashes => hashes(fields),
        _ => None,
    }
}

#[cold]
#[inline(never)]
fn user(fields: &Fields<'_>) -> Option<String> {
    let name = fields.text(Field::TargetUserName)?;
    Some(match fields.text(Field::TargetDomainName) {
        Some(domain) => format!("{domain}\\{name}"),
        None => name.into_owned(),
    })
}

#[cold]
#[inline(never)]
fn hashes(fields: &Fields<'_>) -> Option<String> {
    let known = HASHES
        .iter()
        .filter_map(|(name, field)| Some(format!("{name}{}", fields.text(*field)?.to_uppercase())));
    Some(known.collect::<Vec<_>>().join(",")).filter(|hashes| !hashes.is_empty())
}
