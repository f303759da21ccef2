//! Bytes as a list of things that happen: each is a kind in one byte, a length in two, and so many bytes.

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Item<'a> {
    pub(crate) kind: u8,
    pub(crate) bytes: &'a [u8],
}

/// Takes the items of an input; the last one may be shorter than it says.
#[derive(Debug)]
pub(crate) struct Items<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Items<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        let [kind, high, low, rest @ ..] = self.0 else {
            return None;
        };
        let len = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (bytes, rest) = rest.split_at(len);
        self.0 = rest;
        Some(Item { kind: *kind, bytes })
    }
}

/// Adds one; what is too long for an item is left out.
pub(crate) fn add(input: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    if let Ok(len) = u16::try_from(bytes.len()) {
        input.push(kind);
        input.extend(len.to_be_bytes());
        input.extend(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_back_as_they_were_added() {
        let mut input = Vec::new();
        add(&mut input, 3, b"abc");
        add(&mut input, 0, b"");
        let kinds: Vec<_> = Items(&input).map(|item| (item.kind, item.bytes)).collect();
        assert_eq!(kinds, [(3, b"abc".as_slice()), (0, b"")]);
        assert_eq!(Items(&input[..4]).map(|item| item.bytes).collect::<Vec<_>>(), [b"a"]);
    }
}
