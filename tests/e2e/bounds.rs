//! Every limit, reached: it takes effect, it is counted, and it does not cost more than it must.

use psexec_filter::engine::{Engine, Options};
use psexec_filter_tests::{
    CMD, Host, STARTS, TIGHT, alerts, call, counter, engines, incidents, module, module_with,
    policy_engine,
};
use serde_json::{Value, json};

/// Checks the value of a counter.
fn expect(engine: &mut dyn Engine, name: &str, good: impl Fn(u64) -> bool) {
    let value = counter(engine, name);
    assert!(good(value), "{name} is {value}");
}

/// The severity of the last alert.
fn severity(alerts: &[Value]) -> Option<&str> {
    alerts.last().and_then(|alert| alert["severity"].as_str())
}

/// A flood of one kind of evidence between the records of an attack: of connections, of files copied to a share, of files of an
/// update, of services, of processes. The attack is found all the same.
#[test]
fn a_flood_on_a_host_does_not_hide_an_attack() {
    type Flood = fn(&Host, i64) -> String;
    let floods: [(&str, Flood); 5] = [
        ("connections", |host, n| {
            host.connection(
                n,
                &format!("10.{}.{}.{}", n >> 16 & 255, n >> 8 & 255, n & 255),
            )
        }),
        ("files over SMB", |host, n| {
            host.file(n, "System", &format!(r"C:\Share\{n}.docx"))
        }),
        ("programs of an update", |host, n| {
            host.file(n, r"C:\update.exe", &format!(r"C:\Windows\WinSxS\{n}.dll"))
        }),
        ("services", |host, n| {
            host.service(n, &format!("S{n}"), &format!(r"C:\Program Files\{n}.exe"))
        }),
        ("processes", |host, n| {
            host.start(n, n as u32, &format!(r"C:\Windows\System32\{n}.exe"))
        }),
    ];
    for (engine, mut module) in engines(module()) {
        for (number, (what, flood)) in floods.iter().enumerate() {
            let host = Host::new(&format!("PC{number}"));
            let mut records = Vec::new();
            for (step, record) in host.psexec(0, 7, "10.55.1.77").into_iter().enumerate() {
                records.push(record);
                // All within the windows, and no closer to the attack than Sysmon's own delays.
                records.extend((0..40).map(|n| flood(&host, 2_000 + 100 * (40 * step as i64 + n))));
            }
            let alerts = alerts(&mut *module, &records);
            let attack: Vec<Value> = alerts
                .into_iter()
                .filter(|alert| alert["process"]["executable"] == r"C:\Windows\PSEXESVC.exe")
                .collect();
            assert!(
                matches!(severity(&attack), Some("critical")),
                "{what} on {engine}: {:?}",
                severity(&attack)
            );
        }
        expect(&mut *module, "evicted_evidence", |count| count > 100);
    }
}

#[test]
fn evidence_beyond_evidence_per_host_is_evicted() {
    let (_, mut module) = policy_engine("[limits]\nevidence_per_host = 16");
    let host = Host::new("PC1");
    for n in 0..4 {
        assert_eq!(
            call(
                &mut *module,
                &host.connection(n * 10, &format!("10.1.0.{n}"))
            ),
            None
        );
    }
    expect(&mut *module, "evicted_evidence", |count| count == 0);
    assert_eq!(call(&mut *module, &host.connection(100, "10.1.1.1")), None);
    expect(&mut *module, "evicted_evidence", |count| count == 1);
}

/// Of evidence that joins to the same things, the fifth takes the place of the first.
#[test]
fn at_most_four_pieces_of_evidence_that_join_alike_are_kept() {
    for (_, mut module) in engines(module()) {
        let host = Host::new("PC1");
        for n in 0..5 {
            expect(&mut *module, "evicted_evidence", |count| count == 0);
            assert_eq!(
                call(
                    &mut *module,
                    &host.file(n * 3_000, "System", r"C:\Windows\a.exe")
                ),
                None
            );
        }
        expect(&mut *module, "evicted_evidence", |count| count == 1);
    }
}

