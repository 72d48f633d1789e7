//! The messages inside SASL: SCRAM (RFC 5802, as auth-scram.c and fe-auth-scram.c read it) and
//! OAUTHBEARER (RFC 7628).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::reader::{WireError, invalid};

/// What the client says about channel binding: the first letter of the gs2 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gs2Flag<'a> {
    /// `n`: the client can't or won't bind.
    No,
    /// `y`: the client could bind and thinks that the server can't.
    Yes,
    /// `p=NAME`: the client binds to the channel in this way.
    Bind(&'a [u8]),
}

/// client-first-message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFirst<'a> {
    /// The channel-binding flag.
    pub flag: Gs2Flag<'a>,
    /// The authorization identity; PostgreSQL refuses any.
    pub authzid: Option<&'a [u8]>,
    /// Everything behind the gs2 header: the first part of what the proof signs.
    pub bare: &'a [u8],
    /// `n=`: most drivers leave it empty or send `*`, the server ignores it.
    pub user: &'a [u8],
    /// `r=`
    pub nonce: &'a [u8],
}

impl<'a> ClientFirst<'a> {
    /// Decodes client-first-message (`read_client_first_message`).
    pub fn decode(text: &'a [u8]) -> Result<Self, WireError> {
        let (flag, rest) = split(text, "gs2 channel-binding flag")?;
        let flag = match flag {
            b"n" => Gs2Flag::No,
            b"y" => Gs2Flag::Yes,
            flag => Gs2Flag::Bind(flag.strip_prefix(b"p=").ok_or(invalid("gs2 channel-binding flag"))?),
        };
        let (authzid, bare) = split(rest, "gs2 authorization identity")?;
        let authzid = match authzid {
            b"" => None,
            text => Some(text.strip_prefix(b"a=").ok_or(invalid("gs2 authorization identity"))?),
        };
        let mut attributes = Attributes(bare);
        let user = attributes.expect(b'n', "SCRAM user name")?;
        let nonce = attributes.expect(b'r', "SCRAM client nonce")?;
        printable(nonce, "SCRAM client nonce")?;
        attributes.extensions()?;
        Ok(Self { flag, authzid, bare, user, nonce })
    }

    /// Appends the message as text.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self.flag {
            Gs2Flag::No => out.push(b'n'),
            Gs2Flag::Yes => out.push(b'y'),
            Gs2Flag::Bind(name) => {
                out.extend_from_slice(b"p=");
                out.extend_from_slice(name);
            }
        }
        out.push(b',');
        if let Some(authzid) = self.authzid {
            out.extend_from_slice(b"a=");
            out.extend_from_slice(authzid);
        }
        out.push(b',');
        out.extend_from_slice(self.bare);
    }
}

/// server-first-message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFirst<'a> {
    /// `r=`: the client's nonce with the server's appended.
    pub nonce: &'a [u8],
    /// `s=`, decoded.
    pub salt: Vec<u8>,
    /// `i=`
    pub iterations: u32,
}

impl<'a> ServerFirst<'a> {
    /// Decodes server-first-message (`read_server_first_message`).
    pub fn decode(text: &'a [u8]) -> Result<Self, WireError> {
        let mut attributes = Attributes(text);
        let nonce = attributes.expect(b'r', "SCRAM server nonce")?;
        printable(nonce, "SCRAM server nonce")?;
        let salt = base64(attributes.expect(b's', "SCRAM salt")?, "SCRAM salt")?;
        let iterations = number(attributes.expect(b'i', "SCRAM iteration count")?)?;
        attributes.extensions()?;
        Ok(Self { nonce, salt, iterations })
    }

    /// Appends the message as text.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"r=");
        out.extend_from_slice(self.nonce);
        out.extend_from_slice(format!(",s={},i={}", STANDARD.encode(&self.salt), self.iterations).as_bytes());
    }
}

/// client-final-message.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientFinal<'a> {
    /// `c=`, decoded: the gs2 header again, and behind `p=…,,` the channel's own data.
    pub binding: Vec<u8>,
    /// `r=`: must be the server's nonce.
    pub nonce: &'a [u8],
    /// The message up to `,p=`: the last part of what the proof signs.
    pub without_proof: &'a [u8],
    /// `p=`, decoded. A secret: it can be ground offline.
    pub proof: Vec<u8>,
}

