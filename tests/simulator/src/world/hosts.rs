//! Hosts, their shippers, and the events that they log.

use super::{Actor, Contact, DAY, World, Worth};
use crate::product::Kind;
use psexec_filter_fixtures::data::{self, Started};
use psexec_filter_fixtures::{DELETED, SERVICES, SMB_SERVER, SVCHOST, SYSTEM, Shape, WMI};
use std::net::IpAddr;

/// A host and its shipper.
pub struct Host {
    /// Its name.
    pub name: String,
    /// The layout in which its shipper writes records.
    pub(super) shape: Shape,
    /// Whether its shipper writes times without fractions of a second.
    pub(super) whole_seconds: bool,
    /// How long its records take to arrive, in milliseconds.
    pub(super) lag: i64,
    /// How far its clock is ahead, in milliseconds.
    pub(super) skew: i64,
    /// Whether its shipper passes record numbers.
    pub(super) numbered: bool,
    pub(super) next_id: u64,
    /// Whether one of its floods is of large records.
    pub swollen: bool,
    /// Whether other machines use it all the time.
    pub(super) is_server: bool,
}

/// Who logs on.
pub(super) struct Person {
    /// The account's name.
    pub user: &'static str,
    /// The logon session.
    pub session: String,
    /// The name that the other machine gives itself.
    pub workstation: String,
    /// Whether the account has an administrator's rights.
    pub is_administrator: bool,
}

/// The address of a host, by its index.
pub(super) fn address(host: usize) -> String {
    format!("10.9.{}.{}", host / 250, 1 + host % 250)
}

impl World {
    pub(super) fn add_host(&mut self, name: String) -> usize {
        let rng = &mut self.rng;
        let shape = [Shape::NxLog, Shape::EvtxDump, Shape::Winlogbeat][usize::from(rng.u8(0..3))];
        self.hosts.push(Host {
            name,
            shape,
            whole_seconds: shape == Shape::NxLog || rng.u8(0..6) == 0,
            lag: rng.i64(10..900),
            skew: if rng.u8(0..4) == 0 {
                rng.i64(-400..400) * DAY
            } else {
                0
            },
            numbered: rng.u8(0..5) > 0,
            next_id: rng.u64(1..1_000_000),
            swollen: false,
            is_server: rng.u8(0..3) > 0,
        });
        self.hosts.len() - 1
    }

    /// Event 3 of a connection at `when`, which Sysmon writes seconds later.
    pub(super) fn connection(
        &mut self,
        actor: Actor,
        when: i64,
        from: &str,
        port: u16,
        image: &str,
    ) {
        let late = self.rng.i64(1_000..5_000);
        let own = address(actor.host);
        // The port that it comes from is the other machine's to choose.
        let chosen = [50_211, 50_212, 61_000, 40_000, 445, 139, 135];
        let from_port = chosen[self.rng.usize(0..chosen.len())];
        let (there, here) = ((from, from_port), (own.as_str(), port));
        // Before 2020 Sysmon wrote the two sides the other way round. With two service ports nothing tells them apart.
        let (source, destination) = if self.rng.u8(0..5) == 0 && from_port > 445 {
            (here, there)
        } else {
            (there, here)
        };
        let kept_as = Some((Kind::Connection, Worth::Equal));
        let data = data::inbound(image, source, destination);
        let before = self.records.len();
        self.log(actor, "connection", when + late, 3, kept_as, data);
        self.mark_contact(before, from, false);
    }

    /// Event 3: a program of the host connects to another machine from an address of the host.
    pub(super) fn outbound(&mut self, actor: Actor, when: i64, own: &str) {
        let mut data = data::inbound(SVCHOST, (own, 50_000), ("203.0.113.7", 443));
        data["Initiated"] = "true".into();
        self.log(actor, "", when, 3, None, data);
    }

    /// Security 4624: a person, a machine or nobody logs on from another machine. For a person with an administrator's rights
    /// Security 4672 comes first.
    pub(super) fn logon(&mut self, actor: Actor, when: i64, from: &str, person: &Person) {
        let Person {
            user,
            session,
            workstation,
            is_administrator,
        } = person;
        let is_person = !user.ends_with('$') && *user != "ANONYMOUS LOGON";
        if *is_administrator {
            let data = data::administrator(user, session);
            self.log(actor, "rights", when - 1, 4672, None, data);
        }
        let data = data::logon(user, from, session, workstation);
        let before = self.records.len();
        let kept_as = Some((Kind::Logon, Worth::Equal));
        self.log(actor, "logon", when, 4624, kept_as, data);
        self.mark_contact(before, from, is_person);
    }