/// Beyond the limit the host that was silent longest is forgotten, preferably one without an incident.
#[test]
fn hosts_beyond_the_limit_are_forgotten_those_with_incidents_last() {
    let (_, mut module) = policy_engine("[limits]\nhosts = 3");
    let attacked = Host::new("attacked");
    assert!(!alerts(&mut *module, &attacked.psexec(0, 7, "10.55.1.77")[..3]).is_empty());
    for n in 0..50 {
        assert_eq!(
            call(
                &mut *module,
                &Host::new(&format!("PC{n}")).connection(1_000, "10.1.1.1")
            ),
            None
        );
    }
    expect(&mut *module, "evicted_hosts", |count| count == 48);
    let late = call(&mut *module, &attacked.connection(1_580, "10.55.1.77")).expect("a revision");
    assert_eq!(
        (&late["revision"], &late["severity"]),
        (&json!(2), &json!("critical"))
    );
}

/// A flood on one host that takes more than the memory for all hosts costs that host its evidence, and not the others.
#[test]
fn memory_beyond_state_bytes_is_taken_from_the_largest_host() {
    let (_, mut module) = policy_engine("[limits]\nstate_bytes = 65536\nevidence_per_host = 256");
    let quiet = Host::new("quiet");
    let attack = quiet.psexec(0, 7, "10.55.1.77");
    assert!(alerts(&mut *module, &attack[..1]).is_empty());
    let noisy = Host::new("noisy");
    for n in 0..2_000 {
        let path = format!(r"C:\Windows\{}\{n}.exe", "x".repeat(900));
        assert_eq!(call(&mut *module, &noisy.file(n, "System", &path)), None);
    }
    expect(&mut *module, "evicted_bytes", |count| count > 100);
    let stats: Value =
        serde_json::from_str(&module.stats().expect("stats").expect("some")).expect("JSON");
    assert!(
        stats["state_bytes"]
            .as_u64()
            .is_some_and(|bytes| bytes <= 65_536),
        "{}",
        stats["state_bytes"]
    );
    assert_eq!(
        severity(&alerts(&mut *module, &attack[1..])),
        Some("critical")
    );
}

#[test]
fn incidents_beyond_incidents_per_host_are_evicted() {
    let (_, mut module) = policy_engine("[limits]\nincidents_per_host = 2");
    let host = Host::new("PC1");
    for n in 0..5u32 {
        let path = format!(r"C:\Windows\{n}.exe");
        let records = [
            host.file(i64::from(n) * 100, "System", &path),
            host.start(i64::from(n) * 100 + 50, 100 + n, &path),
        ];
        assert_eq!(severity(&alerts(&mut *module, &records)), Some("medium"));
    }
    expect(&mut *module, "evicted_incidents", |count| count == 3);
}

#[test]
fn revisions_beyond_the_limit_are_counted_and_not_alerted() {
    let (_, mut module) = policy_engine("[limits]\nrevisions = 1");
    let alerts = alerts(&mut *module, &Host::new("PC1").psexec(0, 7, "10.55.1.77"));
    assert_eq!(alerts.len(), 1);
    expect(&mut *module, "revisions_over_limit", |count| count > 0);
    expect(&mut *module, "revisions", |count| count == 0);
}

/// A record that already has both keys cannot carry an alert. The alert waits for the host's next record, in a queue with a limit.
#[test]
fn alerts_wait_for_a_record_that_can_carry_them() {
    let (_, mut module) = policy_engine("[limits]\npending_per_host = 2");
    let host = Host::new("PC1");
    let full = |record: String| {
        let mut record: Value = serde_json::from_str(&record).expect("JSON");
        record["detection"] = json!("theirs");
        record["detection_psexec_filter"] = json!("theirs as well");
        record.to_string()
    };
    for n in 0..4u32 {
        let path = format!(r"C:\Windows\{n}.exe");
        assert_eq!(
            call(
                &mut *module,
                &full(host.file(i64::from(n) * 100, "System", &path))
            ),
            None
        );
        assert_eq!(
            call(
                &mut *module,
                &full(host.start(i64::from(n) * 100 + 50, 100 + n, &path))
            ),
            None
        );
    }
    expect(&mut *module, "put_off", |count| count >= 4);
    expect(&mut *module, "evicted_pending", |count| count == 2);
    // The next record of the host carries one of them, whatever the record is. flush() hands out the other.
    let other = Host::new("PC2").event(
        1,
        1_000,
        json!({"Image": "C:\\a.exe", "ParentImage": "C:\\b.exe"}),
    );
    assert_eq!(
        call(&mut *module, &other),
        None,
        "another host's record carries none"
    );
    let next = host.event(
        1,
        1_000,
        json!({"Image": "C:\\a.exe", "ParentImage": "C:\\b.exe"}),
    );
    let carried = call(&mut *module, &next).expect("an alert");
    assert_eq!(carried["process"]["executable"], r"C:\Windows\2.exe");
    let flushed = module.flush().expect("flush");
    assert_eq!(flushed.len(), 1);
    assert!(flushed[0].contains(r"C:\\Windows\\3.exe"), "{}", flushed[0]);
    expect(&mut *module, "alerts", |count| count == 4);
}

