//! The module's contract with its host: Fluent Bit's WASM filter (`plugins/filter_wasm/filter_wasm.c`,
//! `src/wasm/flb_wasm.c`, read at 5.1.1). The only file with pointers and the only one with `unsafe`.
//!
//! Per record the host calls `malloc` for the tag, `malloc` for the record, `psexec_filter`, reads the string it returns
//! up to its NUL, and calls `free` twice; Fluent Bit 4.1 forgets the `free`s (issue 11072). So `free` does nothing: the copies
//! live in an arena that is reset by the first `malloc` after a call.
//!
//! After a trap the host goes on with the same instance. The call that trapped may have left anything half changed, even the
//! allocator's own lists. So the heap is reset together with the filter (see [`Heap`]), and nothing that the call held is looked at
//! again. Only the stack that it used stays lost (Rust has no way to set the stack pointer): when too much of it is gone, records
//! pass unexamined rather than be lost.
//!
//! wasm32 has one thread, so the cells below are never used twice at once.

use crate::filter::Filter;
use crate::splice::{Answer, Splice};
use dlmalloc::Dlmalloc;
use once_cell::unsync::OnceCell;
use std::alloc::{GlobalAlloc, Layout};
use std::cell::{Cell, UnsafeCell};

/// Room for a policy, in bytes; `psexec-filter pack` refuses a larger one.
const POLICY_REGION: usize = 128 * 1024;

/// Size of the arena that the copies of most calls fit in, in bytes.
const SMALL: usize = 128 * 1024;

/// Room after every copy, in bytes, so that an alert can be added in place. Most alerts have 2 to 4 KiB.
const ROOM: usize = 32 * 1024;

/// The largest copy that there is memory for, in bytes: the longest record that a policy allows, its NUL, and a tag.
const LARGE: usize = 4 * 1024 * 1024 + 64 * 1024;

/// The answer that drops a record. Not a constant: its address must lie in memory.
static EMPTY: [u8; 1] = [0];

/// A page of WebAssembly memory, in bytes.
const PAGE: usize = 64 * 1024;

/// How much of the stack may be lost to calls that trapped, in bytes. Of the 512 KiB that `build.rs` asks for, Fluent Bit on Linux
/// leaves 102; a call needs less than 32.
const STACK_LOST: usize = 64 * 1024;

/// A cell that may be a static, because wasm32 has one thread.
#[repr(C, align(16))]
struct Global<T>(UnsafeCell<T>);

// SAFETY: this module is only compiled for wasm32-unknown-unknown without atomics, where there is one thread.
unsafe impl<T> Sync for Global<T> {}

/// Where `pack` and the host program put the policy: 4 bytes of length (little-endian), then JSON. Exported, so that they find it.
#[unsafe(no_mangle)]
static PSEXEC_FILTER_POLICY: Global<[u8; POLICY_REGION]> =
    Global(UnsafeCell::new([0; POLICY_REGION]));

static SMALL_ARENA: Global<[u8; SMALL]> = Global(UnsafeCell::new([0; SMALL]));

static MODULE: Global<Module> = Global(UnsafeCell::new(Module {
    filter: OnceCell::new(),
    busy: Cell::new(false),
    restarts: Cell::new(0),
    stack: Cell::new(0),
    arena: Arena {
        small_used: 0,
        large: 0,
        called: true,
    },
    out: Vec::new(),
}));

struct Module {
    filter: OnceCell<Filter>,
    /// Set during a call. If it is set when a call begins, the one before it trapped.
    busy: Cell<bool>,
    restarts: Cell<u32>,
    /// Address of the stack in the first call; 0 before it.
    stack: Cell<usize>,
    arena: Arena,
    /// An answer that does not fit in the arena; valid until the next call.
    out: Vec<u8>,
}

/// Memory for the host's copies of one call.
struct Arena {
    small_used: usize,
    /// Address of a block for large records, allocated when first needed and kept; 0 before that.
    large: usize,
    /// Whether a call was made since the last copy, so that the arena can be used again from its start.
    called: bool,
}

/// The one instance of everything.
fn module() -> *mut Module {
    MODULE.0.get()
}

