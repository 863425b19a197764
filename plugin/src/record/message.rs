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
        fields.set(field, Place::within(base, from, to, Kind::Text));
    }
    true
}

/// Names behind which stands what the maker of a program, or whoever gives a command, likes: lines, too, that look like values.
const FREE: [&str; 7] = [
    "FileVersion",
    "Description",
    "Product",
    "Company",
    "OriginalFileName",
    "CommandLine",
    "Details",
];

/// Values that Sysmon writes behind the free ones: the last line of the name is its own. All others stand before them, and
/// the first line is.
const BEHIND: [Field; 6] = [
    Field::User,
    Field::LogonId,
    Field::Hashes,
    Field::ParentProcessGuid,
    Field::ParentImage,
    Field::ParentCommandLine,
];

/// What Sysmon writes right behind the command line.
const BEHIND_COMMAND_LINE: &str = "CurrentDirectory";

/// The values and where they stand.
fn values(text: &str) -> Option<Vec<(Field, usize, usize)>> {
    // A value that holds the separator ends early; two blanks are separators only where no line ends are left.
    let separator = if text.contains('\n') { "\n" } else { "  " };
    let mut values: Vec<(Field, usize, usize)> = Vec::new();
    let mut free = false;
    let mut directory = None;
    let mut start = 0usize;
    for part in text.split(separator) {
        let end = start.saturating_add(part.trim_ascii_end().len());
        if let Some((name, value)) = part.split_once(':') {
            // Flattened, an empty value leaves a third blank.
            let name = if separator == "\n" {
                name
            } else {
                name.trim_ascii_start()
            };
            if name == BEHIND_COMMAND_LINE {
                directory = Some(start);
            }
            if let Some(field) = Field::of_event_data(name) {
                let from = end.saturating_sub(value.trim_ascii().len());
                match values.iter_mut().find(|(known, _, _)| *known == field) {
                    Some(place) if BEHIND.contains(&field) => *place = (field, from, end),
                    Some(_) => {}
                    None if free && !BEHIND.contains(&field) && !FREE.contains(&name) => {}
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
    values.retain(|(_, from, to)| !form::is_nothing(text.get(*from..*to).unwrap_or_default()));
    let has = |wanted: Field| values.iter().any(|(field, _, _)| *field == wanted);
    let fit = values
        .iter()
        .all(|(field, from, to)| form::fits(*field, text.get(*from..*to).unwrap_or_default()));
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
    fn lines_and_flattened_lines() {
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
    fn lines_that_pose_as_values_gain_nothing() {
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
            let said = value(&text, Field::CommandLine).unwrap();
            assert!(said.ends_with(line) && !said.contains("C:\\b\\"), "{said}");
        }
    }

    #[test]
    fn a_text_of_the_wrong_form_names_nothing() {
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
        fn reading_text_is_total(text in "(UtcTime|ProcessGuid|Image|CommandLine|: ?|\n|\r|  |2024-09-14 09:52:34.210|\\{|C:\\\\x|é)*") {
            for (field, from, to) in values(&text).unwrap_or_default() {
                proptest::prop_assert!(text.get(from..to).is_some(), "{:?}", field);
            }
        }
    }
}
