//! Events that are rendered as XML inside a string (Fluent Bit `render_event_as_xml`, Vector `include_xml`).
//!
//! EvtRender writes a fixed form: no comments, no CDATA, no namespaces prefixes, single quotes. The reader
//! looks for the elements it knows and ignores all else; it is no XML parser and need not be one.

use super::shapes::Field;
use super::{Fields, Kind, MAX_XML, Place, text};

/// The elements and attributes of `<System>`.
const ENVELOPE: [(&str, Field); 6] = [
    ("<EventID", Field::EventId),
    ("<Provider", Field::Provider),
    ("<Channel", Field::Channel),
    ("<Computer", Field::Computer),
    ("<TimeCreated", Field::LoggedTime),
    ("<EventRecordID", Field::RecordId),
];

/// Whether the raw bytes of a JSON string are an event whose id, legible without unescaping, nobody wants.
///
/// Spares most records the unescaping. The id stands in the first few hundred bytes, behind the provider.
pub fn is_surely_unwanted(raw: &[u8], wanted: &impl Fn(u32) -> bool) -> bool {
    let head = raw.get(..raw.len().min(512)).unwrap_or(raw);
    let head = String::from_utf8_lossy(head);
    if !head.starts_with("<Event") {
        return false;
    }
    let Some((_, rest)) = head.split_once("<EventID>") else { return false };
    let Some((digits, _)) = rest.split_once('<') else { return false };
    digits.trim().parse().is_ok_and(|id| !wanted(id))
}

/// Reads an event from the raw bytes of a JSON string. `None` if it is not an event or its id is not wanted.
pub fn read(raw: &[u8], wanted: &impl Fn(u32) -> bool) -> Option<Fields<'static>> {
    let xml = text::unescape(raw, MAX_XML);
    if !xml.trim_start().starts_with("<Event") {
        return None;
    }
    let (system, data) = xml.split_once("</System>")?;
    let mut fields = Fields::new(std::borrow::Cow::Owned(Vec::new()));
    for (element, field) in ENVELOPE {
        if let Some(value) = element_or_attribute(system, element, field) {
            fields.put(field, place(&xml, value));
        }
    }
    let mut rest = data;
    while let Some((_, after)) = rest.split_once("<Data Name=") {
        let Some((name, value, behind)) = data_element(after) else { break };
        if let Some(field) = Field::of_event_data(name) {
            fields.put(field, place(&xml, value));
        }
        rest = behind;
    }
    fields.bytes = std::borrow::Cow::Owned(xml.into_bytes());
    fields.number(Field::EventId).is_some_and(wanted).then_some(fields)
}

/// The text of `<Element …>text<`, or of the attribute that holds the value of an element without text.
fn element_or_attribute<'x>(system: &'x str, element: &str, field: Field) -> Option<&'x str> {
    let (_, after) = system.match_indices(element).find_map(|(at, _)| {
        let rest = system.get(at..)?.strip_prefix(element)?;
        rest.starts_with(['>', ' ', '/']).then_some((at, rest))
    })?;
    let (attributes, behind) = after.split_once('>')?;
    let attribute = match field {
        Field::Provider => "Name=",
        Field::LoggedTime => "SystemTime=",
        _ => return behind.split('<').next(),
    };
    quoted(attributes.split_once(attribute)?.1).map(|(value, _)| value)
}

/// `'Name'>value</Data>`: the name, the value and what follows.
fn data_element(after: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = quoted(after)?;
    let rest = rest.trim_start();
    if let Some(behind) = rest.strip_prefix("/>") {
        return Some((name, "", behind));
    }
    let rest = rest.strip_prefix('>')?;
    let end = rest.find('<')?;
    Some((name, rest.get(..end)?, rest.get(end..)?))
}

/// The text between quotes of either kind, and what follows.
fn quoted(text: &str) -> Option<(&str, &str)> {
    match text.strip_prefix('\'') {
        Some(rest) => rest.split_once('\''),
        None => text.strip_prefix('"')?.split_once('"'),
    }
}

/// Where `value`, a part of `xml`, stands in it.
fn place(xml: &str, value: &str) -> Place {
    let start = (value.as_ptr() as usize).wrapping_sub(xml.as_ptr() as usize);
    let end = start.saturating_add(value.len());
    Place { start: start as u32, end: end as u32, kind: Kind::XmlText, rank: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = "<Event xmlns='x'><System><Provider Name='Microsoft-Windows-Sysmon' Guid='{g}'/><EventID>11</EventID>\
        <TimeCreated SystemTime='2024-09-14T09:52:33.1184532Z'/><EventRecordID>7</EventRecordID><Channel>c</Channel>\
        <Computer>WS01</Computer><Security UserID='S-1-5-18'/></System><EventData><Data Name='RuleName'></Data>\
        <Data Name='UtcTime'/><Data Name=\\\"Image\\\">System</Data><Data Name='TargetFilename'>C:\\\\a &amp; b.exe</Data></EventData></Event>";

    #[test]
    fn an_event_in_xml() {
        let fields = read(EVENT.as_bytes(), &|id| id == 11).unwrap();
        for (field, want) in [
            (Field::Provider, Some("Microsoft-Windows-Sysmon")),
            (Field::EventId, Some("11")),
            (Field::RecordId, Some("7")),
            (Field::LoggedTime, Some("2024-09-14T09:52:33.1184532Z")),
            (Field::Computer, Some("WS01")),
            (Field::Image, Some("System")),
            (Field::TargetFilename, Some(r"C:\a & b.exe")),
            (Field::UtcTime, None),
        ] {
            assert_eq!(fields.text(field).as_deref(), want, "{field:?}");
        }
    }

    #[test]
    fn an_unwanted_one_is_told_by_its_head() {
        assert!(is_surely_unwanted(EVENT.as_bytes(), &|id| id == 1));
        assert!(!is_surely_unwanted(EVENT.as_bytes(), &|id| id == 11));
        assert!(!is_surely_unwanted(b"C:\\\\Windows", &|_| false));
        assert!(read(EVENT.as_bytes(), &|id| id == 1).is_none());
    }

    proptest::proptest! {
        #[test]
        fn reading_xml_is_total(text in "<Event(<|>|'|\"|/|EventID|System|Data Name=|Image|1|é|&| )*") {
            let _ = read(text.as_bytes(), &|_| true);
            let _ = is_surely_unwanted(text.as_bytes(), &|_| true);
        }
    }
}
