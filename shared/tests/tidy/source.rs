//! Reading source text: what is code, what is a comment, a literal or a test; and words.

#![expect(
    clippy::string_slice,
    reason = "every cut is at an index that a search over the same text returned"
)]

/// Rust source with comments and the insides of literals blanked; every line keeps its number.
pub(crate) fn code_only(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let after_a_word = code.ends_with(is_word);
        let length = comment_length(rest)
            .or_else(|| if after_a_word { None } else { raw_string_length(rest) })
            .or_else(|| quoted_length(rest));
        let (taken, kept) = rest.split_at(length.unwrap_or_else(|| first.len_utf8()));
        if length.is_some() {
            code.extend(taken.chars().map(|found| if found == '\n' { '\n' } else { ' ' }));
        } else {
            code.push_str(taken);
        }
        rest = kept;
    }
    code
}

fn comment_length(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if !rest.starts_with("/*") {
        return None;
    }
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
        if depth == 0 {
            break;
        }
    }
    Some(at)
}

fn raw_string_length(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    let body = body[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let close = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(rest.len() - body.len() + close)
}

fn quoted_length(rest: &str) -> Option<usize> {
    let quote = rest.chars().next().filter(|found| "\"'".contains(*found))?;
    let mut escaped = false;
    for (count, (at, found)) in rest.char_indices().skip(1).enumerate() {
        if quote == '\'' && count == 1 && found != '\'' && !rest.starts_with("'\\") {
            return None; // a lifetime
        }
        if found == quote && !escaped {
            return Some(at + 1);
        }
        escaped = found == '\\' && !escaped;
    }
    None
}

/// `code` (of `code_only`) with inline modules under `#[cfg(test)]` blanked, and how many lines are
/// left when they are not counted.
pub(crate) fn without_tests(code: &str) -> (String, usize) {
    let mut lines = code.lines().count();
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some((before, after)) = rest.split_once("#[cfg(test)]") {
        kept.push_str(before);
        let open = after.find(['{', ';']).filter(|at| after[*at..].starts_with('{'));
        let is_module = open.is_some_and(|at| has_word(&after[..at], "mod"));
        rest = match open {
            Some(at) if is_module => {
                let (tests, behind) = after.split_at(block_end(after, at));
                // The line of the attribute goes too.
                lines -= tests.matches('\n').count() + 1;
                kept.push_str(&blank(tests));
                behind
            }
            _ => after,
        };
    }
    kept.push_str(rest);
    (kept, lines)
}

fn blank(text: &str) -> String {
    text.chars().map(|found| if found == '\n' { '\n' } else { ' ' }).collect()
}

fn block_end(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, found) in code[open..].char_indices() {
        match found {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return open + at + 1;
        }
    }
    code.len()
}

pub(crate) fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        !text[..at].ends_with(is_word) && !text[at + word.len()..].starts_with(is_word)
    })
}

pub(crate) fn is_word(found: char) -> bool {
    found.is_alphanumeric() || found == '_'
}
