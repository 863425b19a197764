//! What the filter's cost is measured against: filters that do the least, and what a first attempt would do.
//!
//! Same ABI as the filter (see `plugin/src/abi.rs`), several functions instead of one; `make bench` calls each by name.
#![cfg(target_arch = "wasm32")]

use std::alloc::{Layout, alloc, dealloc};

/// Memory for the host's copies, with its size in front.
#[unsafe(no_mangle)]
pub extern "C" fn malloc(size: usize) -> usize {
    let Ok(layout) = Layout::from_size_align(size + 16, 16) else {
        return 0;
    };
    // SAFETY: the layout has a size, and room for the size in front of the bytes handed out.
    unsafe {
        let block = alloc(layout);
        if block.is_null() {
            return 0;
        }
        block.cast::<usize>().write(size + 16);
        block.add(16) as usize
    }
}

/// Gives back what `malloc` gave.
#[unsafe(no_mangle)]
pub extern "C" fn free(address: usize) {
    // SAFETY: the host hands back what `malloc` returned, once.
    unsafe {
        let block = (address as *mut u8).sub(16);
        let size = block.cast::<usize>().read();
        dealloc(block, Layout::from_size_align_unchecked(size, 16));
    }
}

/// Returns its input at once: what a call costs at least.
#[unsafe(no_mangle)]
pub extern "C" fn pass_through(
    _tag: usize,
    _tag_len: usize,
    _seconds: u32,
    _nanoseconds: u32,
    record: usize,
    _record_len: usize,
) -> usize {
    record
}

/// What a chain asks of any record first.
#[derive(serde::Deserialize)]
struct Three<'a> {
    #[serde(rename = "EventID")]
    _event_id: Option<u32>,
    #[serde(rename = "Hostname", borrow)]
    _host: Option<std::borrow::Cow<'a, str>>,
    #[serde(rename = "Image", borrow)]
    _image: Option<std::borrow::Cow<'a, str>>,
}

/// Parses three fields of the record into a struct and returns it as it was: what it costs to read with care, but with a parser
/// that has to see all of it.
#[unsafe(no_mangle)]
pub extern "C" fn parse_three(
    _tag: usize,
    _tag_len: usize,
    _seconds: u32,
    _nanoseconds: u32,
    record: usize,
    record_len: usize,
) -> usize {
    // SAFETY: the host copied the record there and leaves it alone during the call.
    let bytes = unsafe { std::slice::from_raw_parts(record as *const u8, record_len) };
    let three: Option<Three<'_>> = serde_json::from_slice(bytes).ok();
    std::hint::black_box(&three);
    record
}

/// Parses the record into a `serde_json::Value` and returns it as it was: what a first attempt costs.
#[unsafe(no_mangle)]
pub extern "C" fn parse_value(
    _tag: usize,
    _tag_len: usize,
    _seconds: u32,
    _nanoseconds: u32,
    record: usize,
    record_len: usize,
) -> usize {
    // SAFETY: the host copied the record there and leaves it alone during the call.
    let bytes = unsafe { std::slice::from_raw_parts(record as *const u8, record_len) };
    let value: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
    std::hint::black_box(&value);
    record
}