/// Of the alerts that wait, the one of the least severity is evicted.
#[test]
fn the_least_severe_of_the_waiting_alerts_is_evicted() {
    let (_, mut module) = policy_engine("[limits]\npending_per_host = 1");
    let host = Host::new("PC1");
    let full =
        |record: String| record.replacen('{', r#"{"detection":1,"detection_psexec_filter":1,"#, 1);
    for (n, writer) in ["System", r"C:\Users\a\setup.exe"].into_iter().enumerate() {
        let (path, at) = (format!(r"C:\Windows\{n}.exe"), n as i64 * 100);
        assert_eq!(
            call(&mut *module, &full(host.file(at, writer, &path))),
            None
        );
        assert_eq!(
            call(
                &mut *module,
                &full(host.start(at + 50, 100 + n as u32, &path))
            ),
            None
        );
    }
    expect(&mut *module, "evicted_pending", |count| count == 1);
    let kept = module.flush().expect("flush");
    assert!(
        kept.len() == 1
            && kept[0].contains(r"C:\\Windows\\0.exe")
            && !kept[0].contains(r#""severity":"low""#),
        "{kept:?}"
    );
}

/// Hosts that have been silent for hours are forgotten before the host that needs memory gives up evidence, even if it holds the most.
#[test]
fn silent_hosts_are_forgotten_before_evidence_of_active_ones() {
    let (engine, mut module) = policy_engine("[limits]\nstate_bytes = 65536");
    for n in 0..100 {
        let host = Host::new(&format!("OLD{n}"));
        (0..4).for_each(|file| {
            drop(call(
                &mut *module,
                &host.file(file, "System", &format!(r"C:\Windows\{file}.exe")),
            ))
        });
    }
    let (host, hours) = (Host::new("NEW"), 3 * 3_600_000);
    // What else goes on there.
    for n in 0..20i64 {
        call(
            &mut *module,
            &host.file(
                hours + n,
                "System",
                &format!(r"C:\Windows\Temp\{}\{n}.exe", "a long name ".repeat(40)),
            ),
        );
    }
    let before = counter(&mut *module, "evicted_bytes");
    let alerted: Vec<Value> = host
        .psexec(hours + 100, 20, "10.0.0.5")
        .iter()
        .filter_map(|record| call(&mut *module, record))
        .collect();
    assert_eq!(
        alerted.last().map(|alert| &alert["severity"]),
        Some(&json!("critical")),
        "{engine}"
    );
    expect(&mut *module, "evicted_hosts", |count| count > 0);
    expect(&mut *module, "evicted_bytes", |count| count == before);
}

/// `limits.tracked_processes` takes effect with the first process beyond it.
#[test]
fn tracked_processes_beyond_the_limit_are_evicted() {
    let (_, mut module) = policy_engine("[limits]\ntracked_processes = 1");
    let host = Host::new("PC1");
    for n in 0..2u32 {
        let (path, at) = (format!(r"C:\Windows\{n}.exe"), i64::from(n) * 100);
        call(&mut *module, &host.file(at, "System", &path));
        call(&mut *module, &host.start(at + 50, 100 + n, &path));
    }
    expect(&mut *module, "evicted_tracked_processes", |count| {
        count == 1
    });
}

/// An alert is added under the second key if the record has the first, however it is escaped.
#[test]
fn an_alert_takes_the_second_key_if_the_first_is_taken() {
    for (_, mut module) in engines(module()) {
        let host = Host::new("PC1");
        assert_eq!(
            call(&mut *module, &host.file(0, "System", r"C:\Windows\a.exe")),
            None
        );
        let record =
            host.start(50, 1, r"C:\Windows\a.exe")
                .replacen('{', r#"{"d\u0065tection":1,"#, 1);
        let psexec_filter::engine::Answer::Changed(changed) = module
            .call("t", 0, 0, record.as_bytes())
            .expect("an answer")
        else {
            panic!("no alert")
        };
        let changed: Value = serde_json::from_slice(&changed).expect("JSON");
        assert_eq!(
            (
                &changed["detection"],
                &changed["detection_psexec_filter"]["kind"]
            ),
            (&json!(1), &json!("alert"))
        );
        expect(&mut *module, "key_taken", |count| count == 1);
    }
}

#[test]
fn the_seventeenth_anchor_of_an_incident_evicts_the_first() {
    for (_, mut module) in engines(module()) {
        let host = Host::new("PC1");
        for n in 0..17u32 {
            expect(&mut *module, "evicted_anchors", |count| count == 0);
            alerts(
                &mut *module,
                &host.psexec(i64::from(n) * 20_000, 100 + n, "10.55.1.77"),
            );
        }
        expect(&mut *module, "evicted_anchors", |count| count == 1);
    }
}

#[test]
fn the_fifth_own_address_of_a_host_evicts_the_first() {
    for (_, mut module) in engines(module()) {
        for n in 1..=5 {
            expect(&mut *module, "evicted_addresses", |count| count == 0);
            let record = json!({"Image": "a", "Protocol": "tcp", "Initiated": "true", "SourceIp": format!("10.0.0.{n}"), "SourcePort": "50000",
                "DestinationIp": "10.0.0.99", "DestinationPort": "445"});
            assert_eq!(
                call(&mut *module, &Host::new("PC1").event(3, n, record)),
                None
            );
        }
        expect(&mut *module, "evicted_addresses", |count| count == 1);
    }
}

/// Paths of 32 KiB are cut to 1 KiB and still join.
#[test]
fn texts_longer_than_a_kibibyte_are_cut_and_still_join() {
    for (_, mut module) in engines(module()) {
        let host = Host::new("PC1");
        let path = format!(r"C:\Windows\{}.exe", "long".repeat(8_000));
        let records = [host.file(0, "System", &path), host.start(50, 1, &path)];
        let alerts = alerts(&mut *module, &records);
        assert_eq!(severity(&alerts), Some("medium"));
        assert_eq!(alerts[0]["file"]["path"].as_str().map(str::len), Some(1024));
        expect(&mut *module, "text_cut", |count| count == 2);
    }
}

/// Every regular expression that a policy may have fits on Fluent Bit's stack. Those that do not, or are too large, are refused when the
/// policy is read.
#[test]
fn regular_expressions_that_are_accepted_fit_on_the_stack() {
    let places = [
        "[smbexec]\ncommands = ['re:PATTERN']",
        "[wmiexec]\nignore = ['re:PATTERN']",
        "[scshell]\nignore = ['re:PATTERN']",
        "[suspicious]\nfolders = ['re:PATTERN']",
        "[[allow]]\nreason = 'x'\nuser = ['re:PATTERN']",
        "[[allow]]\nreason = 'x'\nhost = ['re:PATTERN']",
        "[[allow]]\nreason = 'x'\nby_name_alone = true\nprocess = ['re:PATTERN']",
        "[[allow]]\nreason = 'x'\nby_name_alone = true\nservice = ['re:PATTERN']",
    ];
    let (engine, start) = STARTS.last().expect("an engine");
    for (pattern, is_accepted) in [
        (r"^z((a{2}|b[c-z])\bd|\x{41}[[:alpha:]])?", true),
        (r"^z((?:\d|[b-z]{1,2})[^\W_]?)?", true),
        ("^z((a{1,2}|b){1,2}|c){1,2}", true),
        ("^za{2}{1}{2}{1}{2}{1}{2}", true),
        ("^za{1,2}{1}{1,2}{1}{1,2}{1}{1,2}", true),
        ("^z([b-z]{1,2}{1}{1,2}{1}){2}", true),
        ("^z(((a)))", false),
        ("^z([^])](y[^])](x[^])](wa))))", false),
        ("(?x)^z # [", false),
        ("^za{1,2}{1,2}{1,2}{1,2}{1,2}{1,2}{1,2}{1,2}", false),
        ("^z[a-z]{30}", true),
        ("^z[a-z]{200}", false),
    ] {
        for place in places {
            let policy = place.replace("PATTERN", pattern);
            let read = psexec_filter_pack::policy_from_toml(&policy, "policy.toml");
            assert_eq!(read.is_ok(), is_accepted, "{policy}");
            if !is_accepted {
                continue;
            }
            // Compiling takes more than the 6 KiB that everything else is tested with.
            let mut module = start(&module_with(&policy), Options::default());
            assert!(module.call("", 0, 0, b"{}").is_ok(), "{policy} on {engine}");
            expect(&mut *module, "policy_refused", |count| count == 0);
        }
    }
    // Every chain that matches them.
    let (_, mut module) = policy_engine(&places.join("\n").replace("PATTERN", "^z[a-z]{2}x"));
    let (host, line) = (
        Host::new("PC1"),
        r"C:\Windows\System32\cmd.exe /Q /c whoami 1> \\127.0.0.1\ADMIN$\__1.7 2>&1",
    );
    let service = [
        host.new_service(20_000, "BTOBTO", line),
        vec![host.command(20_060, 8, line)],
    ]
    .concat();
    let changed = vec![
        host.service(40_000, "Fax", line),
        host.command(40_060, 9, line),
        host.service(41_000, "Fax", r"C:\fxssvc.exe"),
    ];
    let wmi = vec![
        host.connection(60_000, "10.55.1.77"),
        host.wmi(60_100, 10, CMD, line, "0x1d313d"),
    ];
    let alerted = incidents(&alerts(
        &mut *module,
        &[host.psexec(0, 7, "10.55.1.77"), service, changed, wmi].concat(),
    ));
    assert_eq!(
        alerted,
        [
            "psexec critical",
            "smbexec high",
            "scshell critical",
            "wmiexec high"
        ]
    );
}

/// What `pack` refuses the module refuses, too, if it gets there all the same: it then runs with the default policy, and counts that.
#[test]
fn a_policy_that_is_refused_leaves_the_module_with_the_default() {
    let (engine, start) = STARTS.last().expect("an engine");
    let entry =
        |field: &str| format!(r#"{{"allow":[{{"reason":"x","by_name_alone":true,{field}}}]}}"#);
    for (json, is_refused) in [
        (r#"{"psexec":{"enabled":false}}"#.to_owned(), false),
        (entry(r#""process":["*\\psexesvc.exe"]"#), false),
        (entry(r#""process":["*.exe"]"#), true),
        (entry(r#""process":["a.exe"]"#), true),
        (entry(r#""host":[]"#), true),
        (entry(r#""source":["0.0.0.0/1","128.0.0.0/1"]"#), true),
        (
            entry(r#""hash":["d41d8cd98f00b204e9800998ecf8427e"]"#),
            true,
        ),
        (entry(r#""host":["a"],"until":"2027-02-30""#), true),
        (
            r#"{"suspicious":{"interpreters":["*.exe"]}}"#.to_owned(),
            true,
        ),
        (entry(r#""process":["re:(a"]"#), true),
        (entry(r#""process":["re:."]"#), true),
    ] {
        let length = u32::try_from(json.len())
            .expect("it is short")
            .to_le_bytes();
        let region = [&length[..], json.as_bytes()].concat();
        let options = Options {
            policy: Some(&region),
            ..TIGHT
        };
        let mut module = start(module(), options);
        let alerted = alerts(&mut *module, &Host::new("PC1").psexec(0, 7, "10.55.1.77"));
        expect(&mut *module, "policy_refused", |count| {
            count == u64::from(is_refused)
        });
        let is_default = severity(&alerted) == Some("critical");
        assert_eq!(is_default, is_refused, "{json} on {engine}");
    }
}

/// An event inside a string is read from the string's first 256 KiB. XML is read up to there; JSON that does not end there is not
/// read.
#[test]
fn an_event_inside_a_string_is_read_from_its_first_256_kib() {
    for (_, mut module) in engines(module()) {
        let long = "x".repeat(256 * 1024);
        let xml = |tail: &str| {
            json!({"log": format!(
                "<Event><System><Provider Name='Microsoft-Windows-Sysmon'/><EventID>11</EventID>\
                 <TimeCreated SystemTime='2024-09-14T09:52:33.000Z'/><Computer>PC1</Computer></System><EventData>\
                 <Data Name='Image'>System</Data><Data Name='TargetFilename'>C:\\Windows\\a.exe</Data>{tail}</EventData></Event>"
            )})
        };
        let nested = |tail: &str| json!({"log": json!({"EventID": 11, "Image": "System", "tail": tail}).to_string()});
        for (record, cut, too_large, events) in [
            (xml(""), 0, 0, 1),
            (xml(&long), 1, 0, 2),
            (nested(""), 1, 0, 2),
            (nested(&long), 1, 1, 2),
            (json!({"log": long, "EventID": 5}), 1, 1, 2),
        ] {
            assert_eq!(call(&mut *module, &record.to_string()), None);
            expect(&mut *module, "text_cut", |count| count == cut);
            expect(&mut *module, "unparsed_too_large", |count| {
                count == too_large
            });
            expect(&mut *module, "events", |count| count == events);
        }
    }
}

/// Records from the far future or past do not make the filter forget what it remembers.
#[test]
fn records_with_wild_times_do_not_hide_an_attack() {
    for (_, mut module) in engines(module()) {
        let host = Host::new("PC1");
        let mut records = host.psexec(0, 7, "10.55.1.77");
        for (index, jump) in [
            (4, 2_400_000_000_000),
            (3, -900_000_000_000),
            (2, 2_400_000_000_000),
            (1, 86_400_000),
        ] {
            records.insert(index, host.file(jump, "System", r"C:\Windows\a.exe"));
        }
        assert_eq!(severity(&alerts(&mut *module, &records)), Some("critical"));
        expect(&mut *module, "clock_jumps", |count| count >= 4);
    }
}

#[test]
fn alerts_below_min_severity_are_counted_and_not_added() {
    let (_, mut module) = policy_engine("[alert]\nmin_severity = \"critical\"");
    let alerts = alerts(&mut *module, &Host::new("PC1").psexec(0, 7, "10.55.1.77"));
    assert_eq!(alerts.len(), 1);
    assert_eq!(
        (&alerts[0]["severity"], &alerts[0]["revision"]),
        (&json!("critical"), &json!(1))
    );
    expect(&mut *module, "below_min_severity", |count| count > 0);
}

/// With an interval the counters are added to a record, because Fluent Bit offers no other way out for them.
#[test]
fn counters_are_added_to_a_record_at_each_interval() {
    let (_, mut module) = policy_engine("[alert]\nstats_interval = \"60s\"");
    let host = Host::new("PC1");
    let mut alerted = Vec::new();
    for n in 0..13 {
        alerted.extend(call(&mut *module, &host.connection(n * 10_000, "10.1.1.1")));
    }
    let records: Vec<_> = alerted
        .iter()
        .map(|stats| (&stats["kind"], &stats["counters"]["records"]))
        .collect();
    assert_eq!(
        records,
        [(&json!("stats"), &json!(7)), (&json!("stats"), &json!(13))]
    );
}

/// If the policy in the module was damaged after packing, the default policy applies, and a counter shows it.
#[test]
fn a_damaged_policy_leaves_the_default_in_force_and_is_counted() {
    let mut module = module_with("[alert]\nkey = \"elsewhere\"");
    let at = module
        .windows(11)
        .position(|bytes| bytes == b"\"elsewhere\"")
        .expect("the policy in the module");
    module[at..at + 11].copy_from_slice(b"[elsewhere]");
    for (_, mut engine) in engines(&module) {
        let records = Host::new("PC1").psexec(0, 7, "10.55.1.77");
        assert_eq!(severity(&alerts(&mut *engine, &records)), Some("critical"));
        expect(&mut *engine, "policy_refused", |count| count == 1);
    }
}
