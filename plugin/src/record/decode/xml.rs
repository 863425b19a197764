//! Events that are rendered as XML inside a string (Fluent Bit `render_event_as_xml`, Vector `include_xml`), and values as XML.
//!
//! EvtRender writes a fixed form: no comments, no CDATA, no namespace prefixes, single quotes. This reader searches for the elements
//! that it knows and ignores everything else; it is not an XML parser.

use crate::record::fields::{Fields, NO_PLACES};
use crate::record::place::{Place, Spelling};
use crate::record::producers::Field;

/// The elements of `<System>`.
const ENVELOPE: [(&str, Field); 6] = [
    ("<EventID", Field::EventId),
    ("<Provider", Field::Provider),
    ("<Channel", Field::Channel),
    ("<Computer", Field::Computer),
    ("<TimeCreated", Field::LoggedTime),
    ("<EventRecordID", Field::RecordId),
];

/// Whether the raw bytes of a JSON string begin as an event in XML does. Go writes `<` as `\u003c` in JSON.
pub fn starts(raw: &[u8]) -> bool {
    let opened = raw
        .strip_prefix(b"<")
        .or_else(|| raw.strip_prefix(br"\u003c"));
    opened.is_some_and(|rest| rest.starts_with(b"Event") || rest.starts_with(b"?xml"))
}

/// Replaces `fields` with the fields of the event in the string `field`. Returns whether it is one.
pub fn read(fields: &mut Fields<'_>, field: Field) -> bool {
    let xml = fields.unescape_whole(fields.raw(field).unwrap_or_default());
    let mut event = xml.trim_ascii_start();
    if let Some((_, after)) = event
        .strip_prefix("<?xml")
        .and_then(|rest| rest.split_once("?>"))
    {
        event = after.trim_ascii_start();
    }
    let Some((system, data)) = event
        .split_once("</System>")
        .filter(|_| event.starts_with("<Event"))
    else {
        return false;
    };
    fields.places = NO_PLACES;
    for (element, field) in ENVELOPE {
        if let Some(value) = element_or_attribute(system, element, field) {
            fields.put(field, place(&xml, value, 0));
        }
    }
    for (field, value) in values(data) {
        fields.put(field, place(&xml, value, 0));
    }
    fields.decoded = xml.into_bytes();
    fields.has(Field::EventId)
}

/// Finds the values in [`Field::DataXml`]. Returns whether there are any. Sentinel's table `Event` keeps them like that, in a
/// `<DataItem>`.
pub fn find_values(fields: &mut Fields<'_>) -> bool {
    if !fields
        .raw(Field::DataXml)
        .is_some_and(|raw| matches!(raw.trim_ascii_start().first(), Some(b'<' | b'\\')))
    {
        return false;
    }
    let Some((xml, base)) = fields.decode(Field::DataXml) else {
        return false;
    };
    let mut found = false;
    for (field, value) in values(&xml) {
        fields.set(field, place(&xml, value, base));
        found = true;
    }
    found
}

/// The values of the elements `<Data Name=…>` whose names are fields, the first of each name.
fn values(data: &str) -> Vec<(Field, &str)> {
    let mut values: Vec<(Field, &str)> = Vec::new();
    let mut rest = data;
    while let Some((_, after)) = rest.split_once("<Data Name=") {
        let Some((name, value, next)) = data_element(after) else {
            break;
        };
        if let Some(field) = Field::of_event_data(name)
            && !values.iter().any(|(known, _)| *known == field)
        {
            values.push((field, value));
        }
        rest = next;
    }
    values
}

/// The text of `<Element …>text<`, or the attribute that holds the value of an element without text.
fn element_or_attribute<'x>(system: &'x str, element: &str, field: Field) -> Option<&'x str> {
    let (_, after) = system.match_indices(element).find_map(|(at, _)| {
        let rest = system.get(at..)?.strip_prefix(element)?;
        rest.starts_with(['>', ' ', '/']).then_some((at, rest))
    })?;
    let (attributes, text) = after.split_once('>')?;
    let attribute = match field {
        Field::Provider => "Name=",
        Field::LoggedTime => "SystemTime=",
        _ => return text.split('<').next(),
    };
    quoted(attributes.split_once(attribute)?.1).map(|(value, _)| value)
}

/// The name and the value in `'Name'>value</Data>`, and what follows.
fn data_element(after: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = quoted(after)?;
    let rest = rest.trim_start();
    if let Some(after) = rest.strip_prefix("/>") {
        return Some((name, "", after));
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

/// The place of `value`, which is a part of `xml`, which begins `base` bytes into the decoded strings.
fn place(xml: &str, value: &str, base: u32) -> Place {
    let start = (value.as_ptr() as usize).wrapping_sub(xml.as_ptr() as usize);
    Place::within(
        base,
        start,
        start.saturating_add(value.len()),
        Spelling::XmlText,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::testing;

    const EVENT: &str = "<Event xmlns='x'><System><Provider Name='Microsoft-Windows-Sysmon' Guid='{g}'/><EventID>11</EventID>\
        <TimeCreated SystemTime='2024-09-14T09:52:33.1184532Z'/><EventRecordID>7</EventRecordID><Channel>c</Channel>\
        <Computer>WS01</Computer><Security UserID='S-1-5-18'/></System><EventData><Data Name='RuleName'></Data>\
        <Data Name='UtcTime'/><Data Name=\\\"Image\\\">System</Data><Data Name='TargetFilename'>C:\\\\a &amp; b.exe</Data></EventData></Event>";

    #[test]
    fn an_event_in_xml_is_read() {
        for (before, event) in [
            ("", EVENT.to_owned()),
            ("<?xml version='1.0'?>\\n", EVENT.to_owned()),
            ("", EVENT.replace('<', "\\u003c")),
        ] {
            let record = format!(r#"{{"_raw":"{before}{event}"}}"#);
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
                assert_eq!(
                    testing::text(&record, field).as_deref(),
                    want,
                    "{field:?} {record}"
                );
            }
        }
    }

    #[test]
    fn values_in_xml_are_read_without_an_envelope() {
        let record = r#"{"EventID":11,"EventData":"<DataItem><EventData><Data Name=\"Image\">System</Data></EventData></DataItem>"}"#;
        assert_eq!(
            testing::text(record, Field::Image).as_deref(),
            Some("System")
        );
        assert_eq!(
            testing::text(
                r#"{"EventID":11,"EventData":"Data Name='Image'>System<"}"#,
                Field::Image
            ),
            None
        );
    }

    proptest::proptest! {
        #[test]
        fn any_xml_is_accepted(text in "<Event(<|>|'|\"|/|EventID|System|Data Name=|Image|1|é|&| )*") {
            let _ = testing::text(&format!(r#"{{"_raw":"{text}"}}"#), Field::Image);
        }
    }
}