    /// Says of the records from `before` on that they show another machine.
    pub(super) fn mark_contact(&mut self, before: usize, from: &str, is_person: bool) {
        let from: IpAddr = from.parse().expect("an address");
        for record in &mut self.records[before..] {
            record.contact = Some(Contact { from, is_person });
        }
    }

    pub(super) fn file(
        &mut self,
        actor: Actor,
        part: &'static str,
        when: i64,
        writer: &str,
        path: &str,
    ) {
        self.written(actor, (11, part), when, writer, path);
    }

    /// A file is written; by event 11, or by 29, which says that it is an executable, whatever its name.
    pub(super) fn written(
        &mut self,
        actor: Actor,
        (event, part): (u64, &'static str),
        when: i64,
        writer: &str,
        path: &str,
    ) {
        let has_name = [".exe", ".com", ".scr", ".dll"]
            .iter()
            .any(|end| path.ends_with(end));
        let program = has_name || event == 29;
        let worth = match (writer == SMB_SERVER, program) {
            (true, true) => Worth::SmbProgram,
            (false, true) => Worth::LocalProgram,
            (_, false) => Worth::Document,
        };
        let kept_as = Some((Kind::FileWrite, worth));
        self.log(actor, part, when, event, kept_as, data::file(writer, path));
    }

    pub(super) fn service_value(
        &mut self,
        actor: Actor,
        part: &'static str,
        when: i64,
        service: &str,
        (name, details): (&str, &str),
    ) {
        let kind = if name == "ImagePath" {
            Kind::ServiceSet
        } else {
            Kind::ServiceMark
        };
        let data = data::service_value(service, name, details);
        self.log(actor, part, when, 13, Some((kind, Worth::Equal)), data);
    }

    /// A service gets a command. `created`: with the other values that are written when it is new.
    pub(super) fn service(
        &mut self,
        actor: Actor,
        when: i64,
        service: &str,
        command: &str,
        created: bool,
    ) {
        if created {
            let values = [
                ("new", ("Type", "DWORD (0x00000010)")),
                ("mark", ("Start", "DWORD (0x00000003)")),
            ];
            for (part, value) in values {
                self.service_value(actor, part, when, service, value);
            }
        }
        let image_path = ("ImagePath", command);
        self.service_value(actor, "service", when + 1, service, image_path);
        if created {
            let account = ("ObjectName", "LocalSystem");
            self.service_value(actor, "mark", when + 2, service, account);
        }
    }

    /// A new driver, which the kernel loads.
    pub(super) fn driver(&mut self, actor: Actor, when: i64, service: &str, path: &str) {
        let values = [
            ("Type", "DWORD (0x00000001)"),
            ("Start", "DWORD (0x00000003)"),
            ("ImagePath", path),
        ];
        for value in values {
            self.service_value(actor, "", when, service, value);
        }
    }

    pub(super) fn service_deleted(&mut self, actor: Actor, when: i64, service: &str) {
        self.service_value(actor, "deleted", when, service, DELETED);
    }

    pub(super) fn process(
        &mut self,
        actor: Actor,
        part: &'static str,
        when: i64,
        started: Started<'_>,
        parent: (u32, &str),
        account: (&str, &str),
    ) {
        let kept_as = match parent.1 {
            SERVICES | "?" | "-" | "" => Some((Kind::ProcessStart, Worth::Equal)),
            // Of what WMI starts, only a person's programs are kept; those of inventories, by their names, are worth least.
            WMI if account == SYSTEM => None,
            WMI => Some(match actor.scenario {
                Some(_) => (Kind::ComStart, Worth::StartedByWmi),
                None => (Kind::ComStart, Worth::Equal),
            }),
            _ if part == "child" => None,
            _ => Some((Kind::ComStart, Worth::StartedByDcom)),
        };
        let data = data::process(started, parent, account);
        self.log(actor, part, when, 1, kept_as, data);
    }

    /// Event 17 or 18: a process makes a pipe, or connects to one.
    pub(super) fn pipe(
        &mut self,
        actor: Actor,
        (event, part): (u64, &'static str),
        when: i64,
        process: (u32, &str),
        name: &str,
    ) {
        let kept_as = Some((Kind::Pipe, Worth::Equal));
        self.log(actor, part, when, event, kept_as, data::pipe(process, name));
    }
}
