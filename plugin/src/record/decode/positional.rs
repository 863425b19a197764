//! The values of an event in an array without names (Fluent Bit `StringInserts`, Fluentd `EventData`).
//!
//! Sysmon's schemas moved fields, and neither the event's `Version` nor the number of values distinguishes the schemas. But `UtcTime`
//! is one of the first three values and has a format of its own; everything else is found from there. The events of the Security
//! channel only ever grew at their ends. Each value must then have the format of its field, and if one does not, none is used: a wrong guess is worse than
//! none.
//!
//! Sources: SysmonCommon `manifest.xml`, schemas 2.0 to 4.91; the manifest of Microsoft-Windows-Security-Auditing, events 4624
//! (versions 0 to 2), 4634 and 4672.

use crate::json::cursor::Elements;
use crate::record::fields::{Fields, MAX_TEXT};
use crate::record::place::{Place, Spelling};
use crate::record::producers::Field;
use crate::record::value_format::{
    is_address, is_guid, is_hex, is_image, is_integer, is_nothing, is_protocol, is_registry_path,
    is_sid, is_truth, is_utc_time,
};

/// Most values of an event that is used (event 1 of schema 4.91 has 23, 4624 has 27).
const MAX_VALUES: usize = 32;

/// Finds the values in [`Field::Inserts`], if all of them have the format of their fields. Returns whether they do.
pub fn find_values(fields: &mut Fields<'_>) -> bool {
    let Some(id) = fields.number(Field::EventId) else {
        return false;
    };
    let Some(found) = Values::split(fields).and_then(|values| match id {
        LOGON => values.logon(),
        LOGOFF => values.security(&LOGOFF_VALUES),
        PRIVILEGES => values.security(&PRIVILEGES_VALUES),
        _ => values.sysmon(id),
    }) else {
        return false;
    };
    for (field, place) in found {
        fields.set(field, place);
    }
    true
}

/// Security: an account was logged on.
const LOGON: u32 = 4624;

/// Security: an account was logged off.
const LOGOFF: u32 = 4634;

/// Security: special privileges were assigned to a new logon.
const PRIVILEGES: u32 = 4672;

/// Where a value of an event of the Security channel is, and the format that it must have.
type Position = (usize, Field, fn(&str) -> bool);

const LOGON_VALUES: [Position; 7] = [
    (5, Field::TargetUserName, is_any),
    (6, Field::TargetDomainName, is_any),
    (7, Field::TargetLogonId, is_hex),
    (8, Field::LogonType, is_integer),
    (11, Field::WorkstationName, is_any),
    (18, Field::IpAddress, |text| {
        is_nothing(text) || is_address(text)
    }),
    (19, Field::IpPort, |text| {
        is_nothing(text) || is_integer(text)
    }),
];

const LOGOFF_VALUES: [Position; 2] = [
    (3, Field::TargetLogonId, is_hex),
    (4, Field::LogonType, is_integer),
];

const PRIVILEGES_VALUES: [Position; 1] = [(3, Field::SubjectLogonId, is_hex)];

struct Values<'f, 'a> {
    fields: &'f Fields<'a>,
    places: Vec<Place>,
}

type Found = Vec<(Field, Place)>;

impl<'f, 'a> Values<'f, 'a> {
    /// Splits the array into its elements; `None` if it is malformed or has too many.
    fn split(fields: &'f Fields<'a>) -> Option<Self> {
        let array = fields.place(Field::Inserts);
        if array.spelling != Spelling::Array {
            return None;
        }
        let bytes = fields.bytes.get(..array.end as usize)?;
        let mut places = Vec::with_capacity(MAX_VALUES);
        let mut elements = Elements::new(bytes, array.start as usize);
        while let Some(element) = elements.next_element().ok()? {
            if places.len() == MAX_VALUES {
                return None;
            }
            // A container keeps its position, but is the value of no field.
            places.push(Place::of_value(0, element));
        }
        Some(Values { fields, places })
    }

