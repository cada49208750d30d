//! Which chains of a firewall are not an administrator's to name: those that linkspan writes, and the kernel's own.

/// How the chains begin that say what a wall lets in: in nf_tables a bridge's, in iptables a network's.
pub const WALLS: [&str; 2] = ["wall-", "LKS-in-"];

/// What the names of nf_tables chains start with that are of one network or one bridge.
const NFTABLES_STEMS: [&str; 4] = ["net-", "end-", WALLS[0], "layout-"];

/// The chains of table `inet linkspan` that all networks share.
pub const NFTABLES: [&str; 9] =
    ["localnet", "shifted", "publish", "prerouting", "output", "postrouting", "admin", "apart", "forward"];

/// What the names of iptables chains start with: those that all networks share, and those of one.
const IPTABLES_STEMS: [&str; 2] = ["LINKSPAN-", "LKS-"];

/// What iptables itself has by name: the chains that the kernel's hooks lead to, and its verdicts.
const IPTABLES: [&str; 9] =
    ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING", "ACCEPT", "DROP", "QUEUE", "RETURN"];

/// The targets that extensions of iptables add: after `-j` such a name is the target, whatever chain has it too.
const TARGETS: [&str; 38] = [
    "AUDIT",
    "CHECKSUM",
    "CLASSIFY",
    "CLUSTERIP",
    "CONNMARK",
    "CONNSECMARK",
    "CT",
    "DNAT",
    "DNPT",
    "DSCP",
    "ECN",
    "HL",
    "HMARK",
    "IDLETIMER",
    "LED",
    "LOG",
    "MARK",
    "MASQUERADE",
    "NETMAP",
    "NFLOG",
    "NFQUEUE",
    "NOTRACK",
    "RATEEST",
    "REDIRECT",
    "REJECT",
    "SECMARK",
    "SET",
    "SNAT",
    "SNPT",
    "SYNPROXY",
    "TCPMSS",
    "TCPOPTSTRIP",
    "TEE",
    "TOS",
    "TPROXY",
    "TRACE",
    "TTL",
    "ULOG",
];

/// Whether linkspan writes the rules of a chain of table `inet linkspan`. The others are administrators'.
pub fn is_own_of_nftables(chain: &str) -> bool {
    NFTABLES.contains(&chain) || NFTABLES_STEMS.iter().any(|stem| chain.starts_with(stem))
}

/// Whether linkspan writes the rules of a chain of iptables.
pub fn is_own_of_iptables(chain: &str) -> bool {
    IPTABLES_STEMS.iter().any(|stem| chain.starts_with(stem))
}

/// Whether a chain of this name can be no administrator's, be it in nf_tables or in iptables.
pub fn is_taken(chain: &str) -> bool {
    is_own_of_nftables(chain)
        || is_own_of_iptables(chain)
        || IPTABLES.contains(&chain)
        || TARGETS.contains(&chain)
}
