//! Which connections make an execution remote, and which of their two sides is the remote one.

use psexec_filter_tests::{Host, alerts, engines, module};
use serde_json::json;

/// An event 3 with everything that decides whether it counts.
struct Connection {
    what: &'static str,
    image: &'static str,
    protocol: &'static str,
    initiated: &'static str,
    source: (&'static str, u16),
    destination: (&'static str, u16),
    /// The source that the alert names, if the connection counts.
    remote: Option<&'static str>,
}

const USUAL: Connection = Connection {
    what: "as Sysmon writes it today",
    image: "System",
    protocol: "tcp",
    initiated: "false",
    source: ("10.55.1.77", 50_211),
    destination: ("10.0.0.21", 445),
    remote: Some("10.55.1.77"),
};

const TABLE: &[Connection] = &[
    USUAL,
    Connection {
        what: "sides swapped, as Sysmon wrote inbound ones before about 2020",
        source: ("10.0.0.21", 445),
        destination: ("10.55.1.77", 50_211),
        ..USUAL
    },
    Connection {
        what: "RPC endpoint mapper",
        destination: ("10.0.0.21", 135),
        ..USUAL
    },
    Connection {
        what: "NetBIOS session",
        destination: ("10.0.0.21", 139),
        ..USUAL
    },
    Connection {
        what: "from a port that is a service port too",
        source: ("10.55.1.77", 139),
        ..USUAL
    },
    Connection {
        what: "IPv6",
        source: ("fd00:0:0:0:0:0:0:77", 50_211),
        remote: Some("fd00::77"),
        ..USUAL
    },
    Connection {
        what: "IPv4 inside IPv6",
        source: ("0:0:0:0:0:ffff:a37:14d", 50_211),
        remote: Some("10.55.1.77"),
        ..USUAL
    },
    Connection {
        what: "a dynamic port of the service controller",
        image: r"C:\Windows\System32\services.exe",
        destination: ("10.0.0.21", 49_670),
        ..USUAL
    },
    Connection {
        what: "a dynamic port of the service controller, sides swapped, remote port not dynamic",
        image: r"C:\Windows\System32\services.exe",
        source: ("10.0.0.21", 49_670),
        destination: ("10.55.1.77", 40_000),
        ..USUAL
    },
    Connection {
        what: "a dynamic port of another program",
        image: r"C:\app\app.exe",
        destination: ("10.0.0.21", 49_670),
        remote: None,
        ..USUAL
    },
    Connection {
        what: "another port",
        destination: ("10.0.0.21", 3389),
        remote: None,
        ..USUAL
    },
    Connection {
        what: "outbound",
        initiated: "true",
        remote: None,
        ..USUAL
    },
    Connection {
        what: "UDP",
        protocol: "udp",
        remote: None,
        ..USUAL
    },
    Connection {
        what: "loopback",
        source: ("127.0.0.1", 50_211),
        remote: None,
        ..USUAL
    },
    Connection {
        what: "loopback, IPv6",
        source: ("0:0:0:0:0:0:0:1", 50_211),
        remote: None,
        ..USUAL
    },
    Connection {
        what: "loopback, IPv4 inside IPv6",
        source: ("::ffff:127.0.0.1", 50_211),
        remote: None,
        ..USUAL
    },
    Connection {
        what: "the host to itself",
        source: ("10.0.0.21", 50_211),
        remote: None,
        ..USUAL
    },
    Connection {
        what: "the host to itself by its other address",
        source: ("10.9.9.9", 50_211),
        remote: None,
        ..USUAL
    },
    Connection {
        what: "no address at all",
        source: ("-", 50_211),
        remote: None,
        ..USUAL
    },
];

#[test]
fn the_remote_side_is_named_or_the_connection_is_ignored() {
    for (engine, mut module) in engines(module()) {
        for (number, row) in TABLE.iter().enumerate() {
            let host = Host::new(&format!("PC{number}"));
            let mut records = host.psexec(0, 7, "");
            records.pop();
            // Outbound connections, from which the filter learns that 10.9.9.9 and 10.0.0.21 are the host's own addresses.
            for own in ["10.9.9.9", "10.0.0.21"] {
                records.insert(
                    0,
                    event(
                        &host,
                        &Connection {
                            source: (own, 50_000),
                            destination: ("10.0.0.1", 443),
                            initiated: "true",
                            ..USUAL
                        },
                    ),
                );
            }
            records.push(event(&host, row));
            let alert = alerts(&mut *module, &records)
                .pop()
                .unwrap_or_else(|| panic!("{}: no alert", row.what));
            let severity = if row.remote.is_some() {
                "critical"
            } else {
                "high"
            };
            let found = (
                &alert["source"]["ip"],
                &alert["severity"],
                alert["source"]["port"].as_u64(),
            );
            let port = row.remote.map(|_| {
                if row.what.contains("swapped") {
                    row.destination.1
                } else {
                    row.source.1
                }
                .into()
            });
            assert_eq!(
                found,
                (&json!(row.remote), &json!(severity), port),
                "{} on {engine}",
                row.what
            );
        }
    }
}

fn event(host: &Host, row: &Connection) -> String {
    host.event(
        3,
        1_500,
        json!({"Image": row.image, "Protocol": row.protocol, "Initiated": row.initiated,
            "SourceIp": row.source.0, "SourcePort": row.source.1, "DestinationIp": row.destination.0, "DestinationPort": row.destination.1}),
    )
}

/// A connection counts from 120 s before the process start to 10 s after it.
#[test]
fn a_connection_counts_in_a_window_around_the_process_start() {
    for (ms, counts) in [
        (-120_001, false),
        (-120_000, true),
        (9_999, true),
        (10_000, true),
        (10_001, false),
    ] {
        for (engine, mut module) in engines(module()) {
            let host = Host::new("PC1");
            let mut records = host.psexec(0, 7, "");
            records.pop();
            records.push(host.connection(80 + ms, "10.55.1.77"));
            let alert = alerts(&mut *module, &records).pop().expect("an alert");
            assert_eq!(
                alert["source"]["ip"].is_string(),
                counts,
                "{ms} on {engine}"
            );
        }
    }
}

/// Many machines connect to a busy server. The source that is named is the one that fits Sysmon's usual delay of 1.5 s best, and
/// `candidates` is the number of all.
#[test]
fn a_busy_server_names_the_best_fit_and_counts_the_rest() {
    for (engine, mut module) in engines(module()) {
        let host = Host::new("SRV1");
        let mut records: Vec<String> = (1..=9)
            .map(|n| host.connection(-10_000 * n, &format!("10.1.0.{n}")))
            .collect();
        records.extend(host.psexec(0, 7, "10.55.1.77"));
        records.push(host.connection(4_000, "10.1.0.10"));
        let alerts = alerts(&mut *module, &records);
        let last = alerts.last().expect("an alert");
        assert_eq!(
            last["source"],
            json!({"ip": "10.55.1.77", "port": 50_211, "candidates": 10}),
            "{engine}"
        );
    }
}
