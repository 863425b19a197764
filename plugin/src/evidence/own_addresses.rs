//! The addresses that a host is known to have.

use crate::event::{Event, NETWORK_CONNECT};
use crate::normalize::{address, host};
use crate::record::Field;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// The Security event of a logon.
const NETWORK_LOGON: u32 = 4624;

/// How long an address is remembered after it was last seen, in milliseconds of logged time: DHCP gives addresses to others.
const KEEP_MS: i64 = 3_600_000;

/// The latest four addresses that a host was seen to have: the sources of its own outbound connections.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct OwnAddresses {
    known: [Option<(IpAddr, i64)>; 4],
    /// The time of the event that is being read, in milliseconds.
    #[serde(skip)]
    now: i64,
}

/// Two are equal if they hold the same addresses, whenever these were seen.
impl PartialEq for OwnAddresses {
    fn eq(&self, other: &OwnAddresses) -> bool {
        let addresses = |all: &OwnAddresses| all.known.map(|place| place.map(|(ip, _)| ip));
        addresses(self) == addresses(other)
    }
}

impl OwnAddresses {
    /// Whether the host has this address, as far as the last hour shows.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let mut known = self.known.iter().flatten();
        known.any(|(own, seen)| *own == ip && self.now.abs_diff(*seen) <= KEEP_MS as u64)
    }

    /// Learns the host's address from an outbound connection (event 3 with `Initiated` true), whose source it is, and forgets what
    /// another machine is seen to have. Returns whether an older address was forgotten for want of room.
    pub fn learn(&mut self, event: &Event<'_>) -> bool {
        self.now = event.time.ms;
        let address = |field| event.fields.address(field);
        if event.id == NETWORK_LOGON && event.fields.number(Field::LogonType) == Some(3) {
            // Whoever logged on from there is another machine, unless it gives itself the host's own name.
            let remote = address(Field::IpAddress);
            let workstation = event.fields.text(Field::WorkstationName);
            let is_self =
                workstation.is_some_and(|name| host::is_same_netbios(&name, &event.host.key));
            if !is_self {
                for place in &mut self.known {
                    if place.is_some_and(|(own, _)| Some(own) == remote) {
                        *place = None;
                    }
                }
            }
            return false;
        }
        if event.id != NETWORK_CONNECT || event.fields.truth(Field::Initiated) != Some(true) {
            return false;
        }
        let Some(ip) = address(Field::SourceIp).filter(|ip| address::is_remote(*ip)) else {
            return false;
        };
        if let Some((_, seen)) = self.known.iter_mut().flatten().find(|(own, _)| *own == ip) {
            *seen = (*seen).max(self.now);
            return false;
        }
        let is_stale = |place: &Option<(IpAddr, i64)>| {
            place.is_none_or(|(_, seen)| self.now.abs_diff(seen) > KEEP_MS as u64)
        };
        let free = self.known.iter().position(is_stale);
        let oldest = || {
            let places = self.known.iter().enumerate();
            places
                .min_by_key(|(_, place)| place.map(|(_, seen)| seen))
                .map(|(index, _)| index)
        };
        let place = free.or_else(oldest);
        if let Some(place) = place.and_then(|index| self.known.get_mut(index)) {
            *place = Some((ip, self.now));
        }
        free.is_none()
    }

    /// A host that is known to have this address.
    #[cfg(test)]
    pub fn with(ip: IpAddr) -> OwnAddresses {
        OwnAddresses {
            known: [Some((ip, 0)), None, None, None],
            now: 0,
        }
    }
}
