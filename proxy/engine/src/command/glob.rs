//! Redis' glob patterns without regard to case: `*`, `?`, `[a-c]`, `[^x]`, `\x`.
//!
//! Used by CONFIG GET and COMMAND LIST. Takes at most pattern times text steps, whatever a client sends.

/// True if the whole of `text` fits `pattern`.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut i) = (0, 0);
    // Where to go on after a mismatch: behind the last `*`, one byte further. An earlier `*` never
    // has to be tried again, which is what keeps this from being exponential.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if at < pattern.len() && pattern[at] == b'*' {
            at += 1;
            retry = Some((at, i));
            continue;
        }
        if i == text.len() && at == pattern.len() {
            return true;
        }
        if i < text.len() && at < pattern.len() {
            if let Some(next) = one(pattern, at, text[i]) {
                (at, i) = (next, i + 1);
                continue;
            }
        }
        match retry {
            Some((star, from)) if from < text.len() => {
                retry = Some((star, from + 1));
                (at, i) = (star, from + 1);
            }
            _ => return false,
        }
    }
}

/// Position behind the element at `at` if it fits `byte`.
fn one(pattern: &[u8], at: usize, byte: u8) -> Option<usize> {
    let same = |a: u8| a.eq_ignore_ascii_case(&byte);
    match pattern[at] {
        b'?' => Some(at + 1),
        b'[' => class(pattern, at + 1, byte),
        b'\\' if at + 1 < pattern.len() => same(pattern[at + 1]).then_some(at + 2),
        other => same(other).then_some(at + 1),
    }
}

/// A class whose first byte behind `[` is at `at`; one that is not closed ends with the pattern.
fn class(pattern: &[u8], mut at: usize, byte: u8) -> Option<usize> {
    let byte = byte.to_ascii_lowercase();
    let lower = |i: usize| pattern[i].to_ascii_lowercase();
    let negated = pattern.get(at) == Some(&b'^');
    at += usize::from(negated);
    let mut fits = false;
    while at < pattern.len() && pattern[at] != b']' {
        if pattern[at] == b'\\' && at + 1 < pattern.len() {
            fits |= lower(at + 1) == byte;
            at += 2;
        } else if at + 2 < pattern.len() && pattern[at + 1] == b'-' {
            let (low, high) = (lower(at).min(lower(at + 2)), lower(at).max(lower(at + 2)));
            fits |= (low..=high).contains(&byte);
            at += 3;
        } else {
            fits |= lower(at) == byte;
            at += 1;
        }
    }
    (fits != negated).then_some((at + 1).min(pattern.len()))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("max*", "maxmemory", true),
            ("MAX*Y", "maxmemory", true),
            ("*mem*pol*", "maxmemory-policy", true),
            ("max?emory", "maxmemory", true),
            ("[l-n]ax*", "maxmemory", true),
            ("[^m]*", "maxmemory", false),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("a[", "a", false),
            ("a[b", "ab", true),
            ("*a", "aba", true),
            ("*ab", "abac", false),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn many_stars_are_not_exponential() {
        assert!(!matches(&b"*a".repeat(2000), &[b'b'; 2000]));
        assert!(!matches(
            &[&b"a*".repeat(200)[..], b"c"].concat(),
            &[b'a'; 5000]
        ));
    }
}
