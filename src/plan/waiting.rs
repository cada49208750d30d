//! Ports that an attachment does not have for as long as another interface of its container has them.

use crate::model::Publication;

use super::build::translated_by;
use super::step::{Claims, Firewall, Plan, Step};

impl Plan {
    /// Leaves ports to another interface of the container: they are remembered, and neither held nor translated. Which
    /// these are is told by the host's side alone.
    pub fn set_aside(&mut self, waiting: &[Publication]) {
        let is_one = |port: &mut Publication| waiting.iter().any(|other| port.is_at(other));
        self.settle(|claims| claims.waiting.extend(claims.publications.extract_if(.., is_one)), waiting);
    }

    /// Takes ports up that have waited.
    pub fn take_up(&mut self, free: &[Publication]) {
        let is_one = |port: &mut Publication| free.iter().any(|other| port.is_at(other));
        self.settle(
            |claims| {
                claims.publications.extend(claims.waiting.extract_if(.., is_one));
                claims.publications.sort_unstable();
            },
            free,
        );
    }

    fn settle(&mut self, change: impl FnOnce(&mut Claims), changed: &[Publication]) {
        if changed.is_empty() {
            return;
        }
        let mut claims = self.steps.iter_mut().filter_map(|step| match step {
            Step::Claims(claims) => Some(claims),
            _ => None,
        });
        let Some(claims) = claims.next() else { return };
        change(claims);
        let (publications, proxy) = (claims.publications.clone(), claims.proxy);
        let firewalls = self.steps.iter_mut().filter_map(|step| match step {
            Step::Firewall(firewall) => Some(&mut **firewall),
            _ => None,
        });
        for Firewall { network, attachment, .. } in firewalls {
            attachment.publications = translated_by(proxy, network.hairpin, &publications);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AttachmentKey, Protocol};

    fn port(host: &str, target: &str) -> Publication {
        Publication {
            protocol: Protocol::Tcp,
            host: host.parse().unwrap(),
            target: target.parse().unwrap(),
            count: 1,
        }
    }

    #[test]
    fn what_is_set_aside_can_be_taken_up() {
        let all = vec![port("0.0.0.0:80", "10.0.0.2:80"), port("[::]:80", "[fd00::2]:80")];
        let claims = Claims {
            owner: AttachmentKey::new("a", "eth1"),
            publications: all.clone(),
            waiting: Vec::new(),
            hold: false,
            proxy: false,
        };
        let whole = Plan { steps: vec![Step::Claims(claims)] };
        let mut plan = whole.clone();
        // Whoever has it has another target.
        plan.set_aside(&[port("[::]:80", "[fd00::9]:80")]);
        let claims = plan.claims().unwrap();
        assert_eq!((&claims.publications[..], &claims.waiting[..]), (&all[..1], &all[1..]));
        plan.take_up(&[port("[::]:80", "[::1]:80")]);
        assert_eq!(plan, whole);
        let written = serde_json::to_string(&whole).unwrap();
        assert!(!written.contains("waiting"), "{written}");
    }
}
