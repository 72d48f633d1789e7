//! Cloud access tokens that travel as cleartext passwords: recognised by shape, read for their
//! claims, never checked and never shown.
//!
//! Sources: RFC 7519 (JWT), AWS Signature Version 4 query parameters (RDS IAM authentication
//! tokens), Microsoft's and Google's documents on database access tokens.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde_json::Value;

use super::mutate;
use crate::secret::Secret;

/// Who issues tokens of this shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// Microsoft Entra ID (Azure Database for PostgreSQL).
    AzureEntra,
    /// Google OAuth access token, `ya29.…`: opaque, it has no claims to read.
    GoogleOauth,
    /// AWS RDS IAM authentication token, `host:port/?Action=connect&…`.
    AwsRdsIam,
    /// Another JSON Web Token.
    Jwt,
}

/// What is wrong with the form in which a token was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenDefect {
    /// Its end is missing.
    Truncated,
    /// It was percent-encoded (again).
    Encoded,
    /// Its own percent-encoding was taken off.
    Decoded,
    /// Quotes stand around it.
    Quoted,
    /// It is still inside the JSON answer of the token service.
    JsonWrapped,
    /// `Bearer ` stands before it.
    BearerPrefix,
    /// Blanks or a line end stand around it.
    BlankAround,
}

/// What a token says of itself. No text of the token is in here but these claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenClaims {
    /// Who issues tokens of this shape.
    pub kind: TokenKind,
    /// `iat` or `X-Amz-Date`, Unix seconds.
    pub issued_at: Option<i64>,
    /// `nbf`, Unix seconds.
    pub not_before: Option<i64>,
    /// `exp`, or `X-Amz-Date` and `X-Amz-Expires`; Unix seconds.
    pub expires_at: Option<i64>,
    /// `aud`.
    pub audience: Option<String>,
    /// `iss`.
    pub issuer: Option<String>,
    /// Every name it gives its bearer: `upn`, `preferred_username`, `oid`…, `DBUser`.
    pub users: Vec<String>,
    /// The server it was made for (AWS).
    pub host: Option<String>,
    /// The port it was made for (AWS).
    pub port: Option<u16>,
    /// What is wrong with its form.
    pub defects: Vec<TokenDefect>,
}

/// Why a token can't be valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenVerdict {
    /// A variant id of the cause `cloud_token_invalid`.
    pub variant: &'static str,
    /// The claim that shows it; no text of the token.
    pub evidence: String,
    /// False where the claim allows for another reading: a group's name as the role in Azure, an
    /// alias of the host, a clock that differs.
    pub certain: bool,
}

/// Longer passwords are not examined: PostgreSQL reads at most 65,535 bytes (`PG_MAX_AUTH_TOKEN_LENGTH`).
const MAX_TOKEN: usize = 65_535;
/// The audience that Azure Database for PostgreSQL accepts.
pub const AZURE_AUDIENCE: &str = "https://ossrdbms-aad.database.windows.net";
/// The same resource by its application id, as version 2 tokens name it.
pub const AZURE_AUDIENCE_ID: &str = "123cd850-d9df-40bd-94d5-c9f07b7fa203";
/// A difference of clocks that says nothing yet (AWS and Entra both allow five minutes).
const CLOCK_SKEW_S: i64 = 300;
/// Layers of wrapping (JSON, quotes, Bearer, percent) that are taken off; real mistakes have one or two.
const MAX_LAYERS: usize = 6;

/// Recognises a token in a cleartext password and reads its claims; `None` when it looks like none.
pub fn read(sent: &[u8]) -> Option<TokenClaims> {
    if sent.len() > MAX_TOKEN {
        return None;
    }
    let mut text = Secret::new(std::str::from_utf8(sent).ok()?.to_owned());
    let mut defects = Vec::new();
    for _ in 0..MAX_LAYERS {
        let Some((inner, defect)) = unwrap(text.expose()) else { break };
        text = Secret::new(inner);
        if !defects.contains(&defect) {
            defects.push(defect);
        }
    }
    let token = text.expose();
    let mut claims = read_jwt(token).or_else(|| read_google(token)).or_else(|| read_aws(token))?;
    defects.append(&mut claims.defects);
    claims.defects = defects;
    Some(claims)
}

