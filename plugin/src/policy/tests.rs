use super::*;

#[test]
fn a_policy_survives_packing() {
    let text = r#"{"windows":{"suppress":"1h"},"limits":{"hosts":7},"alert":{"key":"x","min_severity":"high","stats_interval":"90s"},
        "allow":[{"source":["10.0.0.0/8","fe80::1"],"host":["WS01"],"reason":"backup"}]}"#;
    let policy: Policy = serde_json::from_str(text).unwrap();
    assert_eq!(policy.windows.suppress, Millis(3_600_000));
    assert_eq!(policy.limits.hosts.get(), 7);
    assert!(policy.allow[0].host.hit("ws01"));
    let packed = serde_json::to_string(&policy).unwrap();
    assert_eq!(serde_json::from_str::<Policy>(&packed).unwrap(), policy);
}

#[test]
fn a_wrong_policy_is_refused_with_what_was_expected() {
    for (text, want) in [
        (
            r#"{"windos":{}}"#,
            "unknown field `windos`, expected one of",
        ),
        (
            r#"{"windows":{"suppress":"5 minutes"}}"#,
            "such as `1500ms`",
        ),
        (r#"{"windows":{"suppress":"25h"}}"#, "up to a day"),
        (r#"{"limits":{"hosts":0}}"#, "from 1 to 4096"),
        (r#"{"limits":{"hosts":-1}}"#, "from 1 to 4096"),
        (r#"{"alert":{"key":"a\"b"}}"#, "expected 1 to 64 letters"),
        (
            r#"{"alert":{"min_severity":"urgent"}}"#,
            "expected one of `informational`",
        ),
        (
            r#"{"allow":[{"source":["10.0.0.0/40"],"reason":"x"}]}"#,
            "expected for example `10.1.2.3`",
        ),
        (r#"{"allow":[{"reason":"x"}]}"#, "would allow everything"),
        (r#"{"allow":[{"host":["a"]}]}"#, "missing field `reason`"),
        (
            r#"{"allow":[{"process":["*\\a.exe"],"reason":"x"}]}"#,
            "allows everybody who chooses that name",
        ),
        (
            r#"{"allow":[{"hash":["abc"],"reason":"x"}]}"#,
            "is not a hash",
        ),
        (
            r#"{"allow":[{"host":["a"],"until":"tomorrow","reason":"x"}]}"#,
            "expected `2027-03-31`",
        ),
        (
            r#"{"allow":[{"host":["a"],"reason":" "}]}"#,
            "needs a `reason`",
        ),
        (
            r#"{"allow":[{"user":["re:(a"],"reason":"x"}]}"#,
            "is not a regular expression that can be used",
        ),
        (
            r#"{"allow":[{"user":["re:^(a(b(c)))"],"reason":"x"}]}"#,
            "groups nested 3 deep",
        ),
        (
            r#"{"allow":[{"user":["re:^xa{2}{2}{2}{2}{2}{2}{2}{2}"],"reason":"x"}]}"#,
            "nest",
        ),
        (
            r#"{"allow":[{"user":["re:(?x)^a #"],"reason":"x"}]}"#,
            "flag x",
        ),
        (
            r#"{"allow":[{"user":["re:(?:[^!]?){100}!"],"reason":"x"}]}"#,
            "a program of at most 4096 bytes",
        ),
    ] {
        let error = serde_json::from_str::<Policy>(text)
            .unwrap_err()
            .to_string();
        assert!(error.contains(want), "{text}: {error}");
    }
}

/// What a list of an entry can hold: `None` if it is accepted, else a part of the message.
#[test]
fn what_matches_nothing_or_everything_is_refused() {
    const NEVER: Option<&str> = Some("never matches");
    const ALL: Option<&str> = Some("nearly every");
    const NOTHING: Option<&str> = Some("expected the MD5, SHA1 or SHA256 of a program");
    const ADDRESSES: Option<&str> = Some("every address there is");
    const DATE: Option<&str> = Some("is not a date that there is");
    const EMPTY: Option<&str> = Some("restricts nothing");
    let zeros = format!("['{}']", "0".repeat(64));
    for (field, value, want) in [
        ("hash", zeros.as_str(), NOTHING),
        ("hash", "['00000000000000000000000000000000']", NOTHING),
        ("hash", "['D41D8CD98F00B204E9800998ECF8427E']", NOTHING),
        (
            "hash",
            "['da39a3ee5e6b4b0d3255bfef95601890afd80709']",
            NOTHING,
        ),
        (
            "hash",
            "['e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855']",
            NOTHING,
        ),
        (
            "hash",
            "['IMPHASH=00112233445566778899aabbccddeeff']",
            NOTHING,
        ),
        ("hash", "['00112233445566778899aabbccddeeff']", None),
        ("hash", "[]", EMPTY),
        ("source", "['0.0.0.0/0']", ADDRESSES),
        ("source", "['::/0']", ADDRESSES),
        (
            "source",
            "['0.0.0.0/1', '10.0.0.0/8', '128.0.0.0/1']",
            ADDRESSES,
        ),
        ("source", "['0.0.0.0/1', '::ffff:128.0.0.0/97']", ADDRESSES),
        ("source", "['8000::/1', '::/1']", ADDRESSES),
        ("source", "['0.0.0.0/1', '8000::/1']", None),
        ("source", "[]", EMPTY),
        ("user", "['*']", ALL),
        ("user", r"['*\\*']", ALL),
        ("user", "['re:.']", ALL),
        ("user", "['re:.*']", ALL),
        ("user", r"['re:\\\\']", ALL),
        ("user", "['re:']", ALL),
        ("user", r"['corp\\*', 're:^[^c]']", ALL),
        ("user", "['?*']", NEVER),
        ("user", r"['CORP\\\\alice']", NEVER),
        ("user", "['CORP/alice']", NEVER),
        ("user", "['alice ']", NEVER),
        ("user", "['']", Some("expected a pattern of 1 to 1024")),
        ("user", r"['corp\\*', '*alice', 'svc-*']", None),
        ("user", "[]", EMPTY),
        ("host", "['*']", ALL),
        ("host", "['*.*']", ALL),
        ("host", "['re:.']", ALL),
        ("host", "['*.corp.example', '*.net', '*.local']", ALL),
        ("host", "['pc?']", NEVER),
        ("host", r"['\\\\ws01']", NEVER),
        ("host", "['pc 1']", NEVER),
        (
            "host",
            "['ws01', 'WS01.corp.example', '*.corp.example', 'ws*', '10.0.0.5', 'fe80::1']",
            None,
        ),
        ("process", "['*.exe']", ALL),
        ("process", "['*.*']", ALL),
        ("process", r"['*\\*']", ALL),
        ("process", r"['*:\\*']", ALL),
        ("process", r"['C:\\*']", ALL),
        ("process", r"['re:\\.exe$']", ALL),
        (
            "process",
            r"['*\\windows\\*', '*\\users\\*', 're:program']",
            ALL,
        ),
        ("process", "['?*']", NEVER),
        ("process", "['C:/Windows/a.exe']", NEVER),
        ("process", r#"['\"C:\\a.exe\"']"#, NEVER),
        ("process", "['a.exe']", NEVER),
        ("process", "['psexe*']", NEVER),
        ("process", r"['C:\\\\Windows\\\\a.exe']", NEVER),
        ("process", r"['%SystemRoot%\\a.exe']", NEVER),
        ("process", r"['C:\\Windows\\']", NEVER),
        ("process", r"['*\\a?.exe']", NEVER),
        (
            "process",
            r"['C:\\Windows\\a.exe', '*\\a.exe', '?:\\a.exe', '\\\\srv\\share\\*', '\\\\?\\C:\\a.exe', '*\\windows\\*']",
            None,
        ),
        ("service", "['*']", ALL),
        ("service", r"['re:^\\w']", ALL),
        ("service", "['svc?']", NEVER),
        ("service", r"['a\\b']", NEVER),
        ("service", "['PSEXESVC', 'Update Service*']", None),
        ("until", "'2027-02-30'", DATE),
        ("until", "'2027-02-29'", DATE),
        ("until", "'2027-13-01'", DATE),
        ("until", "'2027-04-31T10:00:00Z'", DATE),
        ("until", "'2027-00-10'", DATE),
        ("until", "''", DATE),
        ("until", "'2027'", DATE),
        ("until", "'2028-02-29'", None),
        ("until", "'1999-12-31'", None),
        ("until", "'2027-03-31T18:00:00+02:00'", None),
    ] {
        let more = if field == "host" {
            ""
        } else {
            r#""host":["ws01"],"#
        };
        let value = value.replace('\'', "\"");
        let text = format!(r#"{{"allow":[{{"reason":"x",{more}"{field}":{value}}}]}}"#);
        let error = serde_json::from_str::<Policy>(&text).map_err(|error| error.to_string());
        match want {
            None => assert!(error.is_ok(), "{text}: {error:?}"),
            Some(want) => {
                let error = error.expect_err(&text);
                assert!(
                    error.contains(want) && error.contains("expected"),
                    "{text}: {error}"
                );
            }
        }
    }
}

/// Lists outside of the allow-list.
#[test]
fn what_matches_nothing_or_everything_is_refused_in_every_section() {
    for (text, want) in [
        (
            r#"{"smbexec":{"commands":["*"]}}"#,
            Some("nearly every command line"),
        ),
        (
            r#"{"wmiexec":{"commands":["*.exe*"]}}"#,
            Some("nearly every command line"),
        ),
        (
            r#"{"smbexec":{"ignore":["* *"]}}"#,
            Some("nearly every service"),
        ),
        (
            r#"{"wmiexec":{"ignore":["*.exe"]}}"#,
            Some("nearly every program"),
        ),
        (
            r#"{"scshell":{"ignore":["c:/a.exe"]}}"#,
            Some("never matches"),
        ),
        (
            r#"{"suspicious":{"folders":["*\\temp\\"]}}"#,
            Some("never matches"),
        ),
        (
            r#"{"suspicious":{"folders":["*:*"]}}"#,
            Some("nearly every program"),
        ),
        (
            r#"{"psexec":{"pipes":["\\psexesvc*"]}}"#,
            Some("expected the name alone"),
        ),
        (
            r#"{"psexec":{"pipes":["re:^psexe"]}}"#,
            Some("a regular expression"),
        ),
        (
            r#"{"psexec":{"pipes":["*"]}}"#,
            Some("nothing that excludes any pipe"),
        ),
        (r#"{"psexec":{"pipes":[""]}}"#, Some("expected a name")),
        (
            r#"{"suspicious":{"interpreters":["C:\\Windows\\cmd.exe"]}}"#,
            Some("is not a file name"),
        ),
        (
            r#"{"suspicious":{"system_programs":["*.exe"]}}"#,
            Some("is not a file name"),
        ),
        (
            r#"{"dcomexec":{"programs":["mmc.exe "]}}"#,
            Some("is not a file name"),
        ),
        (
            r#"{"connection":{"dynamic_programs":[""]}}"#,
            Some("is not a file name"),
        ),
        (r#"{"connection":{"ports":[445,0]}}"#, Some("port 0")),
        (
            r#"{"smbexec":{"commands":[],"ignore":[]},"psexec":{"pipes":[]},"connection":{"ports":[]},"wmiexec":{"ignore":[]}}"#,
            None,
        ),
    ] {
        let error = serde_json::from_str::<Policy>(text).map_err(|error| error.to_string());
        match want {
            None => assert!(error.is_ok(), "{text}: {error:?}"),
            Some(want) => {
                let error = error.expect_err(text);
                assert!(error.contains(want), "{text}: {error}");
            }
        }
    }
}