    /// The fields of a Sysmon event.
    fn sysmon(&self, id: u32) -> Option<Found> {
        let utc = (0..3).find(|index| self.is(*index, is_utc_time))?;
        let at = |offset: usize| utc.saturating_add(offset);
        let place = |offset: usize| self.places.get(at(offset)).copied();
        if !self.is(at(1), is_guid) || !self.is(at(2), is_integer) {
            return None;
        }
        let mut found = vec![(Field::UtcTime, place(0)?), (Field::ProcessGuid, place(1)?)];
        let mut find = |field: Field, offset: usize, format: fn(&str) -> bool| -> Option<()> {
            if !self.is(at(offset), format) {
                return None;
            }
            found.push((field, place(offset)?));
            Some(())
        };
        match id {
            1 => {
                find(Field::Image, 3, is_image)?;
                let logon = self.logon_guid(utc)?;
                let command_line = logon.checked_sub(3)?;
                find(Field::CommandLine, command_line, is_any)?;
                find(Field::User, logon.checked_sub(1)?, is_any)?;
                find(Field::LogonId, logon.saturating_add(1), is_hex)?;
                find(Field::Hashes, logon.saturating_add(4), is_any)?;
                find(Field::ParentProcessGuid, logon.saturating_add(5), is_guid)?;
                find(Field::ParentImage, logon.saturating_add(7), is_any)?;
                find(Field::ParentCommandLine, logon.saturating_add(8), is_any)?;
                // FileVersion, Description, Product, Company, OriginalFileName: since schema 4.21.
                if command_line == 9 {
                    find(Field::OriginalFileName, 8, is_any)?;
                }
            }
            3 => {
                find(Field::Image, 3, is_any)?;
                find(Field::User, 4, is_any)?;
                find(Field::Protocol, 5, is_protocol)?;
                find(Field::Initiated, 6, is_truth)?;
                find(Field::SourceIp, 8, is_address)?;
                find(Field::SourcePort, 10, is_integer)?;
                find(Field::DestinationIp, 13, is_address)?;
                find(Field::DestinationPort, 15, is_integer)?;
            }
            11 => {
                find(Field::Image, 3, is_image)?;
                find(Field::TargetFilename, 4, is_image)?;
            }
            29 => {
                find(Field::User, 3, is_any)?;
                find(Field::Image, 4, is_image)?;
                find(Field::TargetFilename, 5, is_image)?;
            }
            13 => {
                find(Field::Image, 3, is_image)?;
                // Schema 3.2 has EventType between Image and TargetObject.
                let target = if self.is(at(4), is_registry_path) {
                    4
                } else {
                    5
                };
                find(Field::TargetObject, target, is_registry_path)?;
                find(Field::Details, target.saturating_add(1), is_any)?;
            }
            17 | 18 => {
                find(Field::PipeName, 3, is_any)?;
                find(Field::Image, 4, is_image)?;
            }
            _ => return None,
        }
        Some(found)
    }

    /// Where LogonGuid is in event 1, counted from UtcTime.
    ///
    /// What lies between Image and it is the program's own (Description, Company, OriginalFileName, CommandLine, ...) and can look
    /// like anything, so it is found from the end: the number of values tells the schema. It is a GUID, followed by LogonId in hex,
    /// and by ParentProcessGuid at distance 5.
    fn logon_guid(&self, utc: usize) -> Option<usize> {
        let at = |offset: usize| utc.saturating_add(offset);
        let count = self.places.len().saturating_sub(utc);
        let known = match count {
            16 => 7,
            20 => 11,
            21 | 22 => 12,
            _ => 0,
        };
        let fits = |logon: &usize| {
            self.is(at(*logon), is_guid)
                && self.is(at(logon.saturating_add(1)), is_hex)
                && self.is(at(logon.saturating_add(5)), is_guid)
        };
        if known != 0 {
            return Some(known).filter(fits);
        }
        // A schema that is not known: only if there is no choice.
        let mut fitting = (5..13).filter(fits);
        let only = fitting.next()?;
        fitting.next().is_none().then_some(only)
    }

    /// The fields of a logon.
    fn logon(&self) -> Option<Found> {
        if !self.is(3, is_hex) || !self.is(4, is_sid) || !self.is(12, is_guid) {
            return None;
        }
        self.all(&LOGON_VALUES)
    }

    /// The fields of another event of the Security channel, which begins with whom it is about.
    fn security(&self, values: &[Position]) -> Option<Found> {
        self.is(0, is_sid).then(|| self.all(values)).flatten()
    }

    /// All of these values, each in its format.
    fn all(&self, values: &[Position]) -> Option<Found> {
        let place = |(index, field, format): &Position| {
            self.is(*index, *format)
                .then_some((*field, *self.places.get(*index)?))
        };
        values.iter().map(place).collect()
    }

    fn is(&self, index: usize, format: fn(&str) -> bool) -> bool {
        let Some(place) = self.places.get(index) else {
            return false;
        };
        match place.spelling {
            Spelling::String | Spelling::Scalar => {
                format(&self.fields.text_at(*place, MAX_TEXT).unwrap_or_default())
            }
            _ => false,
        }
    }
}

