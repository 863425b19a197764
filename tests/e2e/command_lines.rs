//! Command lines as long as Windows allows, with what they do at their end, where a filter may not look.

use psexec_filter_tests::{CMD, Host, MMC, SERVICES, SYSTEM, alerts, engines, incidents, module};

const ATTACKER: &str = "10.55.1.77";

/// Longest command line that Windows starts a process with, in characters.
const MAX_LINE: usize = 32_767;

/// A command with `filling` repeated in its middle until it is as long as Windows allows.
fn padded(before: &str, filling: &str, after: &str) -> String {
    let times = (MAX_LINE - before.len() - after.len()) / filling.len();
    format!("{before}{}{after}", filling.repeat(times))
}

/// What changes nothing of what a command does.
const FILLINGS: [&str; 5] = [" ", "@", "\"\"", "rem a & ", r"rem \\b & "];

#[test]
fn the_tool_command_is_found_at_the_end_of_a_long_line() {
    for filling in FILLINGS {
        for (engine, mut module) in engines(module()) {
            let host = Host::new("PC1");
            let smbexec = padded(
                "cmd.exe /Q /c ",
                filling,
                r"echo cd > \\127.0.0.1\C$\__output 2>&1 > C:\Windows\TEMP\execute.bat",
            );
            let mut records = host.new_service(0, "BTOBTO", &smbexec);
            records.push(host.command(60, 7, &smbexec));
            records.push(host.service_value(300, "BTOBTO", "Start", "DWORD (0x00000004)"));
            records.push(host.connection(1_560, ATTACKER));
            assert_eq!(
                incidents(&alerts(&mut *module, &records)),
                ["smbexec critical"],
                "{filling:?} on {engine}"
            );

            let host = Host::new("PC2");
            let wmiexec = padded(
                "cmd.exe /Q /c whoami & ",
                filling,
                r" 1> \\127.0.0.1\ADMIN$\__1726304400.1 2>&1",
            );
            let records = [host.wmi(0, 8, CMD, &wmiexec, "0x51a2b")];
            let all = alerts(&mut *module, &records);
            assert_eq!(incidents(&all), ["wmiexec high"], "{filling:?} on {engine}");
            let shown = all[0]["process"]["command_line"].as_str().map(str::len);
            assert!(
                shown.is_some_and(|bytes| bytes <= 1_024),
                "{shown:?} bytes of the line in the alert"
            );
        }
    }
}

/// What is known of a line that was cut is saved and restored with the rest of the state.
#[test]
fn a_long_line_is_remembered_over_a_restart() {
    for (engine, mut first) in engines(module()) {
        let host = Host::new("PC1");
        let line = padded(
            "cmd.exe /Q /c ",
            " ",
            r"echo cd > \\127.0.0.1\C$\__output 2>&1 > C:\Windows\TEMP\execute.bat",
        );
        assert!(
            !alerts(
                &mut *first,
                &[
                    host.new_service(0, "BTOBTO", &line),
                    vec![host.command(60, 7, &line)]
                ]
                .concat()
            )
            .is_empty()
        );
        let saved = first.save().expect("saved");
        let mut second = engines_named(engine);
        assert!(second.restore(&saved).expect("restored"));
        let deleted = [
            host.service_value(300, "BTOBTO", "Start", "DWORD (0x00000004)"),
            host.connection(1_560, ATTACKER),
        ];
        assert_eq!(
            incidents(&alerts(&mut *second, &deleted)),
            ["smbexec critical"],
            "{engine}"
        );
    }
}

fn engines_named(name: &str) -> Box<dyn psexec_filter::engine::Engine> {
    engines(module())
        .into_iter()
        .find(|(engine, _)| *engine == name)
        .expect("an engine")
        .1
}

