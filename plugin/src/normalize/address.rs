//! Network addresses and CIDR ranges.
//!
//! Addresses are always parsed, never compared as text: Sysmon writes IPv6 uncompressed (`fe80:0:0:0:90e:17af:263c:5209`), others
//! compressed, some as IPv4-mapped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Parses an address as producers write it: zone (`%5`) and brackets dropped, IPv4-mapped IPv6 as IPv4.
pub fn parse(text: &str) -> Option<IpAddr> {
    // Nearly always there is nothing to drop.
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(ip.to_canonical());
    }
    let bare = text.trim().trim_start_matches('[').trim_end_matches(']');
    let bare = bare.split('%').next().unwrap_or(bare);
    bare.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

/// Parses bytes that are an address and nothing else, with the result of [`parse`] in a fraction of its instructions. `None` for
/// anything else, and for IPv6 whose end is written as IPv4.
#[inline]
pub fn parse_plain(bytes: &[u8]) -> Option<IpAddr> {
    // An IPv4 address has its first dot in the first four bytes, and no IPv6 address that is read here has one.
    if bytes.iter().take(4).any(|byte| *byte == b'.') {
        parse_v4(bytes).map(IpAddr::V4)
    } else {
        parse_v6(bytes).map(|ip| ip.to_canonical())
    }
}

fn parse_v6(bytes: &[u8]) -> Option<Ipv6Addr> {
    let (mut address, mut group) = (0u128, 0u32);
    // Colons in a row so far. Two in a row occur once at most; a single one is at neither end.
    let (mut digits, mut groups, mut colons) = (0u32, 0u32, 0u32);
    let mut gap = None;
    for byte in bytes {
        if *byte == b':' {
            colons = colons.wrapping_add(1);
            if digits > 0 {
                address = address << 16 | u128::from(group);
                groups = groups.wrapping_add(1);
                (group, digits) = (0, 0);
            } else if colons == 2 && gap.is_none() {
                gap = Some(groups);
            } else if colons != 1 || groups > 0 || gap.is_some() {
                return None;
            }
            continue;
        }
        // A single colon in front.
        if colons == 1 && groups == 0 && gap.is_none() {
            return None;
        }
        let digit = char::from(*byte).to_digit(16)?;
        group = group << 4 | digit;
        digits = digits.wrapping_add(1);
        colons = 0;
        if digits > 4 || groups > 7 {
            return None;
        }
    }
    if digits > 0 {
        address = address << 16 | u128::from(group);
        groups = groups.wrapping_add(1);
    } else if colons == 1 {
        return None;
    }
    match gap {
        None if groups == 8 => Some(Ipv6Addr::from_bits(address)),
        Some(before) if groups < 8 => {
            let after = groups.wrapping_sub(before).wrapping_mul(16);
            let low = address & low_bits(after);
            let high = address
                .wrapping_shr(after)
                .checked_shl(128u32.wrapping_sub(before.wrapping_mul(16)))
                .unwrap_or(0);
            Some(Ipv6Addr::from_bits(high | low))
        }
        _ => None,
    }
}

fn parse_v4(bytes: &[u8]) -> Option<Ipv4Addr> {
    let (mut address, mut part) = (0u32, 0u32);
    let (mut digits, mut dots) = (0u32, 0u32);
    // No part is above 255 or has a leading zero.
    let is_part = |part: u32, digits: u32| {
        part < 256 && matches!((digits, part), (1, _) | (2, 10..) | (3, 100..))
    };
    for byte in bytes {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            part = part.wrapping_mul(10).wrapping_add(u32::from(digit));
            digits = digits.wrapping_add(1);
        } else if *byte == b'.' && is_part(part, digits) {
            address = address << 8 | part;
            dots = dots.wrapping_add(1);
            (part, digits) = (0, 0);
        } else {
            return None;
        }
    }
    (dots == 3 && is_part(part, digits)).then(|| Ipv4Addr::from_bits(address << 8 | part))
}

/// Whether `ip` can be the remote end of a connection from another machine: not loopback, not unspecified.
pub fn is_remote(ip: IpAddr) -> bool {
    !ip.is_loopback() && !ip.is_unspecified()
}

/// An address range. IPv4 and IPv4-mapped IPv6 are one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    network: u128,
    mask: u128,
    v4: bool,
}

