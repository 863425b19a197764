//! Reads the values and members of a JSON container, one after another, without decoding them.
//!
//! Used for every list or object whose place is known; only the walk through a whole record has its own loop, because it is led by
//! keys that it predicts.
//!
//! The functions are always inlined: as calls, which return their results through memory, they add 1.5 % to the instructions that an
//! event with its values in `StringInserts` takes, and 2.8 % to those of an OTLP request (whole module, executed WebAssembly
//! instructions).

use super::scan::{Fault, container_end, scalar_end, skip_blank, string_end};

/// What a value is, by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    String,
    /// A number, `true`, `false` or `null`; not checked for being one.
    Scalar,
    /// An object.
    Object,
    /// An array.
    Array,
}

/// Where a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    /// What it is.
    pub kind: Kind,
    /// The offset of its first byte: after the quote of a string, at the bracket of a container.
    pub start: usize,
    /// The offset after its last byte: at the quote of a string, after the bracket of a container.
    pub end: usize,
}

impl Value {
    /// The offset after the value, and after the quote of a string.
    #[inline(always)]
    pub fn after(&self) -> usize {
        match self.kind {
            Kind::String => self.end.wrapping_add(1),
            _ => self.end,
        }
    }

    /// Whether there is no value where one was expected: a scalar of no bytes.
    #[inline(always)]
    pub fn is_missing(&self) -> bool {
        self.kind == Kind::Scalar && self.start == self.end
    }
}

/// The value at `at`, where there is no white space. It [is missing](Value::is_missing) if something else is there, such as a comma.
#[inline(always)]
pub fn value(bytes: &[u8], at: usize) -> Result<Value, Fault> {
    let (kind, start, end) = match bytes.get(at).ok_or(Fault::Truncated)? {
        b'"' => {
            let start = at.wrapping_add(1);
            (Kind::String, start, string_end(bytes, start)?)
        }
        b'{' => (Kind::Object, at, container_end(bytes, at)?),
        b'[' => (Kind::Array, at, container_end(bytes, at)?),
        _ => (Kind::Scalar, at, scalar_end(bytes, at)),
    };
    Ok(Value { kind, start, end })
}

/// The string whose quote is at `quote`, as it is between its quotes, and the offset after it.
#[inline(always)]
pub fn string(bytes: &[u8], quote: usize) -> Result<(&[u8], usize), Fault> {
    if bytes.get(quote).ok_or(Fault::Truncated)? != &b'"' {
        return Err(Fault::Malformed);
    }
    let start = quote.wrapping_add(1);
    let end = string_end(bytes, start)?;
    Ok((
        bytes.get(start..end).unwrap_or_default(),
        end.wrapping_add(1),
    ))
}

/// The offset after the colon that is next at or after `at`, which is the end of a key.
#[inline(always)]
pub fn colon(bytes: &[u8], at: usize) -> Result<usize, Fault> {
    let colon = skip_blank(bytes, at);
    match bytes.get(colon).ok_or(Fault::Truncated)? {
        b':' => Ok(colon.wrapping_add(1)),
        _ => Err(Fault::Malformed),
    }
}

/// The member whose key's quote is at `quote`: its key as it is between the quotes, and the offset of its value.
#[inline(always)]
pub fn member(bytes: &[u8], quote: usize) -> Result<(&[u8], usize), Fault> {
    let (key, after) = string(bytes, quote)?;
    Ok((key, skip_blank(bytes, colon(bytes, after)?)))
}

/// The offset of the value of the first member called `wanted` in the object at `open`. The key is compared as it is written,
/// without its escapes resolved. `None` if there is no object or no such member.
pub fn find_member(bytes: &[u8], open: usize, wanted: &str) -> Option<usize> {
    if bytes.get(open) != Some(&b'{') {
        return None;
    }
    let mut at = open.wrapping_add(1);
    loop {
        at = skip_blank(bytes, at);
        if bytes.get(at) == Some(&b',') {
            at = at.wrapping_add(1);
            continue;
        }
        let (key, start) = member(bytes, at).ok()?;
        if key == wanted.as_bytes() {
            return Some(start);
        }
        at = value(bytes, start).ok()?.after();
    }
}