impl std::fmt::Debug for ClientFinal<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientFinal")
            .field("binding", &self.binding.len())
            .field("nonce", &self.nonce.len())
            .finish_non_exhaustive()
    }
}

impl<'a> ClientFinal<'a> {
    /// Decodes client-final-message (`read_client_final_message`).
    pub fn decode(text: &'a [u8]) -> Result<Self, WireError> {
        let mut attributes = Attributes(text);
        let binding = base64(attributes.expect(b'c', "SCRAM channel binding")?, "SCRAM channel binding")?;
        let nonce = attributes.expect(b'r', "SCRAM final nonce")?;
        printable(nonce, "SCRAM final nonce")?;
        let start = text.windows(3).rposition(|three| three == b",p=").ok_or(invalid("SCRAM proof"))?;
        let (without_proof, proof) = text.split_at(start);
        let proof = base64(proof.get(3..).unwrap_or_default(), "SCRAM proof")?;
        Ok(Self { binding, nonce, without_proof, proof })
    }

    /// Appends the message as text.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.without_proof);
        out.extend_from_slice(b",p=");
        out.extend_from_slice(STANDARD.encode(&self.proof).as_bytes());
    }
}

/// server-final-message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerFinal<'a> {
    /// `v=`: the server's signature, decoded.
    Signature(Vec<u8>),
    /// `e=`: the server's reason, one of RFC 5802's error values (PostgreSQL sends an
    /// ErrorResponse instead).
    Error(&'a [u8]),
}

impl<'a> ServerFinal<'a> {
    /// Decodes server-final-message (`read_server_final_message`).
    pub fn decode(text: &'a [u8]) -> Result<Self, WireError> {
        let mut attributes = Attributes(text);
        let (name, value) = attributes.take("SCRAM server signature")?;
        let message = match name {
            b'v' => Self::Signature(base64(value, "SCRAM server signature")?),
            b'e' => Self::Error(value),
            _ => return Err(invalid("SCRAM server signature")),
        };
        attributes.extensions()?;
        Ok(message)
    }

    /// Appends the message as text.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Signature(signature) => {
                out.extend_from_slice(b"v=");
                out.extend_from_slice(STANDARD.encode(signature).as_bytes());
            }
            Self::Error(reason) => {
                out.extend_from_slice(b"e=");
                out.extend_from_slice(reason);
            }
        }
    }
}

/// The client's first OAUTHBEARER message, without its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OauthInitial {
    /// Length of the bearer token in bytes: 0 when the client only asks for the issuer, as libpq's
    /// first connection does.
    pub token_length: usize,
}

impl OauthInitial {
    /// Decodes the message (`validate_kvpairs` in auth-oauth.c): gs2 header, then
    /// `auth=Bearer TOKEN` between ^A bytes.
    pub fn decode(text: &[u8]) -> Result<Self, WireError> {
        let mut pairs = text.split(|&byte| byte == 1);
        let header = pairs.next().unwrap_or_default();
        if !header.starts_with(b"n,") && !header.starts_with(b"y,") {
            return Err(invalid("OAUTHBEARER gs2 header"));
        }
        let auth =
            pairs.find_map(|pair| pair.strip_prefix(b"auth=")).ok_or(invalid("OAUTHBEARER auth value"))?;
        let scheme = auth.len().min(7);
        let (scheme, token) = auth.split_at(scheme);
        let token = if scheme.eq_ignore_ascii_case(b"bearer ") { token } else { b"" };
        Ok(Self { token_length: token.trim_ascii().len() })
    }
}

/// `name=value` pairs between commas.
struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    fn take(&mut self, field: &'static str) -> Result<(u8, &'a [u8]), WireError> {
        let end = self.0.iter().position(|&byte| byte == b',').unwrap_or(self.0.len());
        let (attribute, rest) = self.0.split_at(end);
        self.0 = rest.get(1..).unwrap_or_default();
        match attribute {
            [name, b'=', value @ ..] if name.is_ascii_alphabetic() => Ok((*name, value)),
            _ => Err(invalid(field)),
        }
    }

    fn expect(&mut self, name: u8, field: &'static str) -> Result<&'a [u8], WireError> {
        match self.take(field)? {
            (found, value) if found == name => Ok(value),
            _ => Err(invalid(field)),
        }
    }

    /// Optional extensions may follow; a mandatory one (`m=`) would have come first and was refused.
    fn extensions(&mut self) -> Result<(), WireError> {
        while !self.0.is_empty() {
            self.take("SCRAM extension")?;
        }
        Ok(())
    }
}

