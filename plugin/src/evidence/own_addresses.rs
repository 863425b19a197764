//! The addresses that a host is known to have.

use crate::event::{Event, NETWORK_CONNECT};
use crate::normalize::address;
use crate::record::Field;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// The latest four addresses that a host was seen to have: the sources of its own outbound connections.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OwnAddresses {
    known: [Option<IpAddr>; 4],
    next: u8,
}

impl OwnAddresses {
    /// Whether the host has this address.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.known.contains(&Some(ip))
    }

    /// Learns the host's address from an outbound connection (event 3 with `Initiated` true), whose source it is. Returns
    /// whether an older address was forgotten for it.
    pub fn learn(&mut self, event: &Event<'_>) -> bool {
        if event.id != NETWORK_CONNECT || event.fields.truth(Field::Initiated) != Some(true) {
            return false;
        }
        let source = event.fields.address(Field::SourceIp);
        let Some(ip) = source.filter(|ip| address::is_remote(*ip)) else {
            return false;
        };
        if self.contains(ip) {
            return false;
        }
        let slot = usize::from(self.next)
            .checked_rem(self.known.len())
            .unwrap_or_default();
        self.next = self.next.wrapping_add(1);
        self.known
            .get_mut(slot)
            .and_then(|place| place.replace(ip))
            .is_some()
    }

    /// A host that is known to have this address.
    #[cfg(test)]
    pub fn with(ip: IpAddr) -> OwnAddresses {
        OwnAddresses {
            known: [Some(ip), None, None, None],
            next: 1,
        }
    }
}
