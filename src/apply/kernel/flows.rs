//! UDP flows through published ports.
//!
//! The kernel translates the first packet of a flow, and all that follow likewise, for as long as packets come. A flow
//! that was there before its port was published, or whose container is gone, has to be forgotten.

use std::net::{IpAddr, SocketAddr};

use crate::firewall::AttachmentRules;
use crate::model::{Protocol, Publication};
use crate::sys::netlink::{self, Socket};
use crate::sys::nfnetlink::conntrack::{self, Flow, FlowEnd, Flows};
use crate::sys::rtnl;

use super::{Cause, Kernel, opened};

/// How often an ADD looks for stale flows. A packet that another CPU was at work on when the rules changed may leave
/// one behind a first look; where packets come, that look has found something, and a second one is taken.
const LOOKS: usize = 3;

impl Kernel {
    /// Forgets the flows to an attachment's published ports that do not lead to it. Those that do were made since its
    /// rules are there, and stay.
    pub(super) fn forget_stale_flows(&mut self, rules: &AttachmentRules) -> Result<(), Cause> {
        for _ in 0..LOOKS {
            let right = |flow: &Flow| rules.publications.iter().any(|p| leads_to_target(p, flow));
            if self.forget_where(&rules.publications, |flow| !right(flow))? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Forgets all flows to an attachment's published ports, and all that its address answers there.
    pub(super) fn forget_flows(&mut self, publications: &[Publication]) -> Result<(), Cause> {
        self.forget_where(publications, |_| true).map(drop)
    }

    fn forget_where(
        &mut self,
        publications: &[Publication],
        meant: impl Fn(&Flow) -> bool,
    ) -> Result<usize, Cause> {
        let udp: Vec<&Publication> = publications.iter().filter(|p| p.protocol == Protocol::Udp).collect();
        if udp.is_empty() {
            return Ok(0);
        }
        let of = |publication: &Publication, end| Flows {
            protocol: publication.protocol,
            end,
            count: publication.count,
        };
        let flows: Vec<Flows> = udp
            .iter()
            .flat_map(|p| [of(p, FlowEnd::AnsweredBy(p.target)), of(p, FlowEnd::To(p.host))])
            .collect();
        // Published on every address of the host, which is not every address: others' flows stay.
        let own: Vec<IpAddr> = match udp.iter().any(|p| p.host.ip().is_unspecified()) {
            true => rtnl::addresses(self.host()?, None)?.iter().map(|found| found.address.ip()).collect(),
            false => Vec::new(),
        };
        let of_host = |address: IpAddr| address.is_loopback() || own.contains(&address);
        let meant = |by: &Flows, flow: &Flow| {
            let reached = match by.end {
                FlowEnd::To(host) => !host.ip().is_unspecified() || of_host(flow.to.ip()),
                FlowEnd::AnsweredBy(_) => true,
            };
            reached && meant(flow)
        };
        let socket = opened(&mut self.conntrack, || Socket::open(netlink::Protocol::Netfilter))?;
        Ok(conntrack::forget(socket, &flows, meant)?)
    }
}

/// Whether a flow goes to a published port and from there where it should.
fn leads_to_target(publication: &Publication, flow: &Flow) -> bool {
    let host = publication.host;
    let (to, port) = (flow.to, flow.to.port());
    let Some(offset) = port.checked_sub(host.port()).filter(|offset| *offset < publication.count) else {
        return false;
    };
    let target = SocketAddr::new(publication.target.ip(), publication.target.port().saturating_add(offset));
    flow.protocol == publication.protocol.number()
        && (host.ip() == to.ip() || (host.ip().is_unspecified() && host.is_ipv4() == to.is_ipv4()))
        && flow.answered_by == target
}