impl Cidr {
    /// Parses `10.0.0.0/8`, `fe80::/10` or a single address. The error states what was expected.
    pub fn parse(text: &str) -> Result<Cidr, String> {
        let wrong = |why: &str| {
            format!(
                "`{text}` is not an address or CIDR range ({why}); expected for example `10.1.2.3`, `10.0.0.0/8` or `2001:db8::/32`"
            )
        };
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let ip: IpAddr = address
            .trim()
            .parse()
            .map_err(|_| wrong("the address does not parse"))?;
        let (bits, width, v4) = match ip {
            IpAddr::V4(v4) => (u128::from(u32::from(v4)), 32u32, true),
            IpAddr::V6(v6) => (u128::from(v6), 128, false),
        };
        let length = match prefix {
            None => width,
            Some(digits) => digits
                .trim()
                .parse::<u32>()
                .map_err(|_| wrong("the prefix length is not a number"))?,
        };
        if length > width {
            return Err(wrong(&format!("the prefix length is at most {width}")));
        }
        let mask = low_bits(width) & !low_bits(width.saturating_sub(length));
        if bits & !mask != 0 {
            return Err(wrong("bits are set beyond the prefix length"));
        }
        // A mapped range such as ::ffff:10.0.0.0/104 means the IPv4 range it maps.
        match ip {
            IpAddr::V6(v6) if length >= 96 && v6.to_ipv4_mapped().is_some() => Ok(Cidr {
                network: bits & low_bits(32),
                mask: mask & low_bits(32),
                v4: true,
            }),
            _ => Ok(Cidr {
                network: bits,
                mask,
                v4,
            }),
        }
    }

    /// Whether every address of `other` is in this range.
    pub fn covers(&self, other: &Cidr) -> bool {
        self.v4 == other.v4
            && other.network & self.mask == self.network
            && other.mask & self.mask == self.mask
    }

    /// The first and the last address of the range, as numbers.
    fn ends(&self) -> (u128, u128) {
        let width = if self.v4 { 32 } else { 128 };
        (self.network, self.network | (low_bits(width) & !self.mask))
    }

    /// Whether the range contains `ip`.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match ip.to_canonical() {
            IpAddr::V4(v4) => self.v4 && self.contains_bits(u128::from(u32::from(v4))),
            IpAddr::V6(v6) => !self.v4 && self.contains_bits(u128::from(v6)),
        }
    }

    fn contains_bits(&self, bits: u128) -> bool {
        bits & self.mask == self.network
    }
}

/// The addresses that machines have, from the first to the last of each block: IPv4 without loopback and multicast; IPv6 of the
/// internet, of sites and of links.
const OF_MACHINES: [(bool, u128, u128); 5] = [
    (true, 0x0100_0000, 0x7eff_ffff),
    (true, 0x8000_0000, 0xdfff_ffff),
    (false, 0x2000 << 112, (0x4000 << 112) - 1),
    (false, 0xfc00 << 112, (0xfe00 << 112) - 1),
    (false, 0xfe80 << 112, (0xfec0 << 112) - 1),
];

/// The blocks of private IPv4 addresses.
const PRIVATE: [(bool, u128, u128); 3] = [
    (true, 0x0a00_0000, 0x0aff_ffff),
    (true, 0xac10_0000, 0xac1f_ffff),
    (true, 0xc0a8_0000, 0xc0a8_ffff),
];

/// Whether ranges together contain every address that a machine can have, of one family at least.
pub fn are_everything(ranges: impl Iterator<Item = Cidr>) -> bool {
    let ranges = sorted(ranges);
    let is_whole = |v4: bool| {
        let mut blocks = OF_MACHINES.iter().filter(|block| block.0 == v4);
        blocks.all(|block| contain(&ranges, *block))
    };
    is_whole(true) || is_whole(false)
}

/// Whether ranges together contain every private IPv4 address.
pub fn are_all_private(ranges: impl Iterator<Item = Cidr>) -> bool {
    let ranges = sorted(ranges);
    PRIVATE.iter().all(|block| contain(&ranges, *block))
}

fn sorted(ranges: impl Iterator<Item = Cidr>) -> Vec<Cidr> {
    let mut ranges: Vec<Cidr> = ranges.collect();
    ranges.sort_unstable_by_key(|range| (range.v4, range.network));
    ranges
}

/// Whether sorted ranges together contain a block of addresses.
fn contain(ranges: &[Cidr], (v4, first, last): (bool, u128, u128)) -> bool {
    // The first address that is not known to be contained.
    let mut next = first;
    for range in ranges.iter().filter(|range| range.v4 == v4) {
        let (from, to) = range.ends();
        if from <= next && to >= next {
            match to.checked_add(1) {
                Some(after) if after <= last => next = after,
                _ => return true,
            }
        }
    }
    false
}

/// Prints the range as it would be written in a policy.
impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let length = self.mask.count_ones();
        if self.v4 {
            let bits = u32::try_from(self.network).unwrap_or_default();
            write!(f, "{}/{length}", Ipv4Addr::from(bits))
        } else {
            write!(f, "{}/{length}", Ipv6Addr::from(self.network))
        }
    }
}

