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
            r#"{"allow":[{"host":["*"],"reason":"x"}]}"#,
            "matches everything",
        ),
        (
            r#"{"allow":[{"user":["*\\*"],"reason":"x"}]}"#,
            "matches everything",
        ),
        (
            r#"{"allow":[{"process":["*.*"],"reason":"x"}]}"#,
            "matches everything",
        ),
        (
            r#"{"allow":[{"user":["re:."],"reason":"x"}]}"#,
            "matches everything",
        ),
        (
            r#"{"allow":[{"source":["0.0.0.0/0"],"reason":"x"}]}"#,
            "every address",
        ),
        (
            r#"{"allow":[{"user":["re:.*"],"reason":"x"}]}"#,
            "matches everything",
        ),
        (
            r#"{"allow":[{"user":["re:(a"],"reason":"x"}]}"#,
            "is not a regular expression",
        ),
        (
            r#"{"allow":[{"user":["re:^(a(b(c)))"],"reason":"x"}]}"#,
            "has groups nested 3 deep; expected at most 2",
        ),
        (
            r#"{"allow":[{"user":["re:^xa{2}{2}{2}{2}{2}{2}{2}{2}"],"reason":"x"}]}"#,
            "too much nesting",
        ),
        (
            r#"{"allow":[{"user":["re:(?x)^a #"],"reason":"x"}]}"#,
            "without white space and comments",
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
    ] {
        let error = serde_json::from_str::<Policy>(text)
            .unwrap_err()
            .to_string();
        assert!(error.contains(want), "{text}: {error}");
    }
}
