//! Keeps the panics that a test expects out of its output.

use std::cell::Cell;
use std::sync::Once;

thread_local! {
    static SILENT: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`; what panics on this thread meanwhile says nothing.
pub fn silenced<T>(work: impl FnOnce() -> T) -> T {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !SILENT.get() {
                loud(info);
            }
        }));
    });
    let before = SILENT.replace(true);
    let result = work();
    SILENT.set(before);
    result
}
