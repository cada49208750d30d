use super::*;
use crate::sys::netlink::{Protocol, Socket};
use crate::sys::rtnl::create_ifb;
use crate::sys::testing::isolated;

#[test]
fn a_key_is_read_with_dots_and_with_slashes() {
    let path = |key| path_of(key).map(|p| p.display().to_string());
    let dotted = Some("/proc/sys/net/ipv4/conf/eth0.5/arp_notify".to_owned());
    assert_eq!(path("net/ipv4/conf/eth0.5/arp_notify"), dotted);
    assert_eq!(path("net.ipv4.conf.eth0/5.arp_notify"), dotted);
    assert_eq!(path("net.ipv4.ip_forward").as_deref(), Some("/proc/sys/net/ipv4/ip_forward"));
    for strange in ["", "net/../../etc/passwd", "/etc/passwd", "net..ipv4", "net/./ipv4", "net.ipv4.", "a\0b"]
    {
        assert_eq!(path(strange), None, "{strange:?}");
    }
}

#[test]
fn a_parameter_is_written_in_the_threads_own_namespace() {
    isolated(|| {
        write("net.ipv4.ip_forward", "1").unwrap();
        assert_eq!(read("net/ipv4/ip_forward").unwrap(), "1");
        let mut socket = Socket::open(Protocol::Route).unwrap();
        socket.transact(&[create_ifb("a.5", None, None, None)]).unwrap();
        write("net/ipv4/conf/a.5/arp_notify", "1").unwrap();
        assert_eq!(read("net.ipv4.conf.a/5.arp_notify").unwrap(), "1");
    });
}

#[test]
fn an_error_names_the_file_and_the_value() {
    let error = write("net.ipv4.no_such_thing", "7").unwrap_err();
    let words = "cannot set the sysctl /proc/sys/net/ipv4/no_such_thing to '7': No such file or directory";
    assert_eq!(error.to_string(), words);
    assert_eq!(read("net.ipv4.no_such_thing").unwrap_err().errno(), Some(Errno::ENOENT));
    isolated(|| assert_eq!(write("net.ipv4.ip_forward", "x").unwrap_err().errno(), Some(Errno::EINVAL)));
}