fn split<'a>(text: &'a [u8], field: &'static str) -> Result<(&'a [u8], &'a [u8]), WireError> {
    let comma = text.iter().position(|&byte| byte == b',').ok_or(invalid(field))?;
    let (before, after) = text.split_at(comma);
    Ok((before, after.get(1..).unwrap_or_default()))
}

/// A nonce is any printable ASCII but the comma; drivers do use all of it (tokio-postgres, sqlx).
fn printable(nonce: &[u8], field: &'static str) -> Result<(), WireError> {
    if !nonce.is_empty() && nonce.iter().all(u8::is_ascii_graphic) { Ok(()) } else { Err(invalid(field)) }
}

fn base64(text: &[u8], field: &'static str) -> Result<Vec<u8>, WireError> {
    STANDARD.decode(text).map_err(|_| invalid(field))
}

fn number(text: &[u8]) -> Result<u32, WireError> {
    std::str::from_utf8(text)
        .ok()
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| digits.parse().ok())
        .ok_or(invalid("SCRAM iteration count"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_conversation_of_rfc_7677() {
        let first = ClientFirst::decode(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO").unwrap();
        assert_eq!(
            (first.flag, first.user, first.bare),
            (Gs2Flag::No, &b"user"[..], &b"n=user,r=rOprNGfwEbeRWgbNEkqO"[..])
        );
        let text = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let challenge = ServerFirst::decode(text).unwrap();
        assert_eq!((challenge.salt.len(), challenge.iterations), (16, 4096));
        let text = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        let proof = ClientFinal::decode(text).unwrap();
        assert_eq!((proof.binding.as_slice(), proof.proof.len()), (&b"n,,"[..], 32));
        assert!(text.starts_with(proof.without_proof));
        let last = ServerFinal::decode(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").unwrap();
        assert!(matches!(last, ServerFinal::Signature(signature) if signature.len() == 32));
    }

    #[test]
    fn every_gs2_flag_is_read() {
        let rows: [(&[u8], Gs2Flag); 3] = [
            (b"n,,n=,r=a", Gs2Flag::No),
            (b"y,,n=*,r=a", Gs2Flag::Yes),
            (b"p=tls-server-end-point,,n=,r=a", Gs2Flag::Bind(b"tls-server-end-point")),
        ];
        for (text, flag) in rows {
            assert_eq!(ClientFirst::decode(text).unwrap().flag, flag);
        }
    }

    #[test]
    fn malformed_messages_name_the_field() {
        let field = |text: &[u8]| ClientFirst::decode(text).map(|_| ()).map_err(|error| error.field);
        assert_eq!(field(b""), Err("gs2 channel-binding flag"));
        assert_eq!(field(b"x,,n=,r=a"), Err("gs2 channel-binding flag"));
        assert_eq!(field(b"n,b=x,n=,r=a"), Err("gs2 authorization identity"));
        assert_eq!(field(b"n,,m=x,n=,r=a"), Err("SCRAM user name"));
        assert_eq!(field(b"n,,n=,r=\x01"), Err("SCRAM client nonce"));
        assert!(ServerFirst::decode(b"r=a,s=!,i=1").is_err());
        assert!(ServerFirst::decode(b"r=a,s=QQ==,i=+1").is_err());
        assert!(ClientFinal::decode(b"c=biws,r=a").is_err());
    }

    #[test]
    fn oauth_shows_the_length_of_its_token_only() {
        assert_eq!(OauthInitial::decode(b"n,,\x01auth=\x01\x01").unwrap().token_length, 0);
        assert_eq!(OauthInitial::decode(b"n,,\x01auth=Bearer abcd\x01\x01").unwrap().token_length, 4);
        assert!(OauthInitial::decode(b"n,,\x01host=x\x01\x01").is_err());
    }
}
