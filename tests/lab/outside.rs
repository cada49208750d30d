//! Another host, on the far side of the uplink.

use super::{Lab, Space};

/// The other host: 192.0.2.2 and 2001:db8::2; ours is 192.0.2.1 and 2001:db8::1, with default routes through it.
pub struct Outside {
    space: Space,
}

impl std::ops::Deref for Outside {
    type Target = Space;

    fn deref(&self) -> &Space {
        &self.space
    }
}

impl Outside {
    /// The host's addresses on the uplink.
    pub const HOST4: &'static str = "192.0.2.1";
    /// The same, IPv6.
    pub const HOST6: &'static str = "2001:db8::1";
    /// The other host's addresses.
    pub const V4: &'static str = "192.0.2.2";
    /// The same, IPv6.
    pub const V6: &'static str = "2001:db8::2";

    pub(super) fn join(lab: &Lab) -> Self {
        let space = Space::create("outside");
        lab.ip("link add uplink type veth peer name eth0");
        let inside = lab.host.clone();
        let path = "/run/netns/outside-tmp";
        std::fs::File::create(path).unwrap();
        space.in_ns(|| {
            let nothing = None::<&str>;
            let flags = nix::mount::MsFlags::MS_BIND;
            nix::mount::mount(Some("/proc/thread-self/ns/net"), path, nothing, flags, nothing).unwrap();
        });
        inside.ip("link set eth0 netns outside-tmp");
        nix::mount::umount2(path, nix::mount::MntFlags::MNT_DETACH).unwrap();
        std::fs::remove_file(path).unwrap();
        inside.ip("address add 192.0.2.1/24 dev uplink");
        inside.ip("address add 2001:db8::1/64 dev uplink nodad");
        inside.ip("link set uplink up");
        space.ip("address add 192.0.2.2/24 dev eth0");
        space.ip("address add 2001:db8::2/64 dev eth0 nodad");
        space.ip("link set eth0 up");
        inside.ip("route add default via 192.0.2.2");
        inside.ip("-6 route add default via 2001:db8::2");
        space.ip("route add default via 192.0.2.1");
        space.ip("-6 route add default via 2001:db8::1");
        // Until the kernel has noticed the carrier, some time later, what is sent is dropped.
        let is_up = || super::inspect::link(&inside, "uplink").is_some_and(|link| link["operstate"] == "UP");
        assert!(super::eventually(super::talk::PATIENCE, is_up), "the uplink does not come up");
        Self { space }
    }
}
