//! Events whose values come as an array without names (Fluent Bit `StringInserts`, Fluentd `EventData`).
//!
//! Sysmon's schemas moved fields about, and neither the event's `Version` nor the number of values tells the schemas
//! apart. What does: `UtcTime` is one of the first three values and has a form of its own; everything else is found
//! from there. Each value is then held to the form it must have, and if one fails nothing is taken at all: a
//! wrong guess is worse than none. Source: SysmonCommon `manifest.xml`, schemas 2.0 to 4.91.

use super::scan::{container_end, scalar_end, skip_blank, string_end};
use super::shapes::Field;
use super::{Fields, Kind, Place};
use crate::normalize::address;

/// No Sysmon event has more values (event 1 of schema 4.91 has 23).
const MAX_VALUES: usize = 32;

/// A name in the record is always believed over a position.
const RANK: u16 = u16::MAX;

/// Gives the values of [`Field::Inserts`] their names, if their forms bear them out.
pub fn name_inserts(fields: &mut Fields<'_>) {
    let Some(id) = fields.number(Field::EventId) else { return };
    let Some(names) = Values::split(fields).and_then(|values| values.names(id)) else { return };
    for (field, place) in names {
        fields.put(field, place);
    }
}

struct Values<'f, 'a> {
    fields: &'f Fields<'a>,
    places: Vec<Place>,
}

type Names = Vec<(Field, Place)>;

impl<'f, 'a> Values<'f, 'a> {
    /// Splits the array into its scalars; `None` if it holds anything else or too much.
    fn split(fields: &'f Fields<'a>) -> Option<Self> {
        let array = fields.place(Field::Inserts);
        if array.kind != Kind::Array {
            return None;
        }
        let bytes = fields.bytes.get(..array.end as usize)?;
        let mut places = Vec::with_capacity(MAX_VALUES);
        let mut at = (array.start as usize).wrapping_add(1);
        loop {
            at = skip_blank(bytes, at);
            match bytes.get(at)? {
                b']' => return Some(Values { fields, places }),
                b',' => {
                    at = at.wrapping_add(1);
                    continue;
                }
                _ if places.len() == MAX_VALUES => return None,
                b'"' => {
                    let start = at.wrapping_add(1);
                    let end = string_end(bytes, start).ok()?;
                    places.push(Place { start: start as u32, end: end as u32, kind: Kind::String, rank: RANK });
                    at = end.wrapping_add(1);
                }
                b'{' | b'[' => {
                    // Holds its position, but is no value that any name stands for.
                    at = container_end(bytes, at).ok()?;
                    places.push(Place { rank: RANK, ..Place::default() });
                }
                _ => {
                    let end = scalar_end(bytes, at);
                    if end == at {
                        return None;
                    }
                    places.push(Place { start: at as u32, end: end as u32, kind: Kind::Scalar, rank: RANK });
                    at = end;
                }
            }
        }
    }