/// Gives the host memory for a copy. 0 if there is none.
#[unsafe(no_mangle)]
pub extern "C" fn malloc(size: usize) -> usize {
    // SAFETY: one thread, and no other reference to the module lives across a call from the host.
    let module = unsafe { &mut *module() };
    if module.arena.called {
        module.arena.called = false;
        module.arena.small_used = 0;
        // Before any copy is made, because a large one lives in the heap.
        module.recover_after_trap();
    }
    let arena = &mut module.arena;
    let base = SMALL_ARENA.0.get() as usize;
    let start = arena.small_used.next_multiple_of(16);
    let end = start.saturating_add(size);
    if end.saturating_add(ROOM) <= SMALL {
        arena.small_used = end;
        return base.wrapping_add(start);
    }
    if size > LARGE {
        return 0;
    }
    if arena.large == 0 {
        let Ok(layout) = Layout::from_size_align(LARGE.saturating_add(ROOM), 16) else {
            return 0;
        };
        // SAFETY: the layout has a size. Null is handled: it is the 0 that the host understands.
        arena.large = unsafe { std::alloc::alloc(layout) } as usize;
    }
    // A tag that is so large shares the block with its record: tags are not read here.
    arena.large
}

/// Does nothing: the arena is reset by `malloc`. A host may call it once for each copy, twice, or never.
#[unsafe(no_mangle)]
pub extern "C" fn free(_address: usize) {}

/// The filter. Returns the record's own address to leave it as it is, or that of a NUL-terminated text: a JSON object that takes the
/// record's place, or nothing, which drops it.
#[unsafe(no_mangle)]
pub extern "C" fn psexec_filter(
    _tag: usize,
    _tag_len: usize,
    seconds: u32,
    nanoseconds: u32,
    record: usize,
    record_len: usize,
) -> usize {
    // SAFETY: one thread; the host makes one call at a time and reads the result before the next.
    let module = unsafe { &mut *module() };
    module.arena.called = true;
    let memory = core::arch::wasm32::memory_size(0).saturating_mul(PAGE);
    if record == 0 || record.saturating_add(record_len) >= memory {
        // The host had no memory for the record. Its own address is the least harmful answer.
        return record;
    }
    let Some(filter) = module.filter_for_call() else {
        return record;
    };
    // SAFETY: the bytes lie inside this memory (checked above) and nobody writes them while the slice lives.
    let bytes = unsafe { core::slice::from_raw_parts(record as *const u8, record_len) };
    let answer = match filter.process(bytes, seconds, nanoseconds) {
        Answer::Unchanged => record,
        Answer::Add(splice) => module.insert(record, record_len, &splice),
        Answer::Replace(text) => module.answer(text).unwrap_or(record),
        // The host reads an empty string, and drops the record.
        Answer::Drop => EMPTY.as_ptr() as usize,
    };
    // Not before: a call that traps while it writes its answer may leave the heap half changed, too.
    module.busy.set(false);
    answer
}

/// Returns the next alert that waits for a record or for a late connection, as NUL-terminated JSON; 0 when there is none. Fluent Bit
/// never calls this. A host whose input ends should call it until it gets 0.
#[unsafe(no_mangle)]
pub extern "C" fn psexec_filter_flush() -> usize {
    answer(Filter::flush)
}

/// Returns the next piece of a snapshot as NUL-terminated JSON; 0 after the last one. `psexec_filter_restore` takes the pieces in
/// this order.
#[unsafe(no_mangle)]
pub extern "C" fn psexec_filter_save() -> usize {
    answer(Filter::save_next)
}

/// Takes in a piece that `psexec_filter_save` returned, copied to memory from `malloc`. Returns 1, or 0 if the piece is damaged or of
/// another format; nothing is changed then.
#[unsafe(no_mangle)]
pub extern "C" fn psexec_filter_restore(piece: usize, length: usize) -> u32 {
    // SAFETY: as in `psexec_filter`.
    let module = unsafe { &mut *module() };
    module.arena.called = true;
    let memory = core::arch::wasm32::memory_size(0).saturating_mul(PAGE);
    if piece == 0 || piece.saturating_add(length) >= memory {
        return 0;
    }
    let Some(filter) = module.filter_for_call() else {
        return 0;
    };
    // SAFETY: as for the record in `psexec_filter`.
    let done = filter.restore(unsafe { core::slice::from_raw_parts(piece as *const u8, length) });
    module.busy.set(false);
    u32::from(done)
}

