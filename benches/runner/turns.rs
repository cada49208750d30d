//! In which order contenders take turns.

/// The order of one round. Over as many rounds as there are contenders, or twice as many where their number is odd, each
/// comes directly after each other one equally often (E. J. Williams, 1949: designs balanced for residual effects).
pub(crate) fn order(contenders: usize, round: usize) -> Vec<usize> {
    // 0, 1, n-1, 2, n-2, ...: all differences of neighbours are different.
    let zigzag = (0..contenders).map(|at| if at % 2 == 1 { at.div_ceil(2) } else { contenders - at / 2 });
    let mut order: Vec<usize> = zigzag.map(|place| (place + round) % contenders).collect();
    if contenders % 2 == 1 && round / contenders % 2 == 1 {
        order.reverse();
    }
    order
}
