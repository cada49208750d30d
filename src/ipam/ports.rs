//! Which host port next, for those who ask for any.

/// The host ports that may be given out: those that the kernel gives to programs that ask for none, less those that
/// an administrator keeps back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortPool {
    first: u16,
    last: u16,
    reserved: Vec<(u16, u16)>,
}

impl PortPool {
    /// Reads `net.ipv4.ip_local_port_range` (`32768 60999`) and `net.ipv4.ip_local_reserved_ports`
    /// (`8080,9148,40000-40100`, or nothing), as the kernel prints them; `None` where either says something else.
    pub fn parse(range: &str, reserved: &str) -> Option<Self> {
        let port = |text: &str| text.trim().parse::<u16>().ok();
        let mut ends = range.split_whitespace().map(port);
        let (first, last) = (ends.next()??, ends.next()??);
        let run = |text: &str| match text.split_once('-') {
            Some((first, last)) => Some((port(first)?, port(last)?)),
            None => port(text).map(|port| (port, port)),
        };
        let runs = reserved.split(',').filter(|text| !text.trim().is_empty()).map(run);
        Some(Self { first: first.max(1), last, reserved: runs.collect::<Option<Vec<_>>>()? })
    }

    /// The first ports of all runs of `count` ports, each once. Which comes first follows from `seed`, so that those
    /// who ask at the same time do not meet, and one who asks again gets the same where he can.
    pub fn candidates(&self, count: u16, seed: u64) -> impl Iterator<Item = u16> + '_ {
        let length = u64::from(self.last) + 2;
        let starts = length.saturating_sub(u64::from(self.first) + u64::from(count.max(1)));
        let nth = move |n: u64| u16::try_from(u64::from(self.first) + (seed % starts + n) % starts).ok();
        (0..starts).filter_map(nth).filter(move |first| self.allows(*first, count))
    }

    /// Whether no port of the run is kept back.
    fn allows(&self, first: u16, count: u16) -> bool {
        let last = first.saturating_add(count.max(1) - 1);
        self.reserved.iter().all(|(from, to)| last < *from || *to < first)
    }
}

impl std::fmt::Display for PortPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} to {}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(range: &str, reserved: &str) -> PortPool {
        PortPool::parse(range, reserved).unwrap()
    }

    #[test]
    fn the_kernel_s_texts_are_read() {
        for (range, reserved) in
            [("32768 x", ""), ("32768", ""), ("1 2", "a"), ("1 2", "5-"), ("70000 1", "")]
        {
            assert!(PortPool::parse(range, reserved).is_none(), "{range:?} {reserved:?}");
        }
        let pool = pool("32768\t60999", "8080,40000-40100\n");
        assert_eq!(pool.reserved, [(8080, 8080), (40000, 40100)]);
        assert_eq!(pool.to_string(), "32768 to 60999");
    }

    #[test]
    fn every_run_is_a_candidate_once_and_reserved_ports_are_in_none() {
        for seed in [0, 1, 7, u64::MAX] {
            let all = |count| {
                let mut all: Vec<u16> = pool("100 109", "103,107-108").candidates(count, seed).collect();
                all.sort_unstable();
                all
            };
            assert_eq!(all(1), [100, 101, 102, 104, 105, 106, 109]);
            assert_eq!(all(3), [100, 104]);
            assert_eq!(all(10), [0; 0]);
            assert_eq!(all(11), [0; 0]);
        }
        let first = |seed| pool("100 65535", "").candidates(1, seed).next();
        assert_eq!((first(0), first(5), first(65436)), (Some(100), Some(105), Some(100)));
        assert_eq!(pool("60000 65535", "").candidates(1, 5535).next(), Some(65535));
        assert_eq!(pool("200 100", "").candidates(1, 3).next(), None);
    }
}