/// Returns the counters as NUL-terminated JSON.
#[unsafe(no_mangle)]
pub extern "C" fn psexec_filter_stats() -> usize {
    answer(|filter| Some(filter.stats()))
}

/// Returns the version of this contract, [`crate::ABI`]. Its code is this one constant, so that `psexec_filter_pack::version` can read
/// it without running the module.
#[unsafe(no_mangle)]
pub extern "C" fn psexec_filter_abi() -> u32 {
    crate::ABI
}

/// Returns the address of the module's version as NUL-terminated text, with the commit in a release: `0.1.0 (1a2b3c4d5e6f)`. Its code
/// is one constant, too.
#[unsafe(no_mangle)]
pub extern "C" fn psexec_filter_build() -> *const u8 {
    concat!(env!("PSEXEC_FILTER_BUILD"), "\0").as_ptr()
}

/// Calls the filter, and returns the address of the text that it returns; 0 for none.
fn answer(call: impl FnOnce(&mut Filter) -> Option<String>) -> usize {
    // SAFETY: as in `psexec_filter`.
    let module = unsafe { &mut *module() };
    let Some(filter) = module.filter_for_call() else {
        return 0;
    };
    let answer = call(filter).and_then(|text| module.answer(text));
    module.busy.set(false);
    answer.unwrap_or(0)
}

impl Module {
    /// The filter, for a call that then has to clear `busy`. `None` if too little stack is left.
    fn filter_for_call(&mut self) -> Option<&mut Filter> {
        let here = 0u8;
        let stack = core::hint::black_box(&raw const here) as usize;
        if self.stack.get() == 0 {
            self.stack.set(stack);
        }
        if self.stack.get().saturating_sub(stack) > STACK_LOST {
            return None;
        }
        self.recover_after_trap();
        self.busy.set(true);
        if self.filter.get().is_none() {
            self.start();
        }
        self.filter.get_mut()
    }

    /// Writes the record with the alert in it and returns its address: over the record itself where there is room.
    #[cold]
    #[inline(never)]
    fn insert(&mut self, record: usize, record_len: usize, splice: &Splice) -> usize {
        // SAFETY: as in `psexec_filter`. Neither part is read after the record has been overwritten.
        let bytes = unsafe { core::slice::from_raw_parts(record as *const u8, record_len) };
        let Some((head, tail)) = bytes.split_at_checked(splice.at) else {
            return record;
        };
        let length = record_len.saturating_add(splice.text.len());
        if self.arena.can_extend(record, length) {
            // SAFETY: the arena has `length` + 1 bytes from `record` on, and the record is the last copy in it, so nothing else is
            // stored there. The tail moves first (the ranges may overlap), then the text takes its place.
            unsafe {
                let at = (record as *mut u8).add(splice.at);
                core::ptr::copy(at, at.add(splice.text.len()), tail.len());
                core::ptr::copy_nonoverlapping(splice.text.as_ptr(), at, splice.text.len());
                (record as *mut u8).add(length).write(0);
            }
            return record;
        }
        self.out.clear();
        for part in [head, splice.text.as_bytes(), tail, &[0]] {
            self.out.extend_from_slice(part);
        }
        self.out.as_ptr() as usize
    }

    /// Keeps a text until the next call, NUL-terminated, and returns its address. `None` if there is no memory for the NUL.
    #[inline(never)]
    fn answer(&mut self, text: String) -> Option<usize> {
        // Not copied, because a piece of a snapshot may be long.
        let mut text = text.into_bytes();
        text.try_reserve_exact(1).ok()?;
        text.push(0);
        self.out = text;
        Some(self.out.as_ptr() as usize)
    }

    /// Creates the filter. Not inlined, like everything that happens seldom: Fluent Bit's interpreter copies a function's constants
    /// and clears its locals at every call, needed or not.
    #[cold]
    #[inline(never)]
    fn start(&mut self) {
        let mut filter =
            packed_policy().map_or_else(|| Filter::new(Default::default()), Filter::from_json);
        filter.set_restarts(self.restarts.get());
        // It is not set yet, so this does not fail.
        let _ = self.filter.set(filter);
    }

    /// If the last call trapped: resets the heap, and the next call creates a new filter. What the old one remembered is lost.
    fn recover_after_trap(&mut self) {
        if self.busy.replace(false) {
            self.reset_heap();
        }
    }