/// Takes one layer off, if there is one.
fn unwrap(text: &str) -> Option<(String, TokenDefect)> {
    let trimmed = text.trim_matches([' ', '\t', '\r', '\n', '\u{feff}']);
    if trimmed.len() != text.len() {
        return Some((trimmed.to_owned(), TokenDefect::BlankAround));
    }
    if text.starts_with('{') {
        return from_json(text).map(|inner| (inner, TokenDefect::JsonWrapped));
    }
    if let Some(inner) =
        text.get(..7).filter(|head| head.eq_ignore_ascii_case("bearer ")).and_then(|_| text.get(7..))
    {
        return Some((inner.to_owned(), TokenDefect::BearerPrefix));
    }
    for quote in ['"', '\'', '`'] {
        if text.len() > 1 && (text.starts_with(quote) || text.ends_with(quote)) {
            return Some((text.trim_matches(quote).to_owned(), TokenDefect::Quoted));
        }
    }
    let lower = text.to_ascii_lowercase();
    let encoded_aws = lower.contains("action%3dconnect");
    let encoded_bearer = ["bearer%20", "%22eyj", "%7b%22"].iter().any(|head| lower.starts_with(head));
    if encoded_aws || encoded_bearer || (lower.starts_with("eyj") && lower.contains("%2e")) {
        let inner = String::from_utf8(mutate::percent_decode(text.as_bytes())).ok()?;
        return Some((inner, TokenDefect::Encoded));
    }
    None
}

/// The token in what `az account get-access-token` (`accessToken`) or an OAuth server (`access_token`) prints.
fn from_json(text: &str) -> Option<String> {
    let value: Value = serde_json::from_str(text).ok()?;
    let names = ["accessToken", "access_token", "token", "id_token"];
    names.iter().find_map(|name| value.get(name)?.as_str().map(str::to_owned))
}

fn blank(kind: TokenKind) -> TokenClaims {
    TokenClaims {
        kind,
        issued_at: None,
        not_before: None,
        expires_at: None,
        audience: None,
        issuer: None,
        users: Vec::new(),
        host: None,
        port: None,
        defects: Vec::new(),
    }
}

/// RFC 7519 in the compact form of RFC 7515: three parts of base64url, the first a JSON object.
fn read_jwt(token: &str) -> Option<TokenClaims> {
    if !token.starts_with("eyJ") || token.len() < 20 {
        return None;
    }
    let mut parts = token.split('.');
    let header = json_part(parts.next()?);
    let payload = parts.next().and_then(json_part);
    let signature = parts.next();
    let mut claims = blank(TokenKind::Jwt);
    // An RSA signature is 256 bytes or more, that of ES256 is 64, that of HS256 32.
    let shortest = match header.as_ref().and_then(|h| h.get("alg")).and_then(Value::as_str) {
        Some("RS256" | "RS384" | "RS512" | "PS256" | "PS384" | "PS512") => 342,
        Some("ES256") => 86,
        Some("none") => 0,
        _ => 43,
    };
    let whole = payload.is_some() && signature.is_some_and(|s| s.len() >= shortest);
    if !whole {
        // "eyJ" alone may begin anybody's password: without a header it is no token.
        header.as_ref()?;
        claims.defects.push(TokenDefect::Truncated);
    }
    let Some(payload) = payload else { return Some(claims) };
    let text = |name: &str| payload.get(name).and_then(Value::as_str).map(str::to_owned);
    claims.issued_at = seconds(&payload, "iat");
    claims.not_before = seconds(&payload, "nbf");
    claims.expires_at = seconds(&payload, "exp");
    claims.issuer = text("iss");
    claims.audience = match payload.get("aud") {
        Some(Value::Array(list)) => list.first().and_then(Value::as_str).map(str::to_owned),
        _ => text("aud"),
    };
    for name in ["upn", "unique_name", "preferred_username", "email", "sub", "oid", "appid", "azp"] {
        if let Some(user) = text(name).filter(|user| !claims.users.contains(user)) {
            claims.users.push(user);
        }
    }
    let issuer = claims.issuer.as_deref().unwrap_or_default();
    let azure = ["sts.windows.net", "login.microsoftonline.", "sts.chinacloudapi.cn"];
    if azure.iter().any(|host| issuer.contains(host))
        || claims.audience.as_deref().is_some_and(is_azure_audience)
    {
        claims.kind = TokenKind::AzureEntra;
    }
    Some(claims)
}