/// The process's command line is longer than the service's command by the values of its variables.
#[test]
fn a_command_with_a_variable_of_two_kilobytes_joins_its_service() {
    for (engine, mut module) in engines(module()) {
        let host = Host::new("PC1");
        let mut records = host.new_service(0, "svc", "cmd.exe /v /c rem %%PATH%% & net user x");
        records.push(host.command(
            60,
            7,
            &format!(
                "cmd.exe /v /c rem {} & net user x",
                r"C:\Program Files\Tool\bin;".repeat(80)
            ),
        ));
        records.push(host.connection(1_560, ATTACKER));
        assert_eq!(
            incidents(&alerts(&mut *module, &records)),
            ["smbexec high"],
            "{engine}"
        );
    }
}

/// After the command by which Metasploit makes itself SYSTEM comes another, too far behind it to be kept. It is no local getsystem.
#[test]
fn a_local_getsystem_with_another_command_after_it_is_not_low() {
    for filling in FILLINGS {
        for (engine, mut module) in engines(module()) {
            let host = Host::new("PC1");
            let line = padded(
                r"cmd.exe /c echo b > \\.\pipe\b",
                filling,
                "& powershell -enc JABz",
            );
            let mut records = host.new_service(0, "b", &line);
            records.extend([host.command(60, 7, &line), host.connection(1_500, ATTACKER)]);
            let found = incidents(&alerts(&mut *module, &records));
            assert!(
                matches!(&*found, [one] if one == "smbexec high" || one == "smbexec critical"),
                "{filling:?} on {engine}: {found:?}"
            );
        }
    }
}

/// A library that came over SMB is a dropped program, too. rundll32 is given its path, a comma and a function.
#[test]
fn a_dropped_library_that_rundll32_loads() {
    for line in [
        r"rundll32.exe C:\Windows\evil.dll,Start",
        r#"C:\Windows\System32\rundll32.exe "C:\Windows\evil.dll",#1"#,
    ] {
        for (engine, mut module) in engines(module()) {
            let host = Host::new("PC1");
            let mut records = vec![host.file(0, "System", r"C:\Windows\evil.dll")];
            records.extend(host.new_service(40, "svc", line));
            records.push(host.process(
                80,
                (7, r"C:\Windows\System32\rundll32.exe", line),
                (1, SERVICES),
                SYSTEM,
            ));
            records.push(host.connection(1_500, ATTACKER));
            assert_eq!(
                incidents(&alerts(&mut *module, &records)),
                ["psexec critical"],
                "{line} on {engine}"
            );
        }
    }
}

/// A command that names many programs before the one that was dropped.
#[test]
fn a_dropped_program_is_found_after_many_others_in_a_command() {
    for (engine, mut module) in engines(module()) {
        let host = Host::new("PC1");
        let line = format!(r"cmd.exe /c {}C:\Windows\evil.exe", r"\a.exe&".repeat(130));
        let mut records = vec![host.file(0, "System", r"C:\Windows\evil.exe")];
        records.extend(host.new_service(40, "svc", &line));
        records.extend([host.command(80, 7, &line), host.connection(1_500, ATTACKER)]);
        assert_eq!(
            incidents(&alerts(&mut *module, &records)),
            ["psexec critical"],
            "{engine}"
        );
    }
}

/// Connections to other processes of the same program come a moment before the one that is used. They are not duplicates of it.
#[test]
fn connections_to_two_processes_of_a_program_are_not_duplicates() {
    for (engine, mut module) in engines(module()) {
        let host = Host::new("PC1");
        let line = r"cmd.exe /Q /c cd \ 1> \\127.0.0.1\ADMIN$\__17602 2>&1";
        let connection = |ms, process| host.dcom_connection(ms, (process, MMC), ATTACKER);
        let decoys = (0..6u32).map(|n| connection(i64::from(n) * 300, 60 + n));
        let mut records: Vec<String> = decoys.collect();
        records.push(connection(2_000, 50));
        records.push(host.process(
            2_500,
            (7, CMD, line),
            (50, MMC),
            (r"CORP\alice", "0x1d313d"),
        ));
        assert_eq!(
            incidents(&alerts(&mut *module, &records)),
            ["dcomexec critical"],
            "{engine}"
        );
    }
}