    #[cold]
    #[inline(never)]
    fn reset_heap(&mut self) {
        // Not dropped: dropping would walk what was left half changed.
        std::mem::forget(std::mem::take(&mut self.filter));
        std::mem::forget(std::mem::take(&mut self.out));
        self.arena.large = 0;
        self.restarts.set(self.restarts.get().saturating_add(1));
        // SAFETY: one thread; everything that pointed into the heap (filter, answer, large block) was just forgotten.
        unsafe { *HEAP.0.0.get() = Dlmalloc::new_with_allocator(Pages::all_unused()) };
    }
}

/// The heap: the allocator that the standard library uses on wasm32, as a crate of its own so that it can be reset.
struct Heap(Global<Dlmalloc<Pages>>);

#[global_allocator]
static HEAP: Heap = Heap(Global(UnsafeCell::new(Dlmalloc::new_with_allocator(
    Pages::all_unused(),
))));

// SAFETY: one thread, and dlmalloc keeps the contract of each function; no reference to it outlives a call.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: see the impl.
        unsafe { (*self.0.0.get()).malloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: see the impl.
        unsafe { (*self.0.0.get()).free(block, layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: see the impl.
        unsafe { (*self.0.0.get()).calloc(layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: see the impl.
        unsafe { (*self.0.0.get()).realloc(block, layout.size(), layout.align(), size) }
    }
}

/// Where the heap gets its memory: first what there is after the module's data, then by growing the memory.
struct Pages {
    unused: Cell<bool>,
}

unsafe extern "C" {
    /// The end of the module's data; set by the linker.
    static __heap_base: u8;
}

impl Pages {
    const fn all_unused() -> Pages {
        Pages {
            unused: Cell::new(true),
        }
    }
}

// SAFETY: hands out memory that nobody else has: what it grew, and once the memory after the module's data.
unsafe impl dlmalloc::Allocator for Pages {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        const NONE: (*mut u8, usize, u32) = (core::ptr::null_mut(), 0, 0);
        let end = core::arch::wasm32::memory_size(0).saturating_mul(PAGE);
        let start = if self.unused.replace(false) {
            (&raw const __heap_base as usize).next_multiple_of(16)
        } else {
            end
        };
        let lacking = size
            .saturating_sub(end.saturating_sub(start))
            .div_ceil(PAGE);
        if lacking > 0 && core::arch::wasm32::memory_grow(0, lacking) == usize::MAX {
            return NONE;
        }
        let end = core::arch::wasm32::memory_size(0).saturating_mul(PAGE);
        (start as *mut u8, end.saturating_sub(start), 0)
    }

    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        core::ptr::null_mut()
    }

    fn free_part(&self, _: *mut u8, _: usize, _: usize) -> bool {
        false
    }

    fn free(&self, _: *mut u8, _: usize) -> bool {
        false
    }

    fn can_release_part(&self, _: u32) -> bool {
        false
    }

    fn allocates_zeros(&self) -> bool {
        // Not after a reset.
        false
    }

    fn page_size(&self) -> usize {
        PAGE
    }
}

impl Arena {
    /// Whether `length` bytes and a NUL fit from `address` on, and `address` is the last copy made.
    fn can_extend(&self, address: usize, length: usize) -> bool {
        let need = length.saturating_add(1);
        let small = SMALL_ARENA.0.get() as usize;
        if address >= small && address < small.wrapping_add(SMALL) {
            let offset = address.wrapping_sub(small);
            return offset.saturating_add(need) <= SMALL;
        }
        self.large != 0 && address == self.large && need <= LARGE.saturating_add(ROOM)
    }
}

/// The policy in the region, if there is one.
fn packed_policy() -> Option<&'static str> {
    // To the compiler the region is always zero.
    let region = PSEXEC_FILTER_POLICY.0.get() as *const u8;
    // SAFETY: the region is a static of POLICY_REGION bytes that nobody writes after the first call; the length is checked against
    // it. Volatile, because others than this program write it.
    let json = unsafe {
        let length = core::ptr::read_volatile(region.cast::<u32>()) as usize;
        if length == 0 || length > POLICY_REGION.saturating_sub(4) {
            return None;
        }
        core::slice::from_raw_parts(core::hint::black_box(region).add(4), length)
    };
    // A policy that is not text is refused and counted like one that is not JSON.
    Some(core::str::from_utf8(json).unwrap_or(""))
}
