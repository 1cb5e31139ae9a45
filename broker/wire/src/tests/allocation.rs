//! The allocator of the tests: it counts what a thread holds, so that a test can say how much memory a call took.

#![allow(
    unsafe_code,
    reason = "an allocator cannot be written without it, and only tests are linked with it"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    let held = HELD.get() + change;
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
}

// SAFETY: every call goes to the system's allocator unchanged; the counters allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// The most bytes that this thread held at once during `call`, beyond what it held before.
pub(crate) fn peak_bytes<T>(call: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    PEAK.set(before);
    let result = call();
    let peak = PEAK.get() - before;
    (result, usize::try_from(peak).expect("the peak is never below where it began"))
}

#[test]
fn the_peak_is_counted() {
    let (length, peak) = peak_bytes(|| {
        drop(vec![0_u8; 1000]);
        vec![0_u8; 3000].len()
    });
    assert_eq!(length, 3000);
    assert!((3000..4000).contains(&peak), "{peak}");
}
