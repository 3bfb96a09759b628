//! Tokens: 256 random bits that prove who calls.
//!
//! Kept is only the SHA-256 of a token's text. A slow hash (argon2) would be for what people choose: nobody can try out
//! 2^256 tokens, however fast one try is, while a slow hash would let anyone keep this processor busy with wrong ones.

use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use std::fmt;
use std::str::FromStr;
use subtle::ConstantTimeEq;

const BYTES: usize = 32;
/// By it a token is known where it should not be (a repository, a log).
const PREFIX: &str = "tickplane_";

/// A token as its client shows it. Not to be logged or kept: it has no `Debug`, and is shown once.
pub struct Token(String);

impl Token {
    /// A new one, from the kernel's random numbers.
    pub fn generate() -> Token {
        let mut bytes = [0; BYTES];
        SystemRandom::new().fill(&mut bytes).expect("the kernel has random numbers");
        Token(format!("{PREFIX}{}", hex(&bytes)))
    }

    pub fn text(&self) -> &str {
        &self.0
    }

    pub fn hash(&self) -> TokenHash {
        TokenHash::of(&self.0)
    }
}

/// SHA-256 (FIPS 180-4) of a token's text, as `printf %s TOKEN | sha256sum` prints it.
#[derive(Clone, Copy)]
pub struct TokenHash([u8; BYTES]);

impl TokenHash {
    pub fn of(token: &str) -> TokenHash {
        let digest = digest(&SHA256, token.as_bytes());
        TokenHash(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    /// What it is looked up by. That this takes a time which depends on it tells nothing of use: who doesn't know a token
    /// can't choose its hash.
    pub fn key(&self) -> u64 {
        u64::from_le_bytes(self.0[..8].try_into().expect("8 bytes"))
    }

    /// Whether they are the same, in a time that does not depend on where they differ.
    pub fn is(&self, other: &TokenHash) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<TokenHash> {
        Some(TokenHash(bytes.try_into().ok()?))
    }
}

impl FromStr for TokenHash {
    type Err = String;

    fn from_str(text: &str) -> Result<TokenHash, String> {
        let bytes = (text.is_ascii() && text.len() == 2 * BYTES)
            .then(|| (0..BYTES).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()).collect())
            .flatten();
        let bytes: Vec<u8> =
            bytes.ok_or("give 64 hexadecimal digits, as `tickplane client hash` prints them")?;
        Ok(TokenHash::from_bytes(&bytes).expect("as many as were read"))
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_what_everybody_computes() {
        // FIPS 180-4, example "abc".
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(TokenHash::of("abc").to_string(), abc);
        assert!(abc.parse::<TokenHash>().unwrap().is(&TokenHash::of("abc")));
        for bad in ["", "ba", &abc[1..], &format!("{abc}0"), &abc.replace('b', "x"), &"é".repeat(32)] {
            assert!(bad.parse::<TokenHash>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_is_its_own_hash_s_only_wherever_another_differs() {
        let token = Token::generate();
        assert_eq!(token.text().len(), PREFIX.len() + 64);
        assert_ne!(token.text(), Token::generate().text());
        let hash = token.hash();
        assert!(hash.is(&TokenHash::of(token.text())));
        for bit in 0..256 {
            let mut other = hash;
            other.0[bit / 8] ^= 1 << (bit % 8);
            assert!(!hash.is(&other), "bit {bit}");
        }
    }
}
