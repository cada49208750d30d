//! What an ADD looks at of chains: whether ours are whole, and whether the FORWARD chains of iptables drop. All of it is
//! asked with one system call and heard with another.

use nix::errno::Errno;

use crate::firewall::{NetworkRules, nft};
use crate::sys::nfnetlink::NftError;

use super::admission::{ADMIT, NF_FAMILIES};
use super::firewall::{INET, refused};
use super::{Cause, Kernel};

/// What the kernel told of chains.
#[derive(Debug)]
pub(super) struct Chains {
    /// Our base chains, and those of the networks that were asked for, that are missing or have lost rules.
    pub(super) short: Vec<String>,
    /// For each family of [`NF_FAMILIES`]: the FORWARD chain of iptables-nft, and the chain of our exceptions.
    pub(super) forward: Vec<(Option<nft::Chain>, Option<nft::Chain>)>,
    /// Of which generation the ruleset was before the kernel told it.
    pub(super) generation: Option<u32>,
}

impl Kernel {
    /// Looks at our base chains, at the chains of these networks, and at those of iptables-nft.
    pub(super) fn look_at_chains(&mut self, networks: &[&NetworkRules]) -> Result<Chains, Cause> {
        let mut questions = vec![nft::probe_generation()];
        questions.extend(nft::base_chains());
        let base = questions.len();
        let told: Vec<_> = networks.iter().flat_map(|rules| nft::network_uses(rules)).collect();
        questions.extend(told.iter().map(|(chain, _)| nft::chain_policy(INET, nft::TABLE, chain)));
        let own = questions.len();
        for (_, family) in NF_FAMILIES {
            questions.extend(["FORWARD", ADMIT].map(|chain| nft::chain_policy(family, "filter", chain)));
        }
        let answers = self.nft()?.get_each(&questions)?;
        let (ours, theirs) = answers.split_at(own);
        let parse = |family, reply: &Option<Vec<u8>>| {
            reply.as_ref().and_then(|reply| nft::parse_chain(family, reply))
        };
        let forward = theirs.chunks(2).zip(NF_FAMILIES).map(|(pair, (_, family))| {
            (parse(family, &pair[0]), pair.get(1).and_then(|reply| parse(family, reply)))
        });
        let (ours, of_networks) = ours.split_at(base);
        let (generation, ours) =
            ours.split_first().map_or((None, ours), |(first, rest)| (first.as_ref(), rest));
        let generation = generation.and_then(|reply| nft::parse_generation(reply));
        let mut short = nft::short_chains(ours);
        for ((chain, wanted), reply) in told.into_iter().zip(of_networks) {
            if parse(INET, reply).map_or(0, |chain| chain.uses) < wanted {
                short.push(chain);
            }
        }
        Ok(Chains { forward: forward.collect(), short, generation })
    }

    /// Writes what our table lacks, and what it has lost; nothing where it is whole.
    pub(super) fn mend_nftables_base(&mut self, admin_chains: &[&str]) -> Result<(), Cause> {
        let answers = self.nft()?.get_each(&nft::base_chains())?;
        let short = nft::short_chains(&answers);
        if short.is_empty() {
            return Ok(());
        }
        let messages = nft::base_mended(admin_chains, &short);
        self.nft()?.commit(&messages).map_err(|error| of_another(&error))
    }
}

/// A refusal that says that our table is somebody else's, or holds what is.
pub(super) fn of_another(error: &NftError) -> Cause {
    if error.errno == Errno::EPERM {
        return refused(
            "complete the table inet linkspan, which another process owns or which was made by somebody else",
            error,
        );
    }
    Cause::Firewall(format!(
        "the table inet linkspan was made by somebody else, and holds something of the same name and of another kind \
         ({error}); move what is in it to another table, then: nft delete table inet linkspan"
    ))
}
