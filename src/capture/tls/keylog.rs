//! Key logs: the format of NSS (`SSLKEYLOGFILE`), as browsers, OpenSSL, rustls and libpq write it, and as
//! pcapng carries it in its Decryption Secrets Block.

use std::collections::BTreeMap;

use crate::secret::Secret;

/// Connections whose keys are kept; a line of a key log is some 200 bytes, so this is a file of 60 MB.
pub const MAX_CONNECTIONS: usize = 65_536;

/// The client's random, by which a key log names a connection.
pub type Random = [u8; 32];

/// Keys by connection.
#[derive(Clone, Debug, Default)]
pub struct KeyLog {
    keys: BTreeMap<Random, Secrets>,
    /// Lines that name keys of a kind that is known, and can't be read.
    broken: u64,
}

/// What is known of one connection.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// TLS 1.2: the master secret.
    pub master: Option<Secret<Vec<u8>>>,
    /// TLS 1.3: of the client's and the server's handshake messages.
    pub handshake: [Option<Secret<Vec<u8>>>; 2],
    /// TLS 1.3: of the client's and the server's data.
    pub traffic: [Option<Secret<Vec<u8>>>; 2],
}

impl KeyLog {
    /// Adds the lines of a key log. What is no line of one is left out.
    pub fn read(&mut self, text: &[u8]) {
        for line in text.split(|byte| matches!(byte, b'\n' | b'\r')) {
            let mut words = line.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
            let Some(label) = words.next().and_then(label) else { continue };
            let (random, secret) = (words.next().and_then(hex), words.next().and_then(hex));
            match (random.and_then(|random| Random::try_from(random).ok()), secret) {
                (Some(random), Some(secret)) if (32..=64).contains(&secret.len()) => {
                    self.add(label, random, Secret::new(secret));
                }
                _ => self.broken += 1,
            }
        }
    }

    /// What is known of a connection.
    pub fn get(&self, random: &Random) -> Option<&Secrets> {
        self.keys.get(random)
    }

    /// Whether no key is known.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Connections whose keys are known, and lines that could not be read.
    pub fn counts(&self) -> (usize, u64) {
        (self.keys.len(), self.broken)
    }

    fn add(&mut self, label: Label, random: Random, secret: Secret<Vec<u8>>) {
        if self.keys.len() >= MAX_CONNECTIONS && !self.keys.contains_key(&random) {
            return;
        }
        let secrets = self.keys.entry(random).or_default();
        let [client_handshake, server_handshake] = &mut secrets.handshake;
        let [client_traffic, server_traffic] = &mut secrets.traffic;
        let place = match label {
            Label::Master => &mut secrets.master,
            Label::ClientHandshake => client_handshake,
            Label::ServerHandshake => server_handshake,
            Label::ClientTraffic => client_traffic,
            Label::ServerTraffic => server_traffic,
        };
        *place = Some(secret);
    }
}

#[derive(Clone, Copy)]
enum Label {
    Master,
    ClientHandshake,
    ServerHandshake,
    ClientTraffic,
    ServerTraffic,
}

fn label(word: &[u8]) -> Option<Label> {
    Some(match word {
        b"CLIENT_RANDOM" => Label::Master,
        b"CLIENT_HANDSHAKE_TRAFFIC_SECRET" => Label::ClientHandshake,
        b"SERVER_HANDSHAKE_TRAFFIC_SECRET" => Label::ServerHandshake,
        b"CLIENT_TRAFFIC_SECRET_0" => Label::ClientTraffic,
        b"SERVER_TRAFFIC_SECRET_0" => Label::ServerTraffic,
        _ => return None,
    })
}

fn hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    if !text.len().is_multiple_of(2) || text.len() > 128 {
        return None;
    }
    text.chunks_exact(2).map(|two| Some(digit(two.first()?)? << 4 | digit(two.last()?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::KeyLog;

    #[test]
    fn lines_are_read_and_what_is_none_is_left_out() {
        let (random, secret) = ("01".repeat(32), "ab".repeat(48));
        let mut log = KeyLog::default();
        log.read(
            format!(
                "# a comment\r\nCLIENT_RANDOM {random} {secret}\n\nEXPORTER_SECRET {random} {secret}\n\
                 SERVER_TRAFFIC_SECRET_0 {random} {secret}\nCLIENT_RANDOM 01 02\nCLIENT_RANDOM {random} xy\n\
                 CLIENT_TRAFFIC_SECRET_0 {random}\nnonsense\0\u{fffd}"
            )
            .as_bytes(),
        );
        assert_eq!(log.counts(), (1, 3));
        let secrets = log.get(&[1; 32]).expect("it is there");
        assert!(secrets.master.is_some() && secrets.traffic[1].is_some() && secrets.traffic[0].is_none());
        assert_eq!(secrets.master.as_ref().map(|secret| secret.expose().len()), Some(48));
        assert!(!format!("{log:?}").contains("171"), "a secret is printed");
    }
}