fn json_part(part: &str) -> Option<Value> {
    let bytes = Secret::new(BASE64URL.decode(part.trim_end_matches('=')).ok()?);
    serde_json::from_slice::<Value>(bytes.expose()).ok().filter(Value::is_object)
}

/// A NumericDate (RFC 7519 section 2), which may have a fraction.
fn seconds(payload: &Value, name: &str) -> Option<i64> {
    let value = payload.get(name)?;
    #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates, which is right for a date")]
    value.as_i64().or_else(|| value.as_f64().map(|float| float as i64))
}

fn read_google(token: &str) -> Option<TokenClaims> {
    token.strip_prefix("ya29.").filter(|rest| rest.len() >= 20).map(|_| blank(TokenKind::GoogleOauth))
}

/// `host:port/?Action=connect&DBUser=…&X-Amz-Algorithm=…&X-Amz-Date=…&X-Amz-Expires=900&…&X-Amz-Signature=…`
fn read_aws(token: &str) -> Option<TokenClaims> {
    let (address, query) = token.split_once("/?")?;
    let address = address.strip_prefix("https://").unwrap_or(address);
    let pairs: Vec<(&str, &str)> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let raw =
        |name: &str| pairs.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| *value);
    raw("Action").filter(|action| action.eq_ignore_ascii_case("connect"))?;
    let decoded = |name: &str| String::from_utf8(mutate::percent_decode(raw(name)?.as_bytes())).ok();
    let mut claims = blank(TokenKind::AwsRdsIam);
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    claims.host = Some(host.to_owned()).filter(|host| !host.is_empty());
    claims.port = port.parse().ok();
    claims.users.extend(decoded("DBUser"));
    claims.issued_at = raw("X-Amz-Date").and_then(amz_date);
    let lifetime = raw("X-Amz-Expires").and_then(|text| text.parse::<u32>().ok());
    claims.expires_at = claims.issued_at.zip(lifetime).map(|(at, lifetime)| at + i64::from(lifetime));
    if raw("X-Amz-Signature").is_none_or(|signature| signature.len() < 64) {
        claims.defects.push(TokenDefect::Truncated);
    }
    if raw("X-Amz-Credential").is_some_and(|credential| credential.contains('/')) {
        claims.defects.push(TokenDefect::Decoded);
    }
    Some(claims)
}

/// `20260131T235959Z` as Unix seconds.
fn amz_date(text: &str) -> Option<i64> {
    let digits = text.strip_suffix('Z')?.replacen('T', "", 1);
    if digits.len() != 14 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number = |from: usize, to: usize| digits[from..to].parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since 1970-01-01 in the proleptic Gregorian calendar, years counted from March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day
        - 1
        - 719_468;
    Some(days * 86_400 + number(8, 10)? * 3600 + number(10, 12)? * 60 + number(12, 14)?)
}

fn is_azure_audience(audience: &str) -> bool {
    audience.trim_end_matches('/').eq_ignore_ascii_case(AZURE_AUDIENCE)
        || audience.eq_ignore_ascii_case(AZURE_AUDIENCE_ID)
}

/// What in these claims makes the login fail, the most certain first; `None` when nothing does.
///
/// `now_unix` is the time of the login; `server_host` and `server_port` the name and port by which the server was
/// reached.
pub fn verdict(
    claims: &TokenClaims,
    now_unix: i64,
    startup_user: &str,
    server_host: Option<&str>,
    server_port: Option<u16>,
) -> Option<TokenVerdict> {
    form_verdict(claims)
        .or_else(|| time_verdict(claims, now_unix))
        .or_else(|| audience_verdict(claims))
        .or_else(|| user_verdict(claims, startup_user))
        .or_else(|| host_verdict(claims, server_host?, server_port))
}

fn found(variant: &'static str, certain: bool, evidence: impl Into<String>) -> Option<TokenVerdict> {
    Some(TokenVerdict { variant, evidence: evidence.into(), certain })
}

fn form_verdict(claims: &TokenClaims) -> Option<TokenVerdict> {
    let defect = *claims.defects.first()?;
    match defect {
        TokenDefect::Truncated => found("truncated", true, "the token ends before its signature does"),
        TokenDefect::Encoded => found("encoded", true, "the token was percent-encoded once more"),
        TokenDefect::Decoded => {
            found("encoded", false, "the percent-encoding inside the token was taken off")
        }
        TokenDefect::Quoted => found("encoded", true, "quotes were sent around the token"),
        TokenDefect::JsonWrapped => found("encoded", true, "the JSON around the token was sent with it"),
        TokenDefect::BearerPrefix => found("encoded", true, "\"Bearer \" was sent before the token"),
        TokenDefect::BlankAround => found("encoded", true, "blanks or a line end were sent around the token"),
    }
}