fn is_any(_: &str) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use crate::record::Field;
    use crate::record::testing;

    fn text(id: u32, values: &str, field: Field) -> Option<String> {
        testing::text(
            &format!(r#"{{"EventID":{id},"StringInserts":[{values}]}}"#),
            field,
        )
    }

    #[test]
    fn a_logon_is_named() {
        let head =
            r#""S-1-5-18","WS01$","CORP","0x3e7","S-1-5-21-1-2-3-1104","alice","CORP","0x5a1f2c""#;
        let tail = r#""NtLmSsp ","NTLM","CLIENT7","{00000000-0000-0000-0000-000000000000}","-","NTLM V2",128,"0x0","-""#;
        let end = r#""%%1833","-","-","-","%%1843","0x0","%%1842""#;
        for values in [
            format!(r#"{head},3,{tail},"10.0.0.5","50211""#),
            format!(r#"{head},3,{tail},"10.0.0.5","50211",{end}"#),
        ] {
            for (field, want) in [
                (Field::LogonType, "3"),
                (Field::TargetUserName, "alice"),
                (Field::TargetDomainName, "CORP"),
                (Field::TargetLogonId, "0x5a1f2c"),
                (Field::WorkstationName, "CLIENT7"),
                (Field::IpAddress, "10.0.0.5"),
                (Field::IpPort, "50211"),
            ] {
                assert_eq!(
                    text(4624, &values, field).as_deref(),
                    Some(want),
                    "{field:?} {values}"
                );
            }
        }
        let local = format!(r#"{head},5,{tail},"-","-""#);
        assert_eq!(text(4624, &local, Field::LogonType).as_deref(), Some("5"));
        assert_eq!(text(4624, &local, Field::IpAddress), None);
        for values in [
            format!(r#"{head},"3 ",{tail},"10.0.0.5","50211""#),
            format!(r#"{head},3,{tail},"50211","10.0.0.5""#),
            // One empty value lost, as in forwarded events.
            format!(r#"{head},3,{tail},"10.0.0.5","50211""#).replacen(r#""CORP","#, "", 1),
        ] {
            assert_eq!(text(4624, &values, Field::TargetUserName), None, "{values}");
        }
    }

    #[test]
    fn what_becomes_of_a_session_is_named() {
        let whose = r#""S-1-5-21-1-2-3-1104","alice","CORP","0x5a1f2c""#;
        for (id, values, field) in [
            (4634, format!("{whose},3"), Field::TargetLogonId),
            (
                4672,
                format!(r#"{whose},"SeDebugPrivilege""#),
                Field::SubjectLogonId,
            ),
        ] {
            assert_eq!(
                text(id, &values, field).as_deref(),
                Some("0x5a1f2c"),
                "{id}"
            );
            for wrong in [
                values.replace("S-1-5", "S"),
                values.replace("0x5a1f2c", "x"),
                values.replacen(r#""alice","#, "", 1),
            ] {
                assert_eq!(text(id, &wrong, field), None, "{wrong}");
            }
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
            (
                "4.21",
                r#""-","#,
                r#""1.0","d","p","c","psexesvc.exe","#,
                "",
            ),
            (
                "4.80",
                r#""","#,
                r#""1.0","d","p","c","psexesvc.exe","#,
                r#","NT\\S""#,
            ),
        ] {
            let values = format!(r#"{lead}{head},"C:\\x.exe",{middle}{tail}{end}"#);
            assert_eq!(
                text(1, &values, Field::CommandLine).as_deref(),
                Some(r"C:\x.exe -a"),
                "{schema}"
            );
            assert_eq!(
                text(1, &values, Field::ParentImage).as_deref(),
                Some(r"C:\Windows\System32\services.exe"),
                "{schema}"
            );
            let original = middle.contains("psexesvc").then_some("psexesvc.exe");
            assert_eq!(
                text(1, &values, Field::OriginalFileName).as_deref(),
                original,
                "{schema}"
            );
        }
        let registry = r#""HKLM\\System\\CurrentControlSet\\Services\\X\\ImagePath","x""#;
        for values in [
            format!(r#"{head},"C:\\s.exe","SetValue",{registry}"#), // 3.2
            format!(r#""SetValue",{head},"C:\\s.exe",{registry}"#), // 3.3 to 4.0
            format!(r#""-","SetValue",{head},"C:\\s.exe",{registry},"u""#), // 4.80
        ] {
            assert_eq!(
                text(13, &values, Field::Details).as_deref(),
                Some("x"),
                "{values}"
            );
        }
    }

    #[test]
    fn no_value_is_read_if_one_has_the_wrong_format() {
        let head = format!(r#""2024-09-14 09:52:31.870",{GUID},4"#);
        for values in [
            // An address is missing: forwarded events lose empty values and everything moves up.
            format!(
                r#"{head},"System","u","tcp",false,false,"10.0.0.5",50211,false,"10.0.0.21","WS01",445"#
            ),
            format!(
                r#"{head},"System","u","tcp",[false],false,"10.0.0.5","-",50211,"-",false,"10.0.0.21","-",445,"-""#
            ),
            format!(
                r#""-","-","-",{head},"System","u","tcp",false,false,"10.0.0.5","-",50211,"-",false,"10.0.0.21","-",445,"-""#
            ),
        ] {
            assert_eq!(text(3, &values, Field::SourceIp), None, "{values}");
            assert_eq!(text(3, &values, Field::UtcTime), None, "{values}");
        }
        let good = format!(
            r#"{head},"System","u","tcp",false,false,"10.0.0.5","-",50211,"-",false,"10.0.0.21","-",445,"-""#
        );
        assert_eq!(text(3, &good, Field::SourceIp).as_deref(), Some("10.0.0.5"));
    }
}
