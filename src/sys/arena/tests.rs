use super::*;

#[test]
fn rooms_do_not_overlap_and_the_last_one_can_grow() {
    settle();
    assert!(FIRST.get(), "no other test asks for the block");
    let layout = Layout::from_size_align(100, 16).unwrap();
    // SAFETY: each pointer is used within its size, and freed with its layout.
    unsafe {
        let a = Arena.alloc(layout);
        let b = Arena.alloc(layout);
        assert!((a as usize).is_multiple_of(16) && b as usize >= a as usize + 100);
        ptr::write_bytes(a, 1, 100);
        ptr::write_bytes(b, 2, 100);
        let grown = Arena.realloc(b, layout, 5000);
        assert_eq!((*grown, *grown.add(99)), (2, 2));
        let moved = Arena.realloc(a, layout, 300);
        assert_eq!((*moved, *moved.add(99)), (1, 1));
        // Freed pieces that are not the last come back for what is as long, and not for what is aligned to more.
        let last = Arena.alloc(Layout::from_size_align(2000, 16).unwrap());
        Arena.dealloc(moved, Layout::from_size_align(300, 16).unwrap());
        assert_eq!(Arena.alloc(Layout::from_size_align(290, 8).unwrap()), moved);
        Arena.dealloc(moved, Layout::from_size_align(290, 8).unwrap());
        let aligned = Layout::from_size_align(300, 64).unwrap();
        let other = Arena.alloc(aligned);
        assert!(other != moved && other > last && (other as usize).is_multiple_of(64));
        // Long pieces come from the end, so that small ones stay together; the last of them is handed out again.
        let long = |length, align| Layout::from_size_align(length, align).unwrap();
        let (one, two) = (Arena.alloc(long(5000, 1)), Arena.alloc(long(9000, 512)));
        assert!(two as usize + 9000 <= one as usize && (two as usize).is_multiple_of(512));
        assert_eq!(Block::offset(one), Some(SIZE - 5008));
        ptr::write_bytes(two, 4, 9000);
        let small = Arena.alloc(layout);
        assert!((small as usize) < one as usize - SIZE / 2, "far from the long ones");
        Arena.dealloc(two, long(9000, 512));
        assert_eq!(Arena.alloc(long(9000, 512)), two);
        let wider = Arena.realloc(two, long(9000, 512), 20_000);
        assert_eq!((*wider, *wider.add(8999)), (4, 4));
        let shorter = Arena.realloc(wider, long(20_000, 512), 100);
        assert_eq!((*shorter, *shorter.add(99)), (4, 4));
        let large = Layout::from_size_align(WIDE * 2, 16).unwrap();
        let system = Arena.alloc(large);
        assert!(!system.is_null() && Place::of(system).is_none());
        Arena.dealloc(system, large);
    }
}

#[test]
fn a_widened_arena_serves_what_the_small_block_cannot_hold_and_other_threads() {
    widen();
    let start = LARGE.start.load(Ordering::Acquire);
    widen();
    assert_eq!(LARGE.start.load(Ordering::Acquire), start, "once");
    let layout = Layout::from_size_align(SIZE + 1, 64).unwrap();
    // SAFETY: the pointer is used within its size, and freed with its layout.
    unsafe {
        let wide = Arena.alloc(layout);
        assert!(LARGE.offset(wide).is_some() && (wide as usize).is_multiple_of(64));
        ptr::write_bytes(wide, 3, SIZE + 1);
        let grown = Arena.realloc(wide, layout, SIZE * 3);
        assert_eq!((*grown, *grown.add(SIZE)), (3, 3));
    }
    // What one thread frees of it serves another, at once or from behind the last piece.
    let layout = Layout::from_size_align(64, 8).unwrap();
    // SAFETY: as above; the thread has ended before the piece is used again.
    unsafe {
        let freed = Arena.alloc(layout) as usize;
        let behind = Arena.alloc(layout);
        assert!(Place::of(freed as *mut u8).is_some() && freed != behind as usize);
        std::thread::spawn(move || Arena.dealloc(freed as *mut u8, layout)).join().unwrap();
        assert_eq!(Arena.alloc(layout) as usize, freed);
    }
    threads_that_allocate_at_once_get_different_pieces();
}

fn threads_that_allocate_at_once_get_different_pieces() {
    let work = |mark: u8| {
        let mut kept = Vec::new();
        for round in 0..2000_usize {
            let layout = Layout::from_size_align(1 + round * 7 % 1500, 1 << (round % 8)).unwrap();
            // SAFETY: each piece is written within its size, and freed with its layout by who got it.
            unsafe {
                let piece = Arena.alloc(layout);
                assert!((piece as usize).is_multiple_of(layout.align()));
                ptr::write_bytes(piece, mark, layout.size());
                kept.push((piece as usize, layout));
                if round % 3 == 0 {
                    let (piece, layout) = kept.swap_remove(round % kept.len());
                    let bytes = std::slice::from_raw_parts(piece as *const u8, layout.size());
                    assert!(bytes.iter().all(|byte| *byte == mark));
                    Arena.dealloc(piece as *mut u8, layout);
                }
            }
        }
        for (piece, layout) in kept {
            // SAFETY: as above.
            let bytes = unsafe { std::slice::from_raw_parts(piece as *const u8, layout.size()) };
            assert!(bytes.iter().all(|byte| *byte == mark));
        }
    };
    std::thread::scope(|scope| {
        for mark in 1..=4 {
            scope.spawn(move || work(mark));
        }
    });
}