    fn names(&self, id: u32) -> Option<Names> {
        let utc = (0..3).find(|index| self.is(*index, is_utc_time))?;
        let at = |offset: usize| utc.saturating_add(offset);
        let place = |offset: usize| self.places.get(at(offset)).copied();
        if !self.is(at(1), is_guid) || !self.is(at(2), is_integer) {
            return None;
        }
        let mut names = vec![(Field::UtcTime, place(0)?), (Field::ProcessGuid, place(1)?)];
        let mut name = |field: Field, offset: usize, form: fn(&str) -> bool| -> Option<()> {
            if !self.is(at(offset), form) {
                return None;
            }
            names.push((field, place(offset)?));
            Some(())
        };
        match id {
            1 => {
                name(Field::Image, 3, is_image)?;
                // LogonGuid: a GUID, then LogonId in hex, and ParentProcessGuid five places on. The places are
                // checked together, so that a command line that is a GUID misleads nobody.
                let logon = (5..13).find(|logon| {
                    self.is(at(*logon), is_guid)
                        && self.is(at(logon.saturating_add(1)), is_hex)
                        && self.is(at(logon.saturating_add(5)), is_guid)
                })?;
                let command_line = logon.checked_sub(3)?;
                name(Field::CommandLine, command_line, is_any)?;
                name(Field::User, logon.checked_sub(1)?, is_any)?;
                name(Field::LogonId, logon.saturating_add(1), is_hex)?;
                name(Field::Hashes, logon.saturating_add(4), is_any)?;
                name(Field::ParentProcessGuid, logon.saturating_add(5), is_guid)?;
                name(Field::ParentImage, logon.saturating_add(7), is_any)?;
                name(Field::ParentCommandLine, logon.saturating_add(8), is_any)?;
                // FileVersion, Description, Product, Company, OriginalFileName: since schema 4.21.
                if command_line == 9 {
                    name(Field::OriginalFileName, 8, is_any)?;
                }
            }
            3 => {
                name(Field::Image, 3, is_any)?;
                name(Field::User, 4, is_any)?;
                name(Field::Protocol, 5, is_protocol)?;
                name(Field::Initiated, 6, is_truth)?;
                name(Field::SourceIp, 8, is_address)?;
                name(Field::SourcePort, 10, is_integer)?;
                name(Field::DestinationIp, 13, is_address)?;
                name(Field::DestinationPort, 15, is_integer)?;
            }
            11 => {
                name(Field::Image, 3, is_image)?;
                name(Field::TargetFilename, 4, is_image)?;
            }
            13 => {
                name(Field::Image, 3, is_image)?;
                // Schema 3.2 has EventType between Image and TargetObject.
                let target = if self.is(at(4), is_registry_path) { 4 } else { 5 };
                name(Field::TargetObject, target, is_registry_path)?;
                name(Field::Details, target.saturating_add(1), is_any)?;
            }
            17 | 18 => {
                name(Field::PipeName, 3, is_any)?;
                name(Field::Image, 4, is_image)?;
            }
            _ => return None,
        }
        Some(names)
    }

    fn is(&self, index: usize, form: fn(&str) -> bool) -> bool {
        let Some(place) = self.places.get(index) else { return false };
        match place.kind {
            Kind::Absent | Kind::Array | Kind::XmlText => false,
            Kind::String | Kind::Scalar => form(&self.fields.text_at(*place).unwrap_or_default()),
        }
    }
}

fn is_any(_: &str) -> bool {
    true
}

/// `2024-09-14 09:52:31.870`, exactly.
fn is_utc_time(text: &str) -> bool {
    text.len() == 23
        && text.bytes().zip(*b"0000-00-00 00:00:00.000").all(|(got, want)| if want == b'0' { got.is_ascii_digit() } else { got == want })
}

fn is_guid(text: &str) -> bool {
    let bare = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(text);
    bare.len() == 36
        && bare.bytes().enumerate().all(|(at, b)| if matches!(at, 8 | 13 | 18 | 23) { b == b'-' } else { b.is_ascii_hexdigit() })
}

