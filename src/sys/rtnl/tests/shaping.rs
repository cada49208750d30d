use nix::errno::Errno;

use super::*;

#[test]
fn a_token_bucket_is_set_changed_and_taken_away() {
    Pair::run(|pair| {
        let mut pair = pair.wired();
        for rate in [125_000, 12_500_000, 6_000_000_000] {
            let shaped = ShapedRate { rate, burst: 50_000 };
            pair.here.transact(&[set_tbf(1000, shaped)]).unwrap();
            let found = qdiscs(&mut pair.here, 1000).unwrap();
            let root = found.iter().find(|q| q.parent == 0xffff_ffff).unwrap();
            assert_eq!((root.kind.as_str(), root.rate), ("tbf", Some(rate)));
            assert_eq!(root.limit, Some(u32::try_from(rate / 40 + 50_000).unwrap()));
            assert_eq!(root.handle, 0x0001_0000);
            // A tick is 64 ns.
            let burst = u128::from(root.buffer.unwrap()) * 64 * u128::from(rate) / 1_000_000_000;
            assert!(burst.abs_diff(50_000) < 500, "{root:?}");
        }
        pair.here.transact(&[delete_root(1000), delete_root(1000), delete_root(4242)]).unwrap();
        assert!(qdiscs(&mut pair.here, 1000).unwrap().iter().all(|q| q.kind != "tbf"));
    });
}

#[test]
fn what_comes_in_is_sent_out_through_another_link() {
    Pair::run(|pair| {
        let mut pair = pair.wired();
        pair.here.transact(&[create_ifb("ifb", None, None, None)]).unwrap();
        let ifb = pair.link("ifb").index;
        assert_eq!(redirects(&mut pair.here, 1000).unwrap(), []);
        let hook = [add_ingress(1000), add_ingress(1000), redirect_ingress(1000, ifb)];
        pair.here.transact(&hook).unwrap();
        assert_eq!(redirects(&mut pair.here, 1000).unwrap(), [Redirect { to: ifb }]);
        assert!(qdiscs(&mut pair.here, 1000).unwrap().iter().any(|q| q.kind == "ingress"));
        pair.here.transact(&[delete_ingress(1000), delete_ingress(1000)]).unwrap();
        assert_eq!(redirects(&mut pair.here, 1000).unwrap(), []);
        assert_eq!(redirects(&mut pair.here, 4242).unwrap(), []);
        let error = pair.here.transact(&[set_tbf(4242, ShapedRate { rate: 1, burst: 1 })]).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ENODEV));
    });
}

/// Packets of a size that only a shaped link counts the time of: 40 kB at 100 kB/s take 300 ms past the burst.
#[test]
fn a_token_bucket_slows_real_packets() {
    use std::net::UdpSocket;
    use std::time::{Duration, Instant};
    Pair::run(|pair| {
        let mut pair = pair.wired();
        let with = |index, text: &str| add_address(&AddressSpec::new(index, text.parse().unwrap()));
        let forwarding = PortChange { forwarding: true, ..PortChange::default() };
        pair.there.transact(&[with(2000, "10.1.0.3/24")]).unwrap();
        let shaped = ShapedRate { rate: 100_000, burst: 10_000 };
        let port = set_port(LinkTarget::Name("host"), &forwarding);
        pair.here.transact(&[with(900, "10.1.0.1/24"), port, set_tbf(1000, shaped)]).unwrap();
        let receiver = pair.netns.enter(|| UdpSocket::bind("10.1.0.3:9").unwrap()).unwrap();
        receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let sender = UdpSocket::bind("10.1.0.1:9").unwrap();
        let start = Instant::now();
        let mut buffer = [0; 2000];
        for _ in 0..40 {
            sender.send_to(&[0; 958], "10.1.0.3:9").unwrap();
            receiver.recv(&mut buffer).unwrap();
        }
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(250), "{took:?}");
    });
}
