//! The host's side of a container whose interface another plugin made.

use std::net::IpAddr;

use crate::apply::HostSide;
use crate::cni::CniResult;
use crate::model::{AttachmentKey, FirewallBackend};
use crate::plan::Plan;
use crate::store::Found;
use crate::verbs::{Context, VerbError};

/// How the host reaches a container.
pub(super) struct Way {
    /// The plan of the attachment's interface, where that is ours.
    main: Option<Plan>,
    /// The host's side, where it has one.
    side: Option<HostSide>,
}

impl Way {
    /// From the record of the interface, else from the host's route to it, else from the result of the plugins before.
    pub(super) fn to(
        cx: &mut Context,
        attachment: &AttachmentKey,
        previous: &CniResult,
        addresses: &[IpAddr],
    ) -> Result<Self, VerbError> {
        let found: Option<Found<Plan>> = cx.state.find(attachment)?;
        let main = found.map(|found| found.record.plan);
        if let Some(link) = main.as_ref().and_then(Plan::link) {
            let is_bridge = link.bridge.is_some();
            let interface = link.bridge.as_ref().unwrap_or(&link.host_name).clone();
            let side = HostSide { interface, is_bridge };
            return Ok(Self { side: Some(side), main });
        }
        let on_host = || previous.interfaces.iter().filter(|i| i.sandbox.is_empty()).map(|i| i.name.as_str());
        let mut side = None;
        for address in addresses {
            let Some(found) = cx.kernel.host_side(*address)? else { continue };
            // A default route leads anywhere: what the plugins before have made says more.
            let is_named = on_host().any(|name| name == found.interface);
            if is_named || side.is_none() {
                side = Some(found);
            }
            if is_named {
                break;
            }
        }
        let named = side.as_ref().is_some_and(|side| on_host().any(|name| name == side.interface));
        if !named
            && let Some(first) = on_host().next()
            && let Some(found) = cx.kernel.host_interface(first)?
        {
            side = Some(found);
        }
        Ok(Self { main, side })
    }

    /// The bridge; empty where there is none.
    pub(super) fn bridge(&self) -> &str {
        self.side.as_ref().filter(|side| side.is_bridge).map_or("", |side| &side.interface)
    }

    /// The bridge, or the interface that leads to the container alone; empty where the host has no way to it.
    pub(super) fn interface(&self) -> &str {
        self.side.as_ref().map_or("", |side| &side.interface)
    }

    /// Whether what the container sends is led to its network's chain already.
    pub(super) fn masquerades_on(&self, backend: FirewallBackend) -> bool {
        self.main.as_ref().and_then(Plan::firewall).is_some_and(|firewall| {
            firewall.backend == backend
                && (firewall.network.masquerade || firewall.network.hairpin)
                && !firewall.attachment.addresses.is_empty()
        })
    }
}