fn time_verdict(claims: &TokenClaims, now_unix: i64) -> Option<TokenVerdict> {
    let late = claims.expires_at.map(|at| now_unix.saturating_sub(at)).filter(|late| *late > 0);
    if let Some(late) = late {
        return found("expired", late > CLOCK_SKEW_S, format!("the token expired {late} s before the login"));
    }
    let starts = claims.not_before.into_iter().chain(claims.issued_at).max()?;
    let early = starts.saturating_sub(now_unix);
    if early <= CLOCK_SKEW_S {
        return None;
    }
    found(
        "expired",
        false,
        format!("the token is not valid for another {early} s: one of the clocks is wrong"),
    )
}

fn audience_verdict(claims: &TokenClaims) -> Option<TokenVerdict> {
    let audience = claims.audience.as_deref().filter(|_| claims.kind == TokenKind::AzureEntra)?;
    // Sovereign clouds have their own name for the same resource.
    if is_azure_audience(audience) || audience.contains("ossrdbms-aad.database.") {
        return None;
    }
    let shown = audience.escape_debug();
    found("wrong_audience", true, format!("the token was issued for {shown}, not for {AZURE_AUDIENCE}"))
}

fn user_verdict(claims: &TokenClaims, startup_user: &str) -> Option<TokenVerdict> {
    if claims.users.is_empty() || claims.users.iter().any(|user| user == startup_user) {
        return None;
    }
    let (shown, asked) = (claims.users[0].escape_debug(), startup_user.escape_debug());
    let same = claims.users.iter().any(|user| user.to_lowercase() == startup_user.to_lowercase());
    match claims.kind {
        _ if same => {
            found("wrong_user", true, format!("the token's {shown} and the login's {asked} differ in case"))
        }
        TokenKind::AwsRdsIam => {
            found("wrong_user", true, format!("the token is for {shown}, the login for {asked}"))
        }
        // A role may stand for a group, or for a principal under a name of its own.
        TokenKind::AzureEntra => {
            found("wrong_user", false, format!("the token is for {shown}, the login for {asked}"))
        }
        TokenKind::GoogleOauth | TokenKind::Jwt => None,
    }
}