fn is_integer(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_hex(text: &str) -> bool {
    text.strip_prefix("0x").is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// A program or file: a path, or one of the names that the kernel's own processes have.
fn is_image(text: &str) -> bool {
    text.contains('\\') || matches!(text, "System" | "Registry" | "MemCompression" | "<unknown process>")
}

fn is_protocol(text: &str) -> bool {
    text.eq_ignore_ascii_case("tcp") || text.eq_ignore_ascii_case("udp")
}

fn is_truth(text: &str) -> bool {
    text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false")
}

fn is_address(text: &str) -> bool {
    address::parse(text).is_some()
}

fn is_registry_path(text: &str) -> bool {
    text.starts_with("HK") || text.get(..10).is_some_and(|start| start.eq_ignore_ascii_case(r"\registry\"))
}

#[cfg(test)]
mod tests {
    use crate::record::shapes::{Field, PRODUCERS, PathTable};
    use crate::record::{Fields, Interest, read};

    struct All;

    impl Interest for All {
        fn wants(&self, _: u32) -> bool {
            true
        }

        fn is_hopeless(&self, _: u32, _: &Fields<'_>) -> bool {
            false
        }
    }

    fn text(id: u32, values: &str, field: Field) -> Option<String> {
        let record = format!(r#"{{"EventID":{id},"StringInserts":[{values}]}}"#);
        match read(record.as_bytes(), &PathTable::new(PRODUCERS), &All) {
            Ok(Some(fields)) => fields.text(field),
            _ => panic!("not an event: {record}"),
        }
    }

    const GUID: &str = r#""{3F1A2B4C-0A01-66E5-EB03-000000000000}""#;

    #[test]
    fn values_are_named_in_every_schema() {
        let head = format!(r#""2024-09-14 09:52:31.870",{GUID},4"#);
        let tail = format!(
            r#""C:\\x.exe -a","C:\\","NT\\S",{GUID},"0x3e7",0,"System","MD5=1",{GUID},716,"C:\\Windows\\System32\\services.exe","services""#
        );
        for (schema, lead, middle, end) in [
            ("2.0", "17,", "", ""),
            ("3.2", "", "", ""),
            ("4.0", "", r#""1.0","d","p","c","#, ""),
            ("4.1", r#""-","#, r#""1.0","d","p","c","#, ""),
            ("4.21", r#""-","#, r#""1.0","d","p","c","psexesvc.exe","#, ""),
            ("4.80", r#""","#, r#""1.0","d","p","c","psexesvc.exe","#, r#","NT\\S""#),
        ] {
            let values = format!(r#"{lead}{head},"C:\\x.exe",{middle}{tail}{end}"#);
            assert_eq!(text(1, &values, Field::CommandLine).as_deref(), Some(r"C:\x.exe -a"), "{schema}");
            assert_eq!(text(1, &values, Field::ParentImage).as_deref(), Some(r"C:\Windows\System32\services.exe"), "{schema}");
            let original = middle.contains("psexesvc").then_some("psexesvc.exe");
            assert_eq!(text(1, &values, Field::OriginalFileName).as_deref(), original, "{schema}");
        }
        let registry = r#""HKLM\\System\\CurrentControlSet\\Services\\X\\ImagePath","x""#;
        for values in [
            format!(r#"{head},"C:\\s.exe","SetValue",{registry}"#),         // 3.2
            format!(r#""SetValue",{head},"C:\\s.exe",{registry}"#),         // 3.3 to 4.0
            format!(r#""-","SetValue",{head},"C:\\s.exe",{registry},"u""#), // 4.80
        ] {
            assert_eq!(text(13, &values, Field::Details).as_deref(), Some("x"), "{values}");
        }
    }

    #[test]
    fn a_value_of_the_wrong_form_names_nothing() {
        let head = format!(r#""2024-09-14 09:52:31.870",{GUID},4"#);
        for values in [
            // An address is missing: forwarded events lose empty values and everything moves up.
            format!(r#"{head},"System","u","tcp",false,false,"10.0.0.5",50211,false,"10.0.0.21","WS01",445"#),
            format!(r#"{head},"System","u","tcp",[false],false,"10.0.0.5","-",50211,"-",false,"10.0.0.21","-",445,"-""#),
            format!(r#""-","-","-",{head},"System","u","tcp",false,false,"10.0.0.5","-",50211,"-",false,"10.0.0.21","-",445,"-""#),
        ] {
            assert_eq!(text(3, &values, Field::SourceIp), None, "{values}");
            assert_eq!(text(3, &values, Field::UtcTime), None, "{values}");
        }
        let good = format!(r#"{head},"System","u","tcp",false,false,"10.0.0.5","-",50211,"-",false,"10.0.0.21","-",445,"-""#);
        assert_eq!(text(3, &good, Field::SourceIp).as_deref(), Some("10.0.0.5"));
    }
}
