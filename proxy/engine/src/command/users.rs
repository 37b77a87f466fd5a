//! Who may log in to a pool. The one place where credentials are compared, whatever the dialect they came in.

/// Names and passwords of a pool; none means that nobody has to log in.
pub type Users = [(String, Vec<u8>)];

/// True if the pool has this user with this password.
pub fn is_known(users: &Users, name: &[u8], password: &[u8]) -> bool {
    // Every user is compared, so that the time taken does not tell which names exist.
    let mut known = false;
    for (user, secret) in users {
        known |= same(user.as_bytes(), name) & same(secret, password);
    }
    known
}

/// Compares in a time that depends on the length of `given` only.
fn same(secret: &[u8], given: &[u8]) -> bool {
    let mut difference = secret.len() ^ given.len();
    for (i, byte) in given.iter().enumerate() {
        difference |= usize::from(byte ^ secret.get(i).copied().unwrap_or(0));
    }
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_its_own_password_are_needed() {
        let users = [
            ("app".to_owned(), b"one".to_vec()),
            ("other".to_owned(), b"two two".to_vec()),
        ];
        assert!(is_known(&users, b"app", b"one"));
        assert!(is_known(&users, b"other", b"two two"));
        for (name, password) in [
            (&b"app"[..], &b"two two"[..]),
            (b"app", b"on"),
            (b"app", b"onee"),
            (b"ap", b"one"),
            (b"app", b""),
            (b"", b""),
        ] {
            assert!(!is_known(&users, name, password), "{name:?} {password:?}");
        }
        assert!(!is_known(&[], b"", b""));
    }
}
