//! The values of an event out of the text that Windows renders for people: lines `Name: value`, or, where a syslog sender
//! flattened them, parts set off by two blanks.
//!
//! The last resort. The text is made with the manifest of the machine that renders, and where that is of another
//! version, values stand under the wrong names (Beats' golden files show `User: %9`). So each value is held to the form
//! that it must have, and if one fails nothing is taken. Sysmon's text is English everywhere; that of event 4624 is
//! localised, and not read.

use super::shapes::Field;
use super::{Fields, Kind, Place, form};

/// Names the values in [`Field::Message`]; whether there were any.
pub fn name_lines(fields: &mut Fields<'_>) -> bool {
    let Some((text, base)) = fields.decode(Field::Message) else { return false };
    let Some(values) = values(&text) else { return false };
    for (field, from, to) in values {
        fields.set(field, Place::within(base, from, to, Kind::Text));
    }
    true
}

/// The values and where they stand.
fn values(text: &str) -> Option<Vec<(Field, usize, usize)>> {
    // A value that holds the separator ends early; two blanks are separators only where no line ends are left.
    let separator = if text.contains('\n') { "\n" } else { "  " };
    let mut values: Vec<(Field, usize, usize)> = Vec::new();
    let mut torn: Vec<Field> = Vec::new();
    let mut certain = usize::MAX;
    let mut start = 0usize;
    for part in text.split(separator) {
        let end = start.saturating_add(part.trim_ascii_end().len());
        if let Some((name, value)) = part.split_once(':')
            // Flattened, an empty value leaves a third blank.
            && let Some(field) = Field::of_event_data(if separator == "\n" { name } else { name.trim_ascii_start() })
        {
            let from = start.saturating_add(name.len()).saturating_add(1);
            let from = from.saturating_add(value.len().saturating_sub(value.trim_ascii_start().len())).min(end);
            match values.iter().position(|(known, _, _)| *known == field) {
                // A command line can have lines that look like values. What was stated before it is beyond doubt, of the
                // rest neither is believed.
                Some(at) if at > certain => torn.push(field),
                Some(_) => {}
                None => {
                    if field == Field::CommandLine {
                        certain = values.len();
                    }
                    values.push((field, from, end));
                }
            }
        }
        start = start.saturating_add(part.len()).saturating_add(separator.len());
    }
    values.retain(|(field, from, to)| !torn.contains(field) && !form::is_nothing(text.get(*from..*to).unwrap_or_default()));
    let has = |wanted: Field| values.iter().any(|(field, _, _)| *field == wanted);
    let fit = values.iter().all(|(field, from, to)| form::fits(*field, text.get(*from..*to).unwrap_or_default()));
    (fit && has(Field::UtcTime) && has(Field::ProcessGuid) && has(Field::Image)).then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, wanted: Field) -> Option<&str> {
        values(text)?.iter().find(|(field, _, _)| *field == wanted).and_then(|(_, from, to)| text.get(*from..*to))
    }

    const HEAD: &str = "Process Create:\r\nRuleName: \r\nUtcTime: 2024-09-14 09:52:34.210\r\n\
        ProcessGuid: {3f1a2b4c-5cd2-66e5-a907-000000004100}\r\nImage: C:\\a.exe\r\n";

    #[test]
    fn lines_and_flattened_lines() {
        let text = format!("{HEAD}CommandLine: \"C:\\a.exe\"  -s\r\nUser: A\\b\r\nParentImage: -\r\nHashes: MD5=1");
        assert_eq!(value(&text, Field::CommandLine), Some("\"C:\\a.exe\"  -s"));
        assert_eq!(value(&text, Field::Hashes), Some("MD5=1"));
        assert_eq!(value(&text, Field::ParentImage), None);
        let flat = text.replace("  -s", "").replace("\r\n", "  ");
        assert_eq!(value(&flat, Field::CommandLine), Some("\"C:\\a.exe\""));
        assert_eq!(value(&flat, Field::User), Some("A\\b"));
    }

    #[test]
    fn a_command_line_that_poses_as_values_gains_nothing() {
        let text = format!("{HEAD}CommandLine: x\nImage: C:\\other.exe\nParentImage: C:\\fake.exe\r\nUser: A\\b\r\nParentImage: C:\\p.exe");
        assert_eq!(value(&text, Field::Image), Some(r"C:\a.exe"));
        assert_eq!(value(&text, Field::ParentImage), None);
        assert_eq!(value(&text, Field::User), Some("A\\b"));
    }

    #[test]
    fn a_text_of_the_wrong_form_names_nothing() {
        for tail in ["User: %9", "LogonId: High", "ParentImage: 716"] {
            assert_eq!(values(&format!("{HEAD}{tail}")), None, "{tail}");
        }
        for text in
            ["", "Sysmon", "Image: C:\\a.exe", "Image: C:\\a.exe\nUtcTime: today\nProcessGuid: {3f1a2b4c-5cd2-66e5-a907-000000004100}"]
        {
            assert_eq!(values(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn reading_text_is_total(text in "(UtcTime|ProcessGuid|Image|CommandLine|: ?|\n|\r|  |2024-09-14 09:52:34.210|\\{|C:\\\\x|é)*") {
            for (field, from, to) in values(&text).unwrap_or_default() {
                proptest::prop_assert!(text.get(from..to).is_some(), "{:?}", field);
            }
        }
    }
}