/// The element of the array at `open`, if it has exactly one. `None` if it is no array.
#[inline(always)]
pub fn only_element(bytes: &[u8], open: usize) -> Option<Value> {
    if bytes.get(open) != Some(&b'[') {
        return None;
    }
    let element = value(bytes, skip_blank(bytes, open.wrapping_add(1))).ok()?;
    let is_only = bytes.get(skip_blank(bytes, element.after())) == Some(&b']');
    (is_only && !element.is_missing()).then_some(element)
}

/// The elements of an array, one after another. Commas only separate: how many there are is not checked.
pub struct Elements<'j> {
    bytes: &'j [u8],
    at: usize,
}

impl<'j> Elements<'j> {
    /// Those of the array that opens at `open`, where there is a bracket.
    pub fn new(bytes: &'j [u8], open: usize) -> Elements<'j> {
        Elements {
            bytes,
            at: open.wrapping_add(1),
        }
    }

    /// The next element; `None` at the bracket that ends the array.
    #[inline(always)]
    pub fn next_element(&mut self) -> Result<Option<Value>, Fault> {
        loop {
            self.at = skip_blank(self.bytes, self.at);
            match self.bytes.get(self.at) {
                Some(b',') => self.at = self.at.wrapping_add(1),
                Some(b']') => return Ok(None),
                _ => break,
            }
        }
        let element = value(self.bytes, self.at)?;
        if element.is_missing() {
            return Err(Fault::Malformed);
        }
        self.at = element.after();
        Ok(Some(element))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str, value: Value) -> &str {
        &json[value.start..value.end]
    }

    #[test]
    fn values_are_read_by_their_first_byte() {
        for (json, kind, want) in [
            (r#""a\"b", 1"#, Kind::String, r#"a\"b"#),
            ("11]", Kind::Scalar, "11"),
            (r#"{"a":[1]},2"#, Kind::Object, r#"{"a":[1]}"#),
            (r#"[1, "]"] "#, Kind::Array, r#"[1, "]"]"#),
            (",", Kind::Scalar, ""),
        ] {
            let value = value(json.as_bytes(), 0).expect("it ends");
            assert_eq!((value.kind, text(json, value)), (kind, want), "{json}");
        }
        for json in ["", r#""a"#, "[", "{"] {
            assert_eq!(value(json.as_bytes(), 0), Err(Fault::Truncated), "{json}");
        }
    }

    #[test]
    fn members_are_found_by_their_key() {
        let json = r#" { "a" : [1,{"b":2}] , "c":"}" ,"b": 3 }"#;
        for (key, want) in [("a", Some("[1,{\"b\":2}]")), ("b", Some("3")), ("x", None)] {
            let found = find_member(json.as_bytes(), 1, key)
                .map(|at| text(json, value(json.as_bytes(), at).expect("it ends")));
            assert_eq!(found, want, "{key}");
        }
        for json in ["", "[1]", r#"{"a"}"#, r#"{"b":1"#, "{1:2}"] {
            assert_eq!(find_member(json.as_bytes(), 0, "a"), None, "{json}");
        }
    }

    #[test]
    fn elements_end_with_their_array() {
        let json = r#"[ "x" , 1,[2],{} ] 5"#;
        let mut elements = Elements::new(json.as_bytes(), 0);
        let mut found = Vec::new();
        while let Some(element) = elements.next_element().expect("it is well-formed") {
            found.push(text(json, element));
        }
        assert_eq!(found, ["x", "1", "[2]", "{}"]);
        for json in ["[", "[1", "[}]", r#"["a"#] {
            let mut elements = Elements::new(json.as_bytes(), 0);
            let fault = loop {
                match elements.next_element() {
                    Ok(Some(_)) => {}
                    end => break end,
                }
            };
            assert!(fault.is_err(), "{json}");
        }
    }

    #[test]
    fn an_array_of_one_element() {
        for (json, want) in [
            ("[11]", Some("11")),
            (r#"[ "a" ]"#, Some("a")),
            (r#"[{"a":1}]"#, Some(r#"{"a":1}"#)),
            ("[1,2]", None),
            ("[]", None),
            ("[,1]", None),
            ("[1", None),
            ("11", None),
        ] {
            let found = only_element(json.as_bytes(), 0).map(|value| text(json, value));
            assert_eq!(found, want, "{json}");
        }
    }
}
