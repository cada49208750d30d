//! Names that follow from other names: links have 15 bytes, networks and containers have many.

use sha2::{Digest, Sha512};

use super::AttachmentKey;

/// The longest name of a network interface: `IFNAMSIZ` (`linux/if.h`) less its NUL.
pub const INTERFACE_NAME_MAX: usize = 15;

/// What every link of ours starts with; with [`LINK_GROUP`], the mark that tells an orphan from a stranger.
pub const LINK_PREFIX: &str = "lks";

/// The interface group (`IFLA_GROUP`) of every link of ours: "lksp" in ASCII.
pub const LINK_GROUP: u32 = 0x6c6b_7370;

/// 64-bit FNV-1a with a final avalanche (the mixer of MurmurHash3), so that short inputs differ in every digit.
///
/// Fixed for ever: names on disk and in the kernel follow from it.
pub fn hash(bytes: &[u8]) -> u64 {
    let mut state: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in bytes {
        state = (state ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    state = (state ^ (state >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    state = (state ^ (state >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    state ^ (state >> 33)
}

/// The default bridge of a network: `lks-NAME` where that fits 15 bytes and keeps its meaning in lower case,
/// else `lks-` with the name's first bytes and six digits of its hash.
///
/// `attempt` counts names that turned out to be taken by a foreign interface; each gives another name.
pub fn bridge(network: &str, attempt: u32) -> String {
    let plain = format!("{LINK_PREFIX}-{network}");
    if attempt == 0 && plain.len() <= INTERFACE_NAME_MAX {
        return plain;
    }
    let digits = hash(format!("{attempt}/{network}").as_bytes()) & 0xff_ffff;
    let head: String = network.chars().filter(char::is_ascii).take(4).collect();
    format!("{LINK_PREFIX}-{head}-{digits:06x}")
}

/// The link that carries the gateway of a VLAN: `BRIDGE.VID`, as the reference names it, where that fits 15 bytes; else
/// with the bridge's first bytes and six digits of its hash in the place of its name.
pub fn gateway_link(bridge: &str, vlan: u16) -> String {
    let suffix = format!(".{vlan}");
    if bridge.len() + suffix.len() <= INTERFACE_NAME_MAX {
        return format!("{bridge}{suffix}");
    }
    let head: String = bridge.chars().filter(char::is_ascii).take(3).collect();
    format!("{head}-{:06x}{suffix}", hash(bridge.as_bytes()) & 0xff_ffff)
}

/// The host end of an attachment's veth pair: `lks` and twelve digits of the attachment's hash.
///
/// It follows from the attachment alone, so that DEL can name it with nothing else at hand.
pub fn host_interface(key: &AttachmentKey) -> String {
    format!("{LINK_PREFIX}{:012x}", hash(key.to_string().as_bytes()) & 0xffff_ffff_ffff)
}

/// The IFB device that shapes what an attachment sends.
pub fn shaping_interface(key: &AttachmentKey) -> String {
    format!("{LINK_PREFIX}i{:011x}", hash(key.to_string().as_bytes()) & 0xfff_ffff_ffff)
}

/// What the names of the reference `bandwidth`'s devices start with.
pub const REFERENCE_SHAPING_PREFIX: &str = "bwp";

/// The IFB device that the reference `bandwidth` shapes with: `bwp` and twelve digits of the SHA-512 of the network's
/// name and the owner's, which is the container ID.
pub fn reference_shaping_interface(network: &str, owner: &str) -> String {
    let digest = Sha512::new().chain_update(network).chain_update(owner).finalize();
    let digits: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("{REFERENCE_SHAPING_PREFIX}{digits}")
}

/// The nf_tables chain of a network's own rules, and the iptables chain's stem. Network names are not limited in
/// length, chain names are (`NFT_NAME_MAXLEN` 256, `XT_EXTENSION_MAXNAMELEN` 29), so long ones end in a hash.
pub fn chain(network: &str) -> String {
    if network.len() <= 16 {
        return format!("net-{network}");
    }
    let head: String = network.chars().filter(char::is_ascii).take(8).collect();
    format!("net-{head}-{:08x}", hash(network.as_bytes()) & 0xffff_ffff)
}

/// The chain without rules that the last rule of a network's own chain leads to.
pub fn chain_end(network: &str) -> String {
    let chain = chain(network);
    format!("end-{}", chain.strip_prefix("net-").unwrap_or(&chain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_link_name_fits_the_kernel(network in "[A-Za-z0-9][A-Za-z0-9_.-]{0,80}", id in "[A-Za-z0-9][A-Za-z0-9_.-]{0,120}",
                                           interface in "[a-z0-9]{1,15}", attempt in 0u32..40) {
            let key = AttachmentKey::new(id, interface);
            prop_assert_eq!(reference_shaping_interface(&network, &key.container_id).len(), INTERFACE_NAME_MAX);
            for name in [bridge(&network, attempt), host_interface(&key), shaping_interface(&key)] {
                prop_assert!(name.len() <= INTERFACE_NAME_MAX, "{name}");
                prop_assert!(name.starts_with(LINK_PREFIX));
            }
            prop_assert!(chain(&network).len() <= 24);
            prop_assert!(gateway_link(&bridge(&network, attempt), 4094).len() <= INTERFACE_NAME_MAX);
        }
    }

    #[test]
    fn the_gateways_of_two_bridges_have_links_of_two_names() {
        assert_eq!(gateway_link("lks-web", 100), "lks-web.100");
        assert_eq!(gateway_link("lks-internal", 42), "lks-internal.42");
        let (one, two) = (gateway_link("lks-frontend1", 100), gateway_link("lks-frontend2", 100));
        assert_ne!(one, two);
        assert!(one.starts_with("lks") && one.ends_with(".100"), "{one}");
        for vlan in [1, 4094] {
            assert!(gateway_link(&"é".repeat(7), vlan).len() <= INTERFACE_NAME_MAX);
            assert!(gateway_link("123456789012345", vlan).len() <= INTERFACE_NAME_MAX);
        }
    }

    #[test]
    fn a_short_network_keeps_its_name() {
        assert_eq!(bridge("web", 0), "lks-web");
        assert_ne!(bridge("web", 1), "lks-web");
        assert_ne!(bridge("a-network-of-many-words", 0), bridge("a-network-of-many-wordz", 0));
    }
}