fn host_verdict(claims: &TokenClaims, server_host: &str, server_port: Option<u16>) -> Option<TokenVerdict> {
    let host = claims.host.as_deref()?;
    let plain = |name: &str| name.trim_end_matches('.').to_ascii_lowercase();
    if plain(host) == plain(server_host) {
        // The signature is over the port, too.
        let (token, server) = claims.port.zip(server_port).filter(|(token, server)| token != server)?;
        return found(
            "wrong_host",
            false,
            format!("the token is for port {token}, the server's is {server}"),
        );
    }
    // Through an alias or a tunnel the server has another name here than AWS checks.
    let certain = plain(server_host).contains(".rds.amazonaws.com");
    let (host, server) = (host.escape_debug(), server_host.escape_debug());
    found("wrong_host", certain, format!("the token is for {host}, the server is {server}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_790_000_000;

    fn jwt(payload: &str) -> String {
        let part = |text: &str| BASE64URL.encode(text);
        format!("{}.{}.{}", part(r#"{"typ":"JWT","alg":"RS256"}"#), part(payload), "S".repeat(342))
    }

    fn azure(changes: &str) -> String {
        let plain = format!(
            r#"{{"aud":"{AZURE_AUDIENCE}","iss":"https://sts.windows.net/t/","iat":{},"nbf":{},"exp":{},"upn":"ann@corp.example","oid":"o-1"{changes}}}"#,
            NOW - 60,
            NOW - 60,
            NOW + 3600
        );
        jwt(&plain)
    }

    fn aws(date: &str) -> String {
        let signature = "0a".repeat(32);
        format!(
            "db.abc.eu-west-1.rds.amazonaws.com:5432/?Action=connect&DBUser=iam_app&X-Amz-Algorithm=AWS4-HMAC-SHA256\
             &X-Amz-Credential=AKIAEXAMPLE%2F20260921%2Feu-west-1%2Frds-db%2Faws4_request&X-Amz-Date={date}\
             &X-Amz-Expires=900&X-Amz-SignedHeaders=host&X-Amz-Signature={signature}"
        )
    }

    #[track_caller]
    fn check(sent: &str, user: &str, host: Option<&str>, claim: Option<(&str, bool)>) {
        let claims = read(sent.as_bytes()).unwrap();
        let verdict = verdict(&claims, NOW, user, host, Some(5432));
        assert_eq!(verdict.as_ref().map(|v| (v.variant, v.certain)), claim, "{claims:?}");
        let shown = format!("{claims:?}{verdict:?}");
        assert!(!shown.contains("SSSS") && !shown.contains("0a0a") && !shown.contains("AKIA"), "{shown}");
    }

    #[test]
    fn azure_tokens() {
        let user = "ann@corp.example";
        check(&azure(""), user, None, None);
        check(&azure(""), "o-1", None, None);
        check(&azure(""), "Ann@corp.example", None, Some(("wrong_user", true)));
        check(&azure(""), "db-admins", None, Some(("wrong_user", false)));
        check(&azure(&format!(r#","exp":{}"#, NOW - 4000)), user, None, Some(("expired", true)));
        check(&azure(&format!(r#","exp":{}"#, NOW - 4)), user, None, Some(("expired", false)));
        check(
            &azure(r#","aud":"https://management.azure.com/""#),
            user,
            None,
            Some(("wrong_audience", true)),
        );
        check(&azure(&format!(r#","aud":"{AZURE_AUDIENCE_ID}""#)), user, None, None);
        check(&azure("").replace(&"S".repeat(342), "S"), user, None, Some(("truncated", true)));
        check(&azure("")[..60], user, None, Some(("truncated", true)));
        check(&format!("\"{}\"", azure("")), user, None, Some(("encoded", true)));
        check(&format!("Bearer {}", azure("")), user, None, Some(("encoded", true)));
        check(&format!("{}\n", azure("")), user, None, Some(("encoded", true)));
        check(
            &format!(r#"{{"accessToken":"{}","tokenType":"Bearer"}}"#, azure("")),
            user,
            None,
            Some(("encoded", true)),
        );
    }

    #[test]
    fn aws_tokens() {
        let date = "20260921T131300Z";
        assert_eq!(amz_date("20260921T141320Z"), Some(NOW));
        assert_eq!(amz_date("19700101T000000Z"), Some(0));
        assert_eq!(amz_date("20240229T000000Z"), Some(1_709_164_800));
        let fresh = "20260921T141000Z";
        let host = Some("DB.abc.eu-west-1.rds.amazonaws.com");
        check(&aws(fresh), "iam_app", host, None);
        check(&aws(date), "iam_app", host, Some(("expired", true)));
        check(&aws("20260921T151300Z"), "iam_app", host, Some(("expired", false)));
        check(&aws(fresh), "postgres", host, Some(("wrong_user", true)));
        check(&aws(fresh), "iam_app", Some("ro.abc.eu-west-1.rds.amazonaws.com"), Some(("wrong_host", true)));
        check(&aws(fresh), "iam_app", Some("localhost"), Some(("wrong_host", false)));
        let other_port = aws(fresh).replace(":5432", ":5433");
        check(&other_port, "iam_app", host, Some(("wrong_host", false)));
        check(&aws(fresh)[..255], "iam_app", host, Some(("truncated", true)));
        check(&aws(fresh).replace("%2F", "/"), "iam_app", host, Some(("encoded", false)));
        let encoded = percent_encoding::utf8_percent_encode(&aws(fresh), percent_encoding::NON_ALPHANUMERIC)
            .to_string();
        check(&encoded, "iam_app", host, Some(("encoded", true)));
    }

    #[test]
    fn what_is_no_token() {
        for sent in [
            "",
            "secret",
            "eyJhbGciOi",
            "eyJ-is-how-my-password-begins",
            "ya29.x",
            "host:5432/?a=b",
            "{\"a\":1}",
        ] {
            assert_eq!(read(sent.as_bytes()), None, "{sent}");
        }
        assert_eq!(read(b"ya29.a0AfH6SMBxxxxxxxxxxxxxxxxxx").unwrap().kind, TokenKind::GoogleOauth);
        assert_eq!(read(&[0xff; 40]), None);
    }
}
