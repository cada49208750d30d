use super::*;

/// Lengths around every limit at which the way changes.
fn lengths() -> impl Iterator<Item = usize> {
    (0..=300).chain([511, 512, 513, 1000, 4096, 4099])
}

/// Bytes that are not the same at any two places near each other.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((at * 7 + at / 251) % 256).unwrap()).collect()
}

#[test]
fn copies_what_is_meant_and_nothing_else() {
    for length in lengths() {
        for (to, from) in [(0, 0), (1, 0), (0, 1), (3, 5), (7, 2), (8, 16)] {
            let source = pattern(length + 32);
            let mut target = vec![0xee; length + 32];
            // SAFETY: both have 16 bytes more than the highest place that is reached.
            unsafe { copy(target.as_mut_ptr().add(to), source.as_ptr().add(from), length) };
            assert_eq!(target[to..to + length], source[from..from + length], "{length} bytes to {to}");
            assert!(target[..to].iter().all(|byte| *byte == 0xee), "{length} bytes to {to}");
            assert!(target[to + length..].iter().all(|byte| *byte == 0xee), "{length} bytes to {to}");
        }
    }
}

#[test]
fn shifts_by_any_distance_either_way() {
    for length in lengths() {
        for distance in (0..=40).chain([127, 128, 129, 200, 5000]) {
            for (to, from) in [(0, distance), (distance, 0)] {
                let mut expected = pattern(length + distance);
                let mut found = expected.clone();
                expected.copy_within(from..from + length, to);
                // SAFETY: both places end within.
                unsafe { shift(found.as_mut_ptr().add(to), found.as_ptr().add(from), length) };
                assert!(found == expected, "{length} bytes from {from} to {to}");
            }
        }
    }
}

#[test]
fn compares_as_slices_do() {
    for length in lengths() {
        let one = pattern(length);
        // SAFETY: both have that many bytes.
        let compared = |a: &[u8], b: &[u8]| unsafe { compare(a.as_ptr(), b.as_ptr(), length) }.cmp(&0);
        assert_eq!(compared(&one, &one.clone()), std::cmp::Ordering::Equal, "{length} bytes");
        for at in 0..length {
            for change in [1, 0x80, 0xff] {
                let mut other = one.clone();
                other[at] = other[at].wrapping_add(change);
                // What comes behind the first difference says nothing.
                if let Some(last) = other.last_mut().filter(|_| at + 1 < length) {
                    *last ^= 0xff;
                }
                assert_eq!(compared(&one, &other), one.cmp(&other), "{length} bytes, another at {at}");
            }
        }
    }
}