/// A number with the lowest `count` bits set.
fn low_bits(count: u32) -> u128 {
    match 128u32.checked_sub(count) {
        Some(0) => u128::MAX,
        Some(unused) => u128::MAX.checked_shr(unused).unwrap_or(0),
        None => u128::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn ipv4_agrees_with_the_standard_library(text in "(([0-9]{1,3}|0|25[56]|[:a])[.]{0,2}){0,5}|[0-9]{1,3}[.][0-9]{1,3}[.][0-9]{1,3}[.][0-9]{1,3}") {
            proptest::prop_assert_eq!(parse_v4(text.as_bytes()), text.parse::<Ipv4Addr>().ok(), "{}", text);
            if let Some(ip) = parse_plain(text.as_bytes()) {
                proptest::prop_assert_eq!(Some(ip), parse(&text), "{}", text);
            }
        }

        #[test]
        fn ipv6_agrees_with_the_standard_library(text in "::?|(::)?([0-9a-fA-F]{1,4}(:|:|:|:|:|::)){0,8}([0-9a-f]{1,5})?(::?|g)?") {
            proptest::prop_assert_eq!(parse_v6(text.as_bytes()), text.parse::<Ipv6Addr>().ok(), "{}", text);
        }
    }

    #[test]
    fn addresses_are_compared_as_numbers() {
        assert_eq!(
            parse("fe80:0:0:0:90e:17af:263c:5209"),
            parse("fe80::90e:17af:263c:5209%5")
        );
        assert_eq!(parse("::ffff:10.0.0.5"), parse("10.0.0.5"));
        for own in [
            "127.0.0.1",
            "0:0:0:0:0:0:0:1",
            "::ffff:127.0.0.1",
            "0.0.0.0",
        ] {
            assert!(!is_remote(parse(own).unwrap()), "{own}");
        }
        assert_eq!(parse("-"), None);
    }

    #[test]
    fn ranges_contain_their_own_family_only() {
        for (range, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("10.1.2.3", "::ffff:10.1.2.3", "10.1.2.4"),
            ("0.0.0.0/0", "1.2.3.4", "2001:db8::1"),
            ("fe80::/10", "fe80::1", "fec0::1"),
            ("::/0", "2001:db8::1", "10.0.0.1"),
            ("::ffff:10.0.0.0/104", "10.9.9.9", "11.0.0.1"),
        ] {
            let cidr = Cidr::parse(range).unwrap();
            assert!(
                cidr.contains(inside.parse().unwrap()),
                "{inside} in {range}"
            );
            assert!(
                !cidr.contains(outside.parse().unwrap()),
                "{outside} not in {range}"
            );
        }
    }

    #[test]
    fn ranges_that_are_everything_together() {
        for (ranges, everything, private) in [
            (&["0.0.0.0/0"][..], true, true),
            (&["::/0"], true, false),
            (&["128.0.0.0/1", "0.0.0.0/1"], true, true),
            (
                &["0.0.0.0/1", "10.0.0.0/8", "128.0.0.0/2", "192.0.0.0/3"],
                true,
                true,
            ),
            (&["0.0.0.0/1", "128.0.0.0/2", "192.0.0.0/4"], false, true),
            (&["::ffff:0.0.0.0/97", "128.0.0.0/1"], true, true),
            (&["::ffff:0:0/96"], true, true),
            (&["::/1", "8000::/1"], true, false),
            (&["2000::/3", "fc00::/7", "fe80::/10"], true, false),
            (&["2000::/3", "fc00::/7"], false, false),
            (&["8000::/1", "128.0.0.0/1"], false, false),
            (
                &["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"],
                false,
                true,
            ),
            (&["10.0.0.0/8", "192.168.0.0/16"], false, false),
            (&[], false, false),
        ] {
            let parsed = || ranges.iter().map(|range| Cidr::parse(range).unwrap());
            assert_eq!(are_everything(parsed()), everything, "{ranges:?}");
            assert_eq!(are_all_private(parsed()), private, "{ranges:?}");
        }
    }

    #[test]
    fn a_range_covers_those_inside_it() {
        for (range, other, want) in [
            ("10.0.0.0/8", "10.1.0.0/16", true),
            ("10.1.0.0/16", "10.0.0.0/8", false),
            ("10.0.0.0/8", "10.0.0.0/8", true),
            ("10.0.0.0/8", "11.0.0.0/16", false),
            ("::/0", "10.0.0.0/8", false),
        ] {
            let parse = |text| Cidr::parse(text).unwrap();
            assert_eq!(parse(range).covers(&parse(other)), want, "{range} {other}");
        }
    }

    #[test]
    fn the_error_of_a_wrong_range_gives_an_example() {
        for wrong in [
            "10.0.0.0/33",
            "10.0.0.0/x",
            "10.0.0/8",
            "10.0.0.1/8",
            "fe80::/129",
            "",
            "host",
        ] {
            let message = Cidr::parse(wrong).unwrap_err();
            assert!(message.contains("expected for example"), "{message}");
        }
    }
}
