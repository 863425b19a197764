//! The values of an event in the text that Windows renders for people: lines `Name: value`, or, if a syslog sender flattened them,
//! parts separated by two spaces.
//!
//! This is the last resort. The text is made with the manifest of the machine that renders it, and if that is of another version,
//! values are under the wrong names (Beats' golden files show `User: %9`). So each value must have the format of its field, and if one
//! does not, none is used. Sysmon's text is English everywhere; that of event 4624 is localized, and not read.

use crate::record::fields::Fields;
use crate::record::place::{Place, Spelling};
use crate::record::producers::Field;
use crate::record::value_format::{fits, is_nothing};

/// Finds the values in [`Field::Message`]. Returns whether there are any.
pub fn find_values(fields: &mut Fields<'_>) -> bool {
    let Some((text, base)) = fields
        .decode(Field::Message)
        .or_else(|| fields.decode(Field::Description))
    else {
        return false;
    };
    let Some(values) = values(&text) else {
        return false;
    };
    for (field, from, to) in values {
        fields.set(field, Place::within(base, from, to, Spelling::Text));
    }
    true
}

/// Names whose value is chosen by the maker of a program or by whoever enters a command. It may contain lines that look like values.
const FREE: [&str; 7] = [
    "FileVersion",
    "Description",
    "Product",
    "Company",
    "OriginalFileName",
    "CommandLine",
    "Details",
];

/// Values that Sysmon writes after the free ones: the last line with such a name is the real one. All other values are written before
/// the free ones: the first line with such a name is the real one.
const AFTER_FREE: [Field; 6] = [
    Field::User,
    Field::LogonId,
    Field::Hashes,
    Field::ParentProcessGuid,
    Field::ParentImage,
    Field::ParentCommandLine,
];

/// The name that Sysmon writes right after the command line.
const AFTER_COMMAND_LINE: &str = "CurrentDirectory";

/// The values and their offsets in the text.
fn values(text: &str) -> Option<Vec<(Field, usize, usize)>> {
    // A value that contains the separator ends early, so two spaces separate values only if there are no line ends.
    let separator = if text.contains('\n') { "\n" } else { "  " };
    let mut values: Vec<(Field, usize, usize)> = Vec::new();
    let mut free = false;
    let mut directory = None;
    let mut start = 0usize;
    for part in text.split(separator) {
        let end = start.saturating_add(part.trim_ascii_end().len());
        if let Some((name, value)) = part.split_once(':') {
            // In flattened text an empty value leaves a third space.
            let name = if separator == "\n" {
                name
            } else {
                name.trim_ascii_start()
            };
            if name == AFTER_COMMAND_LINE {
                directory = Some(start);
            }
            if let Some(field) = Field::of_event_data(name) {
                let from = end.saturating_sub(value.trim_ascii().len());
                match values.iter_mut().find(|(known, _, _)| *known == field) {
                    Some(place) if AFTER_FREE.contains(&field) => *place = (field, from, end),
                    Some(_) => {}
                    None if free && !AFTER_FREE.contains(&field) && !FREE.contains(&name) => {}
                    None => values.push((field, from, end)),
                }
            }
            free |= FREE.contains(&name);
        }
        start = start
            .saturating_add(part.len())
            .saturating_add(separator.len());
    }
    // A command line can have lines of its own.
    let command_line = values
        .iter_mut()
        .find(|(field, _, _)| *field == Field::CommandLine);
    if let (Some((_, from, to)), Some(directory)) = (command_line, directory)
        && let Some(whole) = text.get(*from..directory)
    {
        *to = from.saturating_add(whole.trim_ascii_end().len());
    }
    values.retain(|(_, from, to)| !is_nothing(text.get(*from..*to).unwrap_or_default()));
    let has = |wanted: Field| values.iter().any(|(field, _, _)| *field == wanted);
    let fit = values
        .iter()
        .all(|(field, from, to)| fits(*field, text.get(*from..*to).unwrap_or_default()));
    (fit && has(Field::UtcTime) && has(Field::ProcessGuid) && has(Field::Image)).then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, wanted: Field) -> Option<&str> {
        values(text)?
            .iter()
            .find(|(field, _, _)| *field == wanted)
            .and_then(|(_, from, to)| text.get(*from..*to))
    }

    const HEAD: &str = "Process Create:\r\nRuleName: \r\nUtcTime: 2024-09-14 09:52:34.210\r\n\
        ProcessGuid: {3f1a2b4c-5cd2-66e5-a907-000000004100}\r\nImage: C:\\a.exe\r\n";

    #[test]
    fn lines_and_flattened_lines_are_read() {
        let text = format!(
            "{HEAD}CommandLine: \"C:\\a.exe\"  -s\r\nUser: A\\b\r\nParentImage: -\r\nHashes: MD5=1"
        );
        assert_eq!(value(&text, Field::CommandLine), Some("\"C:\\a.exe\"  -s"));
        assert_eq!(value(&text, Field::Hashes), Some("MD5=1"));
        assert_eq!(value(&text, Field::ParentImage), None);
        let flat = text.replace("  -s", "").replace("\r\n", "  ");
        assert_eq!(value(&flat, Field::CommandLine), Some("\"C:\\a.exe\""));
        assert_eq!(value(&flat, Field::User), Some("A\\b"));
    }

    #[test]
    fn lines_planted_in_a_value_do_not_replace_values() {
        let planted = "x\nImage: C:\\other.exe\nCommandLine: y\nSourceIp: z\nParentImage: C:\\fake.exe\nCurrentDirectory: C:\\\nUser: 7";
        for (description, line) in [
            ("Tool", planted),
            (planted, "C:\\a.exe -s"),
            (planted, planted),
        ] {
            let text = format!(
                "{HEAD}FileVersion: 1\r\nDescription: {description}\r\nProduct: -\r\nCommandLine: {line}\r\nCurrentDirectory: C:\\b\\\r\n\
                 User: A\\b\r\nParentImage: C:\\p.exe\r\nParentCommandLine: p"
            );
            assert_eq!(value(&text, Field::Image), Some(r"C:\a.exe"));
            assert_eq!(value(&text, Field::ParentImage), Some(r"C:\p.exe"));
            assert_eq!(value(&text, Field::User), Some("A\\b"));
            assert_eq!(value(&text, Field::SourceIp), None);
            let read = value(&text, Field::CommandLine).unwrap();
            assert!(read.ends_with(line) && !read.contains("C:\\b\\"), "{read}");
        }
    }

    #[test]
    fn no_value_is_read_if_one_has_the_wrong_format() {
        for tail in ["User: %9", "LogonId: High", "ParentImage: 716"] {
            assert_eq!(values(&format!("{HEAD}{tail}")), None, "{tail}");
        }
        for text in [
            "",
            "Sysmon",
            "Image: C:\\a.exe",
            "Image: C:\\a.exe\nUtcTime: today\nProcessGuid: {3f1a2b4c-5cd2-66e5-a907-000000004100}",
        ] {
            assert_eq!(values(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_accepted(text in "(UtcTime|ProcessGuid|Image|CommandLine|: ?|\n|\r|  |2024-09-14 09:52:34.210|\\{|C:\\\\x|é)*") {
            for (field, from, to) in values(&text).unwrap_or_default() {
                proptest::prop_assert!(text.get(from..to).is_some(), "{:?}", field);
            }
        }
    }
}
