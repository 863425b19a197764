//! Modules that the filter's cost is measured against: one that does nothing, and two that read records with a parser.
//!
//! All are functions of one module, with the parameters of the filter (see `plugin/src/abi.rs`); `make bench` calls each by
//! name. The host's copies of a call lie in an arena, as they do in the filter: with a general allocator two calls of
//! `malloc` and two of `free` would be most of what the function that does nothing costs, and the filter would look better
//! than it is.
#![cfg(target_arch = "wasm32")]

use std::alloc::{Layout, alloc};
use std::cell::UnsafeCell;

/// Bytes of the arena. As in the filter.
const SMALL: usize = 128 * 1024;

/// Bytes of the block for copies that do not fit in the arena. As in the filter.
const LARGE: usize = 4 * 1024 * 1024 + 64 * 1024;

/// Memory for the host's copies of one call.
#[repr(C, align(16))]
struct Arena {
    small: UnsafeCell<[u8; SMALL]>,
    state: UnsafeCell<State>,
}

struct State {
    used: usize,
    /// Address of the block for large copies; 0 before the first one.
    large: usize,
    /// Whether a call was made since the last copy: what it used may be used again.
    called: bool,
}

// SAFETY: this module is only compiled for wasm32-unknown-unknown without atomics, where there is one thread.
unsafe impl Sync for Arena {}

static ARENA: Arena = Arena {
    small: UnsafeCell::new([0; SMALL]),
    state: UnsafeCell::new(State {
        used: 0,
        large: 0,
        called: true,
    }),
};

/// Gives the host memory for a copy. 0 if there is none.
#[unsafe(no_mangle)]
pub extern "C" fn malloc(size: usize) -> usize {
    // SAFETY: one thread, and no other reference to the state lives across a call from the host.
    let state = unsafe { &mut *ARENA.state.get() };
    if state.called {
        state.called = false;
        state.used = 0;
    }
    let start = state.used.next_multiple_of(16);
    let end = start.saturating_add(size);
    if end <= SMALL {
        state.used = end;
        return (ARENA.small.get() as usize).wrapping_add(start);
    }
    if size > LARGE {
        return 0;
    }
    if state.large == 0 {
        let Ok(layout) = Layout::from_size_align(LARGE, 16) else {
            return 0;
        };
        // SAFETY: the layout has a size. Null is the 0 that the host understands.
        state.large = unsafe { alloc(layout) } as usize;
    }
    state.large
}

/// Takes a copy back: nothing to do, the arena starts over with the next call.
#[unsafe(no_mangle)]
pub extern "C" fn free(_address: usize) {}

/// Has the arena start over with the next copy.
fn called() {
    // SAFETY: as in `malloc`.
    unsafe { (*ARENA.state.get()).called = true };
}

/// Returns its input at once: the least that a call costs.
#[unsafe(no_mangle)]
pub extern "C" fn pass_through(
    _tag: usize,
    _tag_len: usize,
    _seconds: u32,
    _nanoseconds: u32,
    record: usize,
    _record_len: usize,
) -> usize {
    called();
    record
}

/// The fields that a chain needs of any record first.
#[derive(serde::Deserialize)]
struct Three<'a> {
    #[serde(rename = "EventID")]
    _event_id: Option<u32>,
    #[serde(rename = "Hostname", borrow)]
    _host: Option<std::borrow::Cow<'a, str>>,
    #[serde(rename = "Image", borrow)]
    _image: Option<std::borrow::Cow<'a, str>>,
}

/// Parses three fields of the record into a struct and returns the record as it was: the cost of a parser that builds only
/// what is needed, but has to see every byte.
#[unsafe(no_mangle)]
pub extern "C" fn parse_three(
    _tag: usize,
    _tag_len: usize,
    _seconds: u32,
    _nanoseconds: u32,
    record: usize,
    record_len: usize,
) -> usize {
    called();
    // SAFETY: the host copied the record there and leaves it alone during the call.
    let bytes = unsafe { std::slice::from_raw_parts(record as *const u8, record_len) };
    let three: Option<Three<'_>> = serde_json::from_slice(bytes).ok();
    std::hint::black_box(&three);
    record
}

/// Parses the record into a `serde_json::Value` and returns the record as it was: the cost of the usual first attempt.
#[unsafe(no_mangle)]
pub extern "C" fn parse_value(
    _tag: usize,
    _tag_len: usize,
    _seconds: u32,
    _nanoseconds: u32,
    record: usize,
    record_len: usize,
) -> usize {
    called();
    // SAFETY: the host copied the record there and leaves it alone during the call.
    let bytes = unsafe { std::slice::from_raw_parts(record as *const u8, record_len) };
    let value: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
    std::hint::black_box(&value);
    record
}
